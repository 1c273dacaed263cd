//! `muster migrate`: a configuration of Slurm's becomes one of ours, which is right.

use crate::common::{Ran, muster};

const SLURM_CONF: &str = "\
# A site of some years.
ClusterName=Frost
SlurmctldHost=head(10.0.0.1)
SlurmctldPort=6817
SlurmdTimeout=120
StateSaveLocation=/var/spool/slurmctld
MailProg=/usr/bin/s-nail
KillWait=30
MaxJobCount=50000
Prolog=/etc/slurm/prolog.sh
Licenses=matlab:10
TopologyPlugin=topology/tree
PriorityType=priority/multifactor
PriorityWeightFairshare=20000
PriorityWeightAge=1000
PriorityDecayHalfLife=14-0
HealthCheckProgram=/usr/sbin/nhc
HealthCheckInterval=120
NewKeyOfALaterVersion=1
NodeName=DEFAULT Sockets=2 CoresPerSocket=16 ThreadsPerCore=2 RealMemory=191000 \\
    Feature=intel,ib
NodeName=c[001-004] NodeAddr=10.0.1.[1-4]
NodeName=g[01-02] Gres=gpu:a100:4(S:0-1) Weight=10
NodeName=old1 CPUs=8 Sockets=1 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=1
NodeName=cloud[1-9] State=CLOUD
PartitionName=DEFAULT MaxTime=2-00:00:00 DefaultTime=60
PartitionName=batch Nodes=c[001-004],old1 Default=YES DefMemPerCPU=2000 MaxNodes=2
PartitionName=gpu Nodes=g[01-02] PriorityTier=10 PreemptMode=REQUEUE GraceTime=120
PartitionName=all Nodes=ALL MaxTime=INFINITE OverSubscribe=FORCE:2
";

const TOPOLOGY_CONF: &str = "\
SwitchName=leaf1 Nodes=c[001-004]
SwitchName=leaf2 Nodes=g[01-02],old1
SwitchName=top Switches=leaf[1-2]
";

#[test]
fn a_configuration_of_slurms_becomes_one_that_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("slurm.conf"), SLURM_CONF).unwrap();
    std::fs::write(file("topology.conf"), TOPOLOGY_CONF).unwrap();
    std::fs::write(
        file("gres.conf"),
        "NodeName=g[01-02] Name=gpu Type=a100 File=/dev/nvidia[0-3] Cores=0-15\n",
    )
    .unwrap();
    let run = |words: &[&str]| {
        Ran::new(muster(&file("nowhere"), words).current_dir(folder.path()).output().unwrap())
    };
    let ran = run(&["migrate", "slurm.conf", "-o", "muster.toml"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{ran:?}");
    let ran_check = run(&["config", "check", "muster.toml"]);
    assert!(
        ran_check.code == Some(0) && ran_check.out.contains("cluster frost, 7 nodes, 3 pools"),
        "{ran_check:?}"
    );

    let config = muster_config::load(&file("muster.toml")).unwrap();
    let node = |name: &str| config.cluster.nodes.iter().find(|node| node.name == name).unwrap();
    assert_eq!((node("c001").cores, node("old1").cores), (32, 8));
    assert_eq!(node("c004").memory_bytes, 191_000 << 20);
    assert!(node("c002").features.contains("ib"));
    assert_eq!(node("g01").gres[0].to_string(), "gpu:a100:4");
    let pool = |name: &str| config.cluster.pools.iter().find(|pool| pool.name == name).unwrap();
    assert!(
        pool("batch").default
            && pool("batch").time_max_s == 2 * 86_400
            && pool("batch").time_default_s == 3600
    );
    assert_eq!((pool("all").nodes.len(), pool("gpu").tier), (7, 10));
    assert_eq!(config.cluster.switches.len(), 3);
    assert_eq!(config.controller.mail_program.as_deref(), Some(std::path::Path::new("/usr/bin/s-nail")));
    assert_eq!((config.controller.node_timeout_s, config.cluster.policy.kill_grace_ms), (120, 30_000));

    // What is not taken over is told, with its place.
    for note in [
        "slurm.conf:10: Prolog=/etc/slurm/prolog.sh: no program runs before a job",
        "slurm.conf:19: NewKeyOfALaterVersion=1: it has no equivalent",
        "slurm.conf:23: NodeName=g[01-02] Weight=10: it has no equivalent",
        "slurm.conf:24: NodeName=old1: it has no RealMemory",
        "slurm.conf:25: NodeName=cloud[1-9] State=CLOUD",
        "slurm.conf:27: PartitionName=batch MaxNodes=2: it has no equivalent",
        "slurm.conf:29: PartitionName=all OverSubscribe=FORCE:2: cores are never shared",
        "gres.conf: where devices are attached is found by the agents",
    ] {
        assert!(ran.err.contains(note), "{note}\n{}", ran.err);
    }
    assert_eq!(config.cluster.licenses.get("matlab"), Some(&10));
    assert_eq!(ran.err.lines().count(), 9, "{}", ran.err);

    // A file that is there is left alone.
    let again = run(&["migrate", "slurm.conf", "-o", "muster.toml"]);
    assert!(again.code != Some(0) && again.err.contains("cannot write muster.toml"), "{again:?}");
    let printed = run(&["migrate", "slurm.conf"]);
    assert_eq!(printed.out, std::fs::read_to_string(file("muster.toml")).unwrap());
    assert_eq!(run(&["migrate", "nothing.conf"]).code, Some(4));
}
