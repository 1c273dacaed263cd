//! Bad input gets a clear error and changes nothing.

use crate::support::{ANN, Bench};

#[test]
fn what_is_wrong_is_said_and_nothing_is_stored() {
    let Some(bench) = Bench::up("bad", 2, 2) else { return };
    bench.write("good.sh", "#!/bin/sh\ntrue\n");
    bench.write("nobang.sh", "echo hello\n");
    bench.write("empty.sh", "");
    bench.write("typo.sh", "#!/bin/sh\n#SBATCH --ndoes=2\ntrue\n");
    bench.write("secret.sh", "#!/bin/sh\ntrue\n");
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(bench.work.join("secret.sh"), closed).unwrap();
    std::os::unix::fs::chown(bench.work.join("secret.sh"), Some(0), Some(0)).unwrap();
    let cases: [(&[&str], &str); 16] = [
        (&["-p", "mian", "good.sh"], "there is no pool 'mian'; the pools are: main"),
        (&["-N", "3", "good.sh"], "3 nodes"),
        (&["-c", "3", "good.sh"], "3 cores"),
        (&["-N", "2", "--ntasks-per-node=3", "good.sh"], "can never run"),
        (&["--mem=999G", "good.sh"], "memory"),
        (&["missing.sh"], "missing.sh"),
        (&["secret.sh"], "secret.sh"),
        (&["nobang.sh"], "#!"),
        (&["empty.sh"], "empty"),
        (&["typo.sh"], "typo.sh:2"),
        (&["-t", "1:2:3:4", "good.sh"], "1:2:3:4"),
        (&["-t", "0", "good.sh"], "'0'"),
        (&["--mem=4X", "good.sh"], "4X"),
        (&["-D", "/root", "good.sh"], "/root"),
        (&["--array=5-1", "good.sh"], "5-1"),
        (&["-t", "8-0", "good.sh"], "7-00:00:00"),
    ];
    for (args, part) in cases {
        let output = bench.site.run(ANN, &bench.work, &[&["submit"], args].concat()).unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{args:?}: {output:?}");
        assert!(message.contains(part), "{args:?} should say {part:?}: {message}");
        assert!(output.stdout.is_empty(), "{args:?}: no id is shown");
    }
    let typo = bench.site.run(ANN, &bench.work, &["submit", "typo.sh"]).unwrap();
    assert!(
        String::from_utf8_lossy(&typo.stderr).contains("nodes"),
        "the nearest directive is named: {typo:?}"
    );
    assert!(bench.site.client().unwrap().jobs(&Default::default()).unwrap().jobs.is_empty());
    for command in ["show", "why", "cancel", "wait", "logs"] {
        let output = bench.site.run(ANN, &bench.work, &[command, "77"]).unwrap();
        assert!(
            !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("77"),
            "{output:?}"
        );
    }
}
