//! Every option with every kind of value: a request comes of it, or a message that names the option.

use proptest::prelude::*;

use super::build::build;
use super::caller::Caller;
use super::directives::read_directives;
use super::options::{KNOWN, Meaning, Takes};
use super::script::Script;

/// Values that some option takes, and what is nearly such.
fn value() -> impl Strategy<Value = String> {
    let valid = [
        "4",
        "2-4",
        "a100:2",
        "gpu:a100:2,nic",
        "1-12:30",
        "99999999999999999999",
        "4G",
        "0-15:4,20%2",
        "afterok:1:2_3",
        "after:1+5?singleton",
        "(a|b)&!c",
        "n[01-03,10]",
        "now+2hours",
        "2026-01-31T16:30",
        "16:30",
        "/tmp/%j-%4a.out",
        "append",
        "user",
        "ALL,X=1",
        "yes",
        "2@1:00:00",
        "-10000",
        "",
    ];
    let change = (any::<prop::sample::Index>(), 0..3usize, prop_oneof!["[ -~&&[^']]", "[0-9:,%@+-]", "[é∞]"]);
    (prop::sample::select(valid.to_vec()), prop::collection::vec(change, 0..4)).prop_map(
        |(valid, changes)| {
            let mut chars: Vec<char> = valid.chars().collect();
            for (at, taken, new) in changes {
                let at = at.index(chars.len() + 1);
                let end = chars.len().min(at + taken);
                chars.splice(at..end, new.chars());
            }
            chars.into_iter().collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn an_option_with_any_value_is_read_or_refused(
        options in prop::collection::vec(((0..KNOWN.len()).prop_map(|i| &KNOWN[i]), value()), 1..4),
    ) {
        let mut script = "#!/bin/sh\n".to_owned();
        for (known, value) in &options {
            // Files are read where they are named, and a test has none; a login takes its time.
            if matches!(known.long, "nodefile" | "get-user-env") {
                continue;
            }
            script.push_str(&match known.takes {
                Takes::Nothing => format!("#SBATCH --{}\n", known.long),
                Takes::Value | Takes::Maybe => format!("#SBATCH --{}='{value}'\n", known.long),
            });
        }
        let layer = match read_directives("job.sh", &script, |_| {}) {
            Ok(layer) => layer,
            Err(error) => {
                prop_assert!(error.to_string().contains("job.sh:"), "{}", error);
                return Ok(());
            }
        };
        prop_assert!(options.iter().all(|(known, _)| !matches!(known.meaning, Meaning::Refused(_))));
        let caller = Caller { directory: "/".into(), ..Caller::default() };
        let built = build(&layer, Script::wrap("true").unwrap(), vec![], caller, |_| {});
        if let Err(error) = built {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
