//! Golden tests: what a person sees for each error.

use std::path::Path;

use muster_core::cluster::{Fill, Preempt};
use proptest::prelude::*;

use crate::BootstrapConfig;
use crate::{ClientLimits, Config, load, parse};

pub(crate) const GOOD: &str = r#"
[cluster]
name = "test"
[[node]]
name = "n[01-04]"
cores = 8
memory = "4G"
[[pool]]
name = "main"
nodes = "n[01-04]"
"#;

pub(crate) fn read(text: &str) -> Result<Config, String> {
    parse(Path::new("m.toml"), text).map_err(|errors| errors.to_string())
}

#[track_caller]
pub(crate) fn refused(text: &str, expected: &str) {
    assert_eq!(read(text).unwrap_err(), expected.trim());
}

/// The good text with one part replaced.
#[track_caller]
fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

#[test]
fn a_short_file_is_filled_with_defaults() {
    let config = read(GOOD).unwrap();
    assert_eq!(config.cluster.name, "test");
    assert_eq!(config.cluster.nodes.len(), 4);
    assert_eq!(config.cluster.nodes[3].name, "n04");
    assert_eq!((config.cluster.nodes[0].cores, config.cluster.nodes[0].memory_bytes), (8, 4 << 30));
    let pool = &config.cluster.pools[0];
    assert_eq!((pool.time_default_s, pool.time_max_s, pool.fill), (3600, 7 * 86_400, Fill::Pack));
    assert_eq!(config.cluster.policy, muster_core::cluster::Policy::default());
    assert_eq!(config.controller.listen.port(), 6817);
    assert_eq!(config.controller.socket, Path::new("/run/muster/muster.sock"));
    assert_eq!((config.controller.node_timeout_s, config.controller.heartbeat_ms), (5, 1000));
    assert_eq!(config.bootstrap, BootstrapConfig::default());
}

#[test]
fn every_key_is_read() {
    let config = read(
        r#"
[cluster]
name = "full"
[controller]
listen = "10.77.0.10:7000"
addresses = ["head:7000", "10.77.0.10:7000"]
socket = "/tmp/m.sock"
state_dir = "/tmp/state"
admins = ["root", "ann"]
node_timeout_s = 3
heartbeat_ms = 500
requests_per_user_s = 12
requests_per_user_burst = 34
connections_per_user_max = 56
[policy]
root_may_submit = true
tasks_waiting_max = 5
jobs_per_user_max = 6
attempts_max = 7
hold_node_s = 8
requeue_delay_s = 9
kill_grace_ms = 10
prepare_timeout_s = 11
finished_jobs_kept = 5000
finished_tasks_kept = 6000
short_task_ms = 7
[[node]]
name = "n[1-4]"
address = "10.0.0.[11-14]"
cores = 8
memory = "4G"
wrap_cores = true
[[pool]]
name = "a"
nodes = "n[1-2]"
default = true
default_time = "30"
max_time = "2:00:00"
memory_per_core = "512M"
fill = "spread"
[[pool]]
name = "b"
nodes = "n[3-4]"
[[switch]]
name = "left"
nodes = "n[1-2]"
[[switch]]
name = "right"
nodes = "n[3-4]"
[[switch]]
name = "top"
switches = "left,right"
[bootstrap]
enabled = true
user = "muster"
port = 2222
jump = ["ann@gate:2222", "inner"]
sudo = true
fan_out = 64
identity_file = "/k/id"
known_hosts = "/k/known"
binaries_dir = "/k/bin"
remote_dir = "/r"
run_dir = "/r/run"
work_dir = "/r/work"
shared_roots = ["/home", "/scratch"]
program = "/k/mb"
[health]
program = "/k/health"
interval_s = 7
[[elastic]]
nodes = "n[2-3]"
up = "/k/up"
down = "/k/down"
idle_s = 60
at_once = 2
"#,
    )
    .unwrap();
    let policy = &config.cluster.policy;
    assert_eq!(
        (policy.tasks_waiting_max, policy.jobs_per_user_max, policy.attempts_max, policy.hold_node_s),
        (5, 6, 7, 8)
    );
    assert_eq!(
        (
            policy.requeue_delay_s,
            policy.kill_grace_ms,
            policy.prepare_timeout_s,
            policy.finished_jobs_kept,
            policy.finished_tasks_kept,
            policy.short_task_ms
        ),
        (9, 10, 11, 5000, 6000, 7)
    );
    assert!(policy.root_may_submit);
    assert_eq!(config.addresses["n3"], "10.0.0.13");
    assert!(config.cluster.nodes[0].wrap_cores);
    let pool = &config.cluster.pools[0];
    assert_eq!((pool.time_default_s, pool.time_max_s), (1800, 7200));
    assert_eq!((pool.memory_per_core_bytes, pool.fill, pool.default), (Some(512 << 20), Fill::Spread, true));
    assert_eq!(config.cluster.switches[2].switches, ["left", "right"]);
    assert_eq!(config.controller.admins, ["root", "ann"]);
    assert_eq!(config.controller.addresses, ["head:7000", "10.77.0.10:7000"]);
    let rate = Some(muster_core::rate::Rate { per_s: 12, burst: 34 });
    assert_eq!(config.controller.clients, ClientLimits { rate, connections_max: 56 });
    let bootstrap = &config.bootstrap;
    assert!(bootstrap.by_controller && bootstrap.sudo);
    assert_eq!((bootstrap.user.as_str(), bootstrap.port, bootstrap.fan_out), ("muster", 2222, 64));
    assert_eq!(
        bootstrap.jump.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["ann@gate:2222", "inner"]
    );
    assert_eq!(bootstrap.program, Path::new("/k/mb"));
    assert_eq!(bootstrap.run_dir.as_deref(), Some(Path::new("/r/run")));
    assert_eq!(bootstrap.work_dir.as_deref(), Some(Path::new("/r/work")));
    assert_eq!(bootstrap.shared_roots.as_ref().unwrap().len(), 2);
    let elastic = &config.elastic[0];
    assert_eq!((elastic.nodes.as_slice(), elastic.at_once), (&["n2".to_owned(), "n3".to_owned()][..], 2));
    assert_eq!((elastic.up.as_path(), elastic.down.as_path()), (Path::new("/k/up"), Path::new("/k/down")));
    let node = |i: usize| config.cluster.nodes[i].elastic.map(|node| (node.up_timeout_s, node.idle_s));
    assert_eq!((node(0), node(1)), (None, Some((600, 60))));
    let health = config.health.unwrap();
    assert_eq!(
        (health.program.as_path(), health.interval_s, health.timeout_s),
        (Path::new("/k/health"), 7, 60)
    );
}

#[test]
fn unknown_keys_name_the_nearest_known_one() {
    refused(
        &with("memory = ", "memroy = "),
        r#"
m.toml:4:1: [[node]] needs the key 'memory': write memory = "16G"
m.toml:7:1: unknown key 'memroy' in [[node]]: did you mean 'memory'?
"#,
    );
    refused(
        &with("[[pool]]", "[[pools]]"),
        r#"
m.toml:1:1: the cluster has no pool: declare at least one with [[pool]] with name = "main", nodes = "n[01-04]"
m.toml:8:3: unknown key 'pools' in the file: did you mean 'pool'?
"#,
    );
    refused(
        &format!("{GOOD}colour = 1"),
        r"
m.toml:11:1: unknown key 'colour' in [[pool]]: the keys there are default, name, nodes, default_time, max_time, memory_per_core, fill, order, backfill, priority, tier, preempt, grace
",
    );
}

#[test]
fn features_are_names_each_said_once() {
    let config = read(&with("cores = 8", "cores = 8\nfeatures = [\"intel\", \"rack-1\"]")).unwrap();
    assert_eq!(config.cluster.nodes[0].features.iter().collect::<Vec<_>>(), ["intel", "rack-1"]);
    refused(
        &with("cores = 8", "cores = 8\nfeatures = [\"a&b\", \"c\", \"c\"]"),
        r"
m.toml:7:13: 'features' must be names of features: letters, digits and _ - . + : / @ %, at most 64 bytes, but is 'a&b'
m.toml:7:25: 'c' stands twice in 'features': write it once
",
    );
}

#[test]
fn devices_are_named_each_kind_once() {
    let gres = |list: &str| with("cores = 8", &format!("cores = 8\ngres = [{list}]"));
    let config = read(&gres(r#""gpu:a100:4", "gpu:v100:1", "nic:2""#)).unwrap();
    let texts: Vec<String> = config.cluster.nodes[3].gres.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["gpu:a100:4", "gpu:v100:1", "nic:2"]);
    for (list, message) in [
        (r#""gpu:a100:many""#, "m.toml:7:9: 'gres': 'gpu:a100:many' names no devices: write name:count or "),
        (r#""gpu:300""#, "m.toml:7:9: 'gres': 'gpu:300' must name 1 to 255 devices"),
        (r#""gpu:1", "gpu:2""#, "m.toml:7:18: 'gres': 'gpu' is named twice: name each kind of devices once"),
        ("4", "'gres' must be a list of texts, such as [\"gpu:a100:4\"]"),
    ] {
        let error = read(&gres(list)).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn places_of_devices_and_threads_of_cores_are_read() {
    let more = |lines: &str| with("cores = 8", &format!("cores = 8\n{lines}"));
    let gres = r#"gres = ["gpu:a100:2", "gpu:v100:1"]"#;
    let config =
        read(&more(&format!("{gres}\ngres_numa = {{ gpu = [0, 1, 0x1] }}\nthreads_per_core = 2"))).unwrap();
    let node = &config.cluster.nodes[3];
    assert_eq!((node.gres_numa["gpu"].as_slice(), node.threads_per_core), (&[0, 1, 1][..], Some(2)));
    assert!(node.gres_files.is_empty());
    let files =
        read(&more(&format!("{gres}\ngres_files = {{ gpu = \"/dev/nvidia[0-1],/dev/x\" }}"))).unwrap();
    assert_eq!(files.cluster.nodes[3].gres_files["gpu"], ["/dev/nvidia0", "/dev/nvidia1", "/dev/x"]);
    assert!(!node.gres_check && read(&more("gres_check = true")).unwrap().cluster.nodes[3].gres_check);
    for (lines, message) in [
        (
            "gres_numa = { gpu = [0, 1] }",
            "'gres_numa' places 2 gpu, but 'gres' declares 3: write the NUMA node of each",
        ),
        ("gres_numa = { nic = [0] }", "'gres_numa' places 1 nic, but 'gres' declares 0"),
        (
            "gres_numa = { gpu = 1 }",
            "'gres_numa' must be a table of lists of whole numbers from 0 to 4095, such as",
        ),
        ("gres_numa = { gpu = [0, 1, 4096] }", "'gres_numa' must be a table of lists"),
        ("gres_numa = [0]", "{ gpu = [0, 0, 1, 1] }, but is a list"),
        (
            "gres_files = { gpu = \"/dev/nvidia[0-1]\" }",
            "'gres_files' names 2 files for gpu, but 'gres' declares 3: name the file of each",
        ),
        ("gres_files = { gpu = \"nvidia[0-2]\" }", "'gres_files' must be a table of absolute paths, such as"),
        ("threads_per_core = 17", "'threads_per_core' must be a whole number from 1 to 16, but is 17"),
        ("gres_check = 1", "'gres_check' must be true or false"),
    ] {
        let error = read(&more(&format!("{gres}\n{lines}"))).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_node_is_elastic_in_one_way() {
    let group = "[[elastic]]\nnodes = \"n01\"\nup = \"/k/up\"\ndown = \"/k/down\"\n";
    let wrong = "[[elastic]]\nnodes = \"n09\"\nup = \"up\"\n";
    refused(
        &[GOOD, group, group, wrong].concat(),
        r#"
m.toml:15:1: node 'n01' is in the [[elastic]] on line 11 already: leave it out of one of them
m.toml:19:1: [[elastic]] needs the key 'down': write down = "/etc/muster/node-down"
m.toml:20:9: this [[elastic]] names the node 'n09', which is not declared: did you mean 'n01'?
m.toml:21:6: 'up' must be an absolute path, which starts with /, but is 'up'
"#,
    );
}

#[test]
fn missing_keys_are_named_with_an_example() {
    refused(
        "",
        r#"
m.toml:1:1: the file needs the key 'cluster': write [cluster] and below it name = "mycluster"
m.toml:1:1: the cluster has no node: declare at least one with [[node]] with name = "n[01-04]", cores = 8, memory = "16G"
m.toml:1:1: the cluster has no pool: declare at least one with [[pool]] with name = "main", nodes = "n[01-04]"
"#,
    );
    refused(
        "[cluster]\n[[node]]\n[[pool]]\n[[switch]]\n[bootstrap]\n[health]\n",
        r#"
m.toml:1:1: [cluster] needs the key 'name': write name = "mycluster"
m.toml:2:1: [[node]] needs the key 'name': write name = "n[01-04]"
m.toml:2:1: [[node]] needs the key 'cores': write cores = 8
m.toml:2:1: [[node]] needs the key 'memory': write memory = "16G"
m.toml:3:1: [[pool]] needs the key 'name': write name = "main"
m.toml:3:1: [[pool]] needs the key 'nodes': write nodes = "n[01-04]"
m.toml:4:1: [[switch]] needs the key 'name': write name = "leaf1"
m.toml:5:1: [bootstrap] needs the key 'identity_file': write identity_file = "/etc/muster/id_ed25519"
m.toml:5:1: [bootstrap] needs the key 'known_hosts': write known_hosts = "/etc/muster/known_hosts"
m.toml:5:1: [bootstrap] needs the key 'binaries_dir': write binaries_dir = "/usr/local/libexec/muster"
m.toml:6:1: [health] needs the key 'program': write program = "/etc/muster/health.sh"
"#,
    );
}

#[test]
fn values_of_wrong_types_and_notations_are_refused() {
    refused(
        &with("cores = 8", "cores = 0"),
        "m.toml:6:9: 'cores' must be a whole number from 1 to 4096, but is 0",
    );
    refused(
        &with("cores = 8", "cores = -1"),
        "m.toml:6:9: 'cores' must be a whole number from 1 to 4096, but is -1",
    );
    refused(
        &with("cores = 8", "cores = \"8\""),
        "m.toml:6:9: 'cores' must be a whole number from 1 to 4096, but is a text",
    );
    refused(
        &with("\"4G\"", "\"4X\""),
        "m.toml:7:10: 'memory': '4X' is not a memory size: write a number of MiB, or a number with K, M, G or T, such as 4G",
    );
    refused(
        &with("\"n[01-04]\"", "\"n[01-\""),
        "m.toml:5:8: 'name': 'n[01-' is not a host list: write names and numbered ranges, such as node[01-04],head\n\
         m.toml:10:9: pool 'main' names the node 'n01', which is not declared\n\
         m.toml:10:9: pool 'main' names the node 'n02', which is not declared\n\
         m.toml:10:9: pool 'main' names the node 'n03', which is not declared\n\
         m.toml:10:9: pool 'main' names the node 'n04', which is not declared",
    );
    refused(
        &format!("{GOOD}default_time = \"1h\"\nmax_time = 7\nfill = \"packed\"\n"),
        "m.toml:11:16: 'default_time': '1h' is not a time: write minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS\n\
         m.toml:12:12: 'max_time' must be a text, such as \"1:00:00\", but is a whole number\n\
         m.toml:13:8: 'fill' must be one of \"pack\", \"spread\", but is 'packed'",
    );
    refused(
        &format!("{GOOD}default_time = \"2-0\"\nmax_time = \"1-0\"\n"),
        "m.toml:11:16: 'default_time' is 2-00:00:00, which is longer than 'max_time', 1-00:00:00: make it shorter, or 'max_time' longer",
    );
    refused(
        &with("[[pool]]", "[pool]"),
        "m.toml:1:1: the cluster has no pool: declare at least one with [[pool]] with name = \"main\", nodes = \"n[01-04]\"\n\
         m.toml:8:1: 'pool' must be a list of tables, each written [[pool]], but is a table",
    );
}

#[test]
fn the_controllers_numbers_and_paths_are_checked() {
    let text = format!(
        "{GOOD}[controller]\nlisten = \"head\"\naddresses = [\"head\", 5]\nsocket = \"m.sock\"\n\
         heartbeat_ms = 4000\n[policy]\nfinished_jobs_kept = 1\n"
    );
    refused(
        &text,
        "m.toml:12:10: 'listen' must be an IP address and a port, such as 10.77.0.10:6817 or [::]:6817, but is 'head'\n\
         m.toml:13:14: 'addresses' must be a host and a port, such as head:6817, but is 'head'\n\
         m.toml:13:22: 'addresses' must be a list of texts, such as [\"head:6817\"], but is a whole number\n\
         m.toml:14:10: 'socket' must be an absolute path, which starts with /, but is 'm.sock'\n\
         m.toml:15:16: 'heartbeat_ms' is 4000, but 'node_timeout_s' is 5: a node must be heard at least twice in that time, so write at most 2500\n\
         m.toml:17:22: 'finished_jobs_kept' must be a whole number from 4096 to 100000000, but is 1",
    );
}

#[test]
fn the_database_of_several_controllers_is_named_without_its_password() {
    let store = |lines: &str| with("[[node]]", &format!("[controller]\n{lines}\n[[node]]"));
    let url = "store = \"postgresql://muster@db.example.org:5433/muster\"";
    let found =
        read(&store(&format!("{url}\nstore_ca_file = \"/etc/ca.crt\""))).unwrap().controller.store.unwrap();
    assert_eq!(found.url, "postgresql://muster@db.example.org:5433/muster");
    assert_eq!((found.ca_file, found.password_file), (Some("/etc/ca.crt".into()), None));
    let refused = |lines: &str, part: &str| {
        let error = read(&store(lines)).unwrap_err();
        assert!(error.contains(part), "{error}");
    };
    refused("store = \"mysql://db/muster\"", "'store' must be the URL of a PostgreSQL database, such as");
    refused("store_ca_file = \"/etc/ca.crt\"", "needs the key 'store'");
    for url in ["postgresql://muster:geheim@db/muster", "postgres://muster@db/muster?password=geheim"] {
        let error = read(&store(&format!("store = \"{url}\""))).unwrap_err();
        assert!(error.contains("'store_password_file'") && !error.contains("geheim"), "{error}");
    }
}

#[test]
fn names_are_unique_and_known() {
    refused(
        &format!("{GOOD}[[node]]\nname = \"n04\"\ncores = 1\nmemory = \"1G\"\n"),
        "m.toml:12:8: node 'n04' was already declared on line 4: give each node a name of its own",
    );
    refused(
        &with("nodes = \"n[01-04]\"", "nodes = \"n01,m02,n01\""),
        "m.toml:10:9: pool 'main' names the node 'm02', which is not declared: did you mean 'n02'?\n\
         m.toml:10:9: 'n01' stands twice in 'nodes': write it once",
    );
    refused(
        &with("nodes = \"n[01-04]\"", "nodes = \"\""),
        "m.toml:10:9: pool 'main' is empty: name at least one node, such as nodes = \"n[01-04]\"",
    );
    refused(
        &format!("{GOOD}default = true\n[[pool]]\nname = \"main\"\nnodes = \"n01\"\ndefault = true\n"),
        "m.toml:12:1: pool 'main' was already declared on line 8: give each pool a name of its own\n\
         m.toml:15:11: pool 'main' is marked as the default, but pool 'main' on line 11 is too: mark only one",
    );
    refused(
        &with("cores = 8", "cores = 8\naddress = \"a,b\""),
        "m.toml:7:11: 'address' names 2 addresses for 4 nodes: name exactly one for each, in the same order",
    );
}

#[test]
fn switches_form_a_tree_over_all_nodes() {
    refused(
        &format!(
            "{GOOD}[[switch]]\nname = \"a\"\nnodes = \"n[01-02]\"\n[[switch]]\nname = \"b\"\nnodes = \"n[02-03]\"\n\
             [[switch]]\nname = \"c\"\n"
        ),
        "m.toml:4:1: node 'n04' is on no switch, though the file declares switches: add it to a leaf switch's 'nodes'\n\
         m.toml:14:1: node 'n02' is on switch 'b', but already on switch 'a': leave it on one of them\n\
         m.toml:17:1: switch 'c' must have either 'nodes' or 'switches', and only one of them",
    );
    refused(
        &format!(
            "{GOOD}[[switch]]\nname = \"leaf\"\nnodes = \"n[01-04]\"\n[[switch]]\nname = \"a\"\nswitches = \"b\"\n\
             [[switch]]\nname = \"b\"\nswitches = \"c\"\n[[switch]]\nname = \"c\"\nswitches = \"a,leef\"\n"
        ),
        "m.toml:14:1: the switches a > b > c > a form a circle: a switch must not be above itself\n\
         m.toml:22:12: switch 'c' names the switch 'leef', which is not declared: did you mean 'leaf'?",
    );
    refused(
        &format!(
            "{GOOD}[[switch]]\nname = \"leaf\"\nnodes = \"n[01-04]\"\n[[switch]]\nname = \"a\"\nswitches = \"leaf\"\n\
             [[switch]]\nname = \"b\"\nswitches = \"leaf\"\n"
        ),
        "m.toml:19:12: switch 'leaf' is on switch 'b', but already on switch 'a': leave it on one of them",
    );
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_place() {
    let message = read("[cluster\nname = 1\n").unwrap_err();
    assert!(message.starts_with("m.toml:1:9: this is not TOML: "), "{message}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load(Path::new("/nonexistent/m.toml")).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the configuration /nonexistent/m.toml");
}

#[test]
fn the_ready_configurations_load() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut nodes = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let config = load(&path).unwrap_or_else(|errors| panic!("{errors}"));
        nodes.insert(path.file_stem().unwrap().to_str().unwrap().to_owned(), config.cluster.nodes.len());
    }
    let expected = [("one-machine", 1), ("production", 132), ("ten-thousand", 10_000), ("test-cluster", 4)];
    assert_eq!(nodes, expected.map(|(name, count)| (name.to_owned(), count)).into());
}

#[test]
fn pools_say_who_gives_way_to_whom() {
    let keys = "nodes = \"n[01-04]\"\ntier = 3\npreempt = \"requeue\"\ngrace = \"1:30\"";
    let text = with("nodes = \"n[01-04]\"", keys) + "[policy]\npreempt_exempt_s = 60\n";
    let cluster = read(&text).unwrap().cluster;
    let pool = &cluster.pools[0];
    assert_eq!((pool.tier, pool.preempt, pool.grace_s), (3, Preempt::Requeue, 90));
    assert_eq!(cluster.policy.preempt_exempt_s, 60);
    let plain = &read(GOOD).unwrap().cluster.pools[0];
    assert_eq!((plain.tier, plain.preempt, plain.grace_s), (0, Preempt::Off, 0));
    for (key, text) in [
        ("preempt = \"suspend\"", "\"off\", \"requeue\", \"cancel\""),
        ("tier = 100000", "65533"),
        ("grace = \"2-00:00:00\"", "at most 1-00:00:00"),
    ] {
        let refusal =
            read(&with("nodes = \"n[01-04]\"", &format!("nodes = \"n[01-04]\"\n{key}"))).unwrap_err();
        assert!(refusal.contains(text), "{refusal}");
    }
}

/// Valid files with a few places changed: whole words, keys and values.
fn nearly_valid() -> impl Strategy<Value = String> {
    let mut valid = vec![GOOD.to_owned()];
    for name in ["one-machine.toml", "production.toml", "test-cluster.toml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs").join(name);
        valid.push(std::fs::read_to_string(path).unwrap());
    }
    let new = prop_oneof![
        "[ -~]",
        "(\"|\\[\\[|\\]|=|-1|0|99999999999999999999|true|n\\[1-|\\]\"|\n\\[node\\]\n|1979-05-27|1e9|\\{\\})",
        "\\PC"
    ];
    let change = (any::<prop::sample::Index>(), 0..12usize, new);
    (prop::sample::select(valid), prop::collection::vec(change, 0..4)).prop_map(|(mut text, changes)| {
        for (at, taken, new) in changes {
            let begin = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary((begin + taken).min(text.len())).max(begin);
            text.replace_range(begin..end, &new);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_file_that_is_nearly_right_is_read_or_refused_with_places(text in nearly_valid()) {
        if let Err(problems) = read(&text) {
            prop_assert!(problems.contains("m.toml"), "{}", problems);
        }
    }
}

#[test]
fn limits_of_users_have_defaults_and_depend_on_each_other() {
    let limits = |lines: &str| read(&format!("{GOOD}[controller]\n{lines}")).unwrap().controller.clients;
    assert_eq!(limits(""), ClientLimits { rate: None, connections_max: 1024 });
    let rate = limits("requests_per_user_s = 7").rate.unwrap();
    assert_eq!((rate.per_s, rate.burst), (7, 70));
    refused(
        &format!("{GOOD}[controller]\nrequests_per_user_burst = 5"),
        r"
m.toml:11:1: [controller] needs the key 'requests_per_user_s': write requests_per_user_s = 20
",
    );
}
