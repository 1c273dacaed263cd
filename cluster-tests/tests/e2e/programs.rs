//! Programs of others from Debian's packages, unmodified: mpi4py, HPCC and LAMMPS give the same answers on two nodes, by
//! `mpirun` and directly, as when plain `mpirun` starts them on one host without Muster.

use std::path::Path;
use std::process::Command;

use crate::support::{ANN, Bench};

/// 500 atoms of a melting crystal.
const LAMMPS_INPUT: &str = "units lj
atom_style atomic
lattice fcc 0.8442
region box block 0 5 0 5 0 5
create_box 1 box
create_atoms 1 box
mass 1 1.0
velocity all create 3.0 87287 loop geom
pair_style lj/cut 2.5
pair_coeff 1 1 1.0 1.0 2.5
neighbor 0.3 bin
neigh_modify every 20 delay 0 check no
fix 1 all nve
thermo 50
run 200
";

/// HPCC's example of an input, made small.
const HPCC_INPUT: &str = include_str!("../../programs/hpccinf.txt");

/// Each rank integrates its part of the circle, and all must see the sum; the last digit depends on the order.
const MPI4PY_PROGRAM: &str = "from mpi4py import MPI
world = MPI.COMM_WORLD
part = sum(4 / (1 + ((i + 0.5) / 100000) ** 2) for i in range(world.rank, 100000, world.size)) / 100000
parts = world.allgather(part)
everybody = world.gather(repr(sum(parts)), root=0)
if world.rank == 0:
    print('answer', world.size, sorted(set(everybody)))
";

/// A program: its name, its words, and the file that tells its answer, or none for its output.
const PROGRAMS: [(&str, &str, Option<&str>); 3] = [
    ("mpi4py", "/usr/bin/python3 $IN/pi.py", None),
    ("lammps", "lmp -in $IN/in.melt -log none", None),
    ("hpcc", "hpcc", Some("hpccoutf.txt")),
];

/// The lines of a program's output that are its answer, without times.
fn answer(name: &str, output: &str) -> Vec<String> {
    let mut lines = output.lines().map(str::trim);
    let kept: Vec<&str> = match name {
        "mpi4py" => lines.filter(|line| line.starts_with("answer ")).collect(),
        // The table of energies and pressures.
        "lammps" => {
            let table = lines.by_ref().skip_while(|line| !line.starts_with("Step ")).skip(1);
            table.take_while(|line| !line.starts_with("Loop time")).collect()
        }
        // Residuals, errors and verdicts; all else is speed.
        _ => {
            let known =
                ["CommWorldProcs=", "HPL_RnormI=", "HPL_Anorm1=", "HPL_N=", "PTRANS_residual=", "Success="];
            lines.filter(|line| known.iter().any(|key| line.starts_with(key))).collect()
        }
    };
    kept.into_iter().map(str::to_owned).collect()
}

#[test]
fn programs_of_others_give_the_same_answers_as_without_muster() {
    // More cores than the machine has, so that ranks which wait give the real ones away.
    let Some(bench) = Bench::up("mp", 2, 4) else { return };
    for program in ["/usr/bin/lmp", "/usr/bin/hpcc", "/usr/lib/python3/dist-packages/mpi4py"] {
        assert!(Path::new(program).exists(), "{program} is missing: run .ci/deps.sh");
    }
    bench.write("pi.py", MPI4PY_PROGRAM);
    bench.write("in.melt", LAMMPS_INPUT);
    bench.write("hpccinf.txt", HPCC_INPUT);
    // Each start has a folder of its own; four ranks share the cores of one host where there is no allocation.
    let start = |way: &str, launcher: &str| -> String {
        let one = |(name, words, file): &(&str, &str, Option<&str>)| {
            let keep = file.map(|file| format!("cat {file} >>out\n")).unwrap_or_default();
            format!(
                "mkdir {name}.{way} && cd {name}.{way} && cp $IN/hpccinf.txt .\n\
                 {launcher} {words} >out 2>err </dev/null || echo \"{name} {way} failed with $?\"\n{keep}cd ..\n"
            )
        };
        PROGRAMS.iter().map(one).collect()
    };
    let prologue = format!(
        "IN={}\nPATH={}:$PATH\nexport OMP_NUM_THREADS=1\n",
        bench.work.display(),
        bench.site.staged.bin.display()
    );
    let plain = "env OMPI_MCA_mpi_yield_when_idle=1 mpirun --oversubscribe --bind-to none -np 4";
    bench.write(
        "plain.sh",
        &format!("#!/bin/bash\nmkdir -p runs && cd runs\n{prologue}{}", start("plain", plain)),
    );
    let mut command: Command = bench.site.cluster.exec("head", Some(ANN)).unwrap();
    let script = "cd && cd work && bash plain.sh";
    let output = command.args(["/bin/bash", "-c", script]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    let body = format!("{prologue}cd runs\n{}{}", start("mpirun", "mpirun"), start("direct", "muster run"));
    let detail = bench.complete(bench.submit(&["-N2", "--ntasks-per-node=2", "-t3"], &body));
    assert_eq!(bench.output(&detail), "");
    for (name, ..) in PROGRAMS {
        let of = |way: &str| {
            let read = |file: &str| {
                std::fs::read_to_string(bench.work.join(format!("runs/{name}.{way}/{file}")))
                    .unwrap_or_default()
            };
            let found = answer(name, &read("out"));
            assert!(!found.is_empty(), "{name} {way}: {}{}", read("out"), read("err"));
            found
        };
        let expected = of("plain");
        assert_eq!(of("mpirun"), expected, "{name} by mpirun");
        assert_eq!(of("direct"), expected, "{name} by direct launch");
    }
    bench.await_clean(&["node01", "node02"]);
}
