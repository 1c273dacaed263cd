//! Each of four MPIs, by its own `mpirun` and by direct launch: the whole world, each rank on its own core, nothing left.
//!
//! `MUSTER_TEST_TABLE=all` runs all shapes, on 16 nodes; without it a few on 4 nodes.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use muster_client::api::JobDetail;
use muster_cluster_tests::site::repository;

use crate::support::{Bench, chain, json_in, numbers};

/// An MPI as a job's script loads it.
struct Mpi {
    name: &'static str,
    /// What its library calls itself.
    library: &'static str,
    /// Which programs run with it: both Open MPIs have one binary interface, and MPICH and Intel MPI another.
    family: &'static str,
    /// What a site's module would set; `$MPIS` has the prefixes that `.ci/mpis.sh` made.
    load: &'static str,
}

const MPIS: [Mpi; 4] = [
    Mpi { name: "openmpi4", library: "Open MPI v4.1", family: "ompi", load: "" },
    Mpi {
        name: "openmpi5",
        library: "Open MPI v5.",
        family: "ompi",
        load: "PATH=$MPIS/openmpi/bin:$PATH; export LD_LIBRARY_PATH=$MPIS/openmpi/lib",
    },
    Mpi { name: "mpich", library: "MPICH Version", family: "mpich", load: "PATH=$MPICH_HOME/bin:$PATH" },
    Mpi {
        name: "intel",
        library: "Intel(R) MPI",
        family: "mpich",
        load: "PATH=$MPIS/impi-rt/bin:$PATH; export I_MPI_ROOT=$MPIS/impi-rt LD_LIBRARY_PATH=$MPIS/impi-rt/lib",
    },
];

/// How a program is started: the name of the way, and its command.
const WAYS: [(&str, &str); 2] = [("mpirun", "mpirun"), ("direct", "muster run")];

/// For how long one launch may take, in seconds; the ranks of the largest spin on two cores.
const LAUNCH_WITHIN_S: u32 = 180;

/// For how long a test waits for all launches of a shape.
const SHAPE_WITHIN: Duration = Duration::from_secs(1800);

/// Where `.ci/mpis.sh` has put the MPIs.
fn prefixes() -> PathBuf {
    let found = Command::new(repository().join(".ci/mpis.sh")).arg("--where").output().unwrap();
    assert!(found.status.success(), "MPIs are missing: run .ci/mpis.sh as root");
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim())
}

/// The MPIs that there are on this machine: Intel's is made for one kind of processor.
fn present() -> impl Iterator<Item = &'static Mpi> {
    let all = prefixes();
    MPIS.iter().filter(move |mpi| mpi.name != "intel" || all.join("impi-rt").exists())
}

/// A job's script: `body` once for each MPI, in a shell of its own in which the MPI is loaded and `$MPI` is its name.
fn for_each_mpi(bench: &Bench, body: &str) -> String {
    let mut script =
        format!("PATH=\"{}:$PATH\"\nMPIS=\"{}\"\n", bench.site.staged.bin.display(), prefixes().display());
    for mpi in present() {
        let Mpi { name, family, load, .. } = mpi;
        let programs = format!("$MUSTER_MPI_TASKS/{family}");
        script += &format!("(\nMPI={name}\nPROGRAMS=\"{programs}\"\n{load}\n{body}\n)\n");
    }
    script
}

/// Starts the program by all MPIs and ways in one job of this shape, checks what it reports, and prints the
/// seconds that each launch took.
fn run_shape(bench: &Bench, nodes: u32, ranks_per_node: u32) {
    let world = nodes * ranks_per_node;
    let body: String = WAYS
        .iter()
        .map(|(way, command)| {
            format!(
                "begin=$EPOCHREALTIME\n\
                 timeout {LAUNCH_WITHIN_S} {command} \"$PROGRAMS/rank-report\" --json --expect-ranks {world} \
                 >$MPI.{way}.json 2>$MPI.{way}.err </dev/null\n\
                 echo \"$MPI {way} $? $begin $EPOCHREALTIME\"\n"
            )
        })
        .collect();
    let (n, r) = (nodes.to_string(), ranks_per_node.to_string());
    let job = bench.submit(&["-N", &n, "--ntasks-per-node", &r, "-t30"], &for_each_mpi(bench, &body));
    bench.site.wait(job, SHAPE_WITHIN).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let detail = bench.complete(job);
    let said = bench.output(&detail);
    for mpi in present() {
        for (way, _) in WAYS {
            let title = format!("{} {way} on {nodes} nodes with {ranks_per_node} ranks each", mpi.name);
            let of = |end: &str| {
                let file = bench.work.join(format!("{}.{way}.{end}", mpi.name));
                std::fs::read_to_string(file).unwrap_or_default()
            };
            let line = said.lines().find(|line| line.starts_with(&format!("{} {way} ", mpi.name)));
            let words: Vec<&str> = line.unwrap_or_default().split(' ').collect();
            assert_eq!(words.get(2), Some(&"0"), "{title}: {said}\n{}{}", of("json"), of("err"));
            let instant = |word: usize| words[word].parse::<f64>().unwrap();
            println!("{title:55} {:7.2} s", instant(4) - instant(3));
            check(&title, &detail, &json_in(&of("json")), mpi, ranks_per_node);
        }
    }
    bench.await_clean(&hosts(nodes).iter().map(String::as_str).collect::<Vec<_>>());
}

fn hosts(nodes: u32) -> Vec<String> {
    (1..=nodes).map(|node| format!("node{node:02}")).collect()
}

/// The library is the one that was loaded, the world is whole, and each rank is where the allocation has a place for it.
fn check(title: &str, detail: &JobDetail, report: &serde_json::Value, mpi: &Mpi, ranks_per_node: u32) {
    let library = report["mpi_library"].as_str().unwrap_or_default();
    assert!(library.starts_with(mpi.library), "{title} used {library}");
    let ranks = report["rank"].as_array().unwrap();
    let shares = &detail.task_list[0].shares;
    assert_eq!(ranks.len(), shares.len() * ranks_per_node as usize, "{title}: {report}");
    let real = std::thread::available_parallelism().map_or(1, usize::from);
    for share in shares {
        let here: Vec<_> = ranks.iter().filter(|rank| rank["host"] == share.node.as_str()).collect();
        assert_eq!(here.len(), ranks_per_node as usize, "{title}: ranks on {}: {report}", share.node);
        let cores = numbers(&share.cores);
        // Where a node has more cores than the machine, ranks may run on all of them, and some are told which are theirs.
        let key = if cores.len() > real { "muster_rank_cores" } else { "cpus" };
        let mut places: Vec<u32> =
            here.iter().filter_map(|rank| rank[key].as_str()).flat_map(numbers).collect();
        let found = places.len();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), found, "{title}: two ranks share a core of {}: {report}", share.node);
        assert!(places.iter().all(|core| cores.contains(core)), "{title}: outside {}: {report}", share.cores);
        assert!(found == here.len() || (found == 0 && cores.len() > real), "{title}: {report}");
    }
}

/// What the options of each family do to the ranks of an allocation of 2 nodes with 2 each: options, ranks on the first
/// node and on the second, CPUs of each rank.
const OPEN_MPI_OPTIONS: [(&str, u32, u32, u32); 5] = [
    ("-np 3", 2, 1, 0),
    ("-np 2 --map-by node", 1, 1, 2),
    ("-np 2 --map-by ppr:1:node", 1, 1, 2),
    ("-np 2 --host node02", 0, 2, 1),
    ("-np 2 --bind-to core", 2, 0, 1),
];
const HYDRA_OPTIONS: [(&str, u32, u32, u32); 4] = [
    ("-n 3", 2, 1, 0),
    ("-n 2 -ppn 1", 1, 1, 0),
    ("-hosts node02 -n 2", 0, 2, 1),
    ("-hosts localhost -n 2", 2, 0, 1),
];

#[test]
fn four_mpis_are_one_world_by_mpirun_and_directly_and_their_options_work_within_the_allocation() {
    let Some(bench) = Bench::up("mt", if whole_table() { 16 } else { 2 }, 2) else { return };
    let shapes: &[(u32, u32)] = match whole_table() {
        true => &[(1, 1), (2, 1), (4, 1), (16, 1), (1, 2), (2, 2), (4, 2), (16, 2)],
        false => &[(1, 1), (2, 2)],
    };
    for (nodes, ranks_per_node) in shapes {
        run_shape(&bench, *nodes, *ranks_per_node);
    }
    options_work_within_the_allocation(&bench);
    what_cannot_work_is_refused_in_one_sentence(&bench);
}

#[test]
fn four_mpis_are_one_world_where_eight_ranks_of_each_node_share_the_cores_of_the_machine() {
    let nodes: &[u32] = if whole_table() { &[1, 2, 4, 16] } else { &[1] };
    let Some(bench) = Bench::up("mu", nodes[nodes.len() - 1] as usize, 8) else { return };
    for nodes in nodes {
        run_shape(&bench, *nodes, 8);
    }
}

/// Whether all shapes are run.
fn whole_table() -> bool {
    std::env::var("MUSTER_TEST_TABLE").is_ok_and(|value| value == "all")
}

fn options_work_within_the_allocation(bench: &Bench) {
    bench.write("where.sh", "echo $(hostname) $(grep Cpus_allowed_list /proc/self/status)\n");
    let mut script = String::new();
    for (family, options) in [("openmpi", &OPEN_MPI_OPTIONS[..]), ("", &HYDRA_OPTIONS[..])] {
        let lines: String = options
            .iter()
            .map(|(option, ..)| {
                format!("echo \"= $MPI {option}\"\nmpirun {option} sh where.sh </dev/null 2>&1\n")
            })
            .collect();
        let test = if family.is_empty() { "!=" } else { "=" };
        script += &format!("if [ \"${{MPI%[45]}}\" {test} openmpi ]; then\n{lines}fi\n");
    }
    let job = bench.submit(&["-N2", "--ntasks-per-node=2", "-t3"], &for_each_mpi(bench, &script));
    let output = bench.output(&bench.complete(job));
    for mpi in present() {
        let options = if mpi.family == "ompi" { &OPEN_MPI_OPTIONS[..] } else { &HYDRA_OPTIONS[..] };
        for (option, first, second, cpus) in options {
            let title = format!("= {} {option}\n", mpi.name);
            let part = output.split(&title).nth(1).unwrap_or_else(|| panic!("no {title} in {output}"));
            let part = part.split("\n= ").next().unwrap_or_default();
            let lines: Vec<&str> = part.lines().filter(|line| line.contains("Cpus_allowed_list")).collect();
            let on = |node: &str| lines.iter().filter(|line| line.starts_with(node)).count() as u32;
            assert_eq!((on("node01"), on("node02")), (*first, *second), "{title}{part}");
            for line in lines {
                let bound = numbers(line.split_whitespace().last().unwrap_or_default()).len() as u32;
                assert!(*cpus == 0 || bound == *cpus, "{title}{part}");
            }
        }
    }
}

fn what_cannot_work_is_refused_in_one_sentence(bench: &Bench) {
    let body = r#"
try() { echo "= $*"; timeout 60 "$@" </dev/null 2>&1; echo "rc $?"; }
try mpirun -n 5 hostname
case $MPI in openmpi*) other=mpich ;; *) other=ompi ;; esac
try mpirun "$MUSTER_MPI_TASKS/$other/rank-report"
case $MPI in openmpi*) wrong=pmi2 ;; *) wrong=pmix ;; esac
try muster run --mpi=$wrong "$PROGRAMS/rank-report"
echo "end of $MPI"
"#;
    let job = bench.submit(&["-N2", "--ntasks-per-node=2", "-t3"], &for_each_mpi(bench, body));
    let output = bench.output(&bench.complete(job));
    let mut rest = output.as_str();
    for mpi in present() {
        let (part, after) = rest.split_once(&format!("end of {}\n", mpi.name)).unwrap();
        rest = after;
        for sentence in [
            "5 ranks are asked for, and the allocation has 4 on 2 nodes: ",
            "and each rank would be alone: start it with ",
            " cannot start: leave --mpi out, or say --mpi=",
        ] {
            assert_eq!(part.matches(sentence).count(), 1, "{}: {sentence:?} in {part}", mpi.name);
        }
        assert!(!part.contains("rc 0") && !part.contains("passed"), "{}: {part}", mpi.name);
    }
}
