//! What a job's user says about it, and whom its end is told: `--signal`, `--nice`, `--mail-type`, and remarks.

use std::collections::BTreeSet;

use muster_core::spec::{
    MailEvent, MailWish, NOTE_BYTES_MAX, SIGNAL_BEFORE_MAX_S, SIGNAL_MAX, SignalTo, SignalWish,
};
use nix::sys::signal::Signal;

use super::layer::{Layer, Said};
use super::options::Opt;
use crate::error::CliError;

/// How long before the time limit a signal comes if nothing else was said, in seconds, as sbatch(1) has it.
const SIGNAL_BEFORE_S: u32 = 60;
/// By how much `--nice` without a number lowers the priority.
const NICE_DEFAULT: i32 = 100;
/// The largest number that `--nice` takes, as sbatch(1) has it.
const NICE_MAX: i64 = 2_147_483_645;

/// Reads `--signal=[{R|B}:]SIGNAL[@SECONDS]`. `R:` is about reservations that another job may begin to use, which does not
/// happen here.
pub(super) fn signal(said: &Said) -> Result<SignalWish, CliError> {
    let wrong = || CliError::Value {
        origin: said.origin.clone(),
        value: said.value.clone(),
        right: "write a signal and the seconds before the time limit, such as USR1@90, or B:USR1@90 for the script's \
                own shell",
    };
    let (flags, rest) = said.value.rsplit_once(':').unwrap_or(("", &said.value));
    if flags.chars().any(|flag| !matches!(flag, 'R' | 'B' | 'r' | 'b')) {
        return Err(wrong());
    }
    let (name, before) = match rest.split_once('@') {
        Some((name, before)) => (name, before.parse().ok().filter(|before| *before <= SIGNAL_BEFORE_MAX_S)),
        None => (rest, Some(SIGNAL_BEFORE_S)),
    };
    let to = if flags.contains(['B', 'b']) { SignalTo::Script } else { SignalTo::Ranks };
    let signal = signal_number(name).ok_or_else(wrong)?;
    Ok(SignalWish { signal, before_s: before.ok_or_else(wrong)?, to })
}

/// The number of a signal that is written as `10`, `USR1` or `SIGUSR1`.
pub(crate) fn signal_number(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=SIGNAL_MAX).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    let signal: Signal = name.parse().ok()?;
    u8::try_from(signal as i32).ok()
}

/// Reads `--nice[=N]`.
pub(super) fn nice(said: &Said) -> Result<i32, CliError> {
    if said.value.is_empty() {
        return Ok(NICE_DEFAULT);
    }
    let number = said.value.parse().ok().filter(|nice: &i64| (-NICE_MAX..=NICE_MAX).contains(nice));
    number.and_then(|nice| i32::try_from(nice).ok()).ok_or_else(|| CliError::Number {
        origin: said.origin.clone(),
        value: said.value.clone(),
        min: -NICE_MAX,
        max: NICE_MAX,
    })
}

/// What `--mail-type` and `--mail-user` say; none without a type, as in Slurm. `warn` gets a sentence for what is never
/// told.
pub(super) fn mail(layer: &Layer, mut warn: impl FnMut(&str)) -> Result<Option<MailWish>, CliError> {
    let Some(said) = layer.get(Opt::MailType) else { return Ok(None) };
    let mut events = BTreeSet::new();
    for word in said.value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let word = word.to_ascii_uppercase();
        use MailEvent::{
            ArrayTasks, Begin, End, Fail, InvalidDepend, Requeue, TimeLimit, TimeLimit50, TimeLimit80,
            TimeLimit90,
        };
        match word.as_str() {
            "NONE" => events.clear(),
            "ALL" => events.extend([Begin, End, Fail, Requeue, InvalidDepend]),
            "BEGIN" => drop(events.insert(Begin)),
            "END" => drop(events.insert(End)),
            "FAIL" => drop(events.insert(Fail)),
            "REQUEUE" => drop(events.insert(Requeue)),
            "INVALID_DEPEND" => drop(events.insert(InvalidDepend)),
            "TIME_LIMIT" => drop(events.insert(TimeLimit)),
            "ARRAY_TASKS" => drop(events.insert(ArrayTasks)),
            "TIME_LIMIT_90" => drop(events.insert(TimeLimit90)),
            "TIME_LIMIT_80" => drop(events.insert(TimeLimit80)),
            "TIME_LIMIT_50" => drop(events.insert(TimeLimit50)),
            "STAGE_OUT" => {
                warn(&format!("{}: nothing is told of {word}", said.origin));
            }
            _ => {
                return Err(CliError::Value {
                    origin: said.origin.clone(),
                    value: said.value.clone(),
                    right: "write NONE, ALL, or some of BEGIN, END, FAIL, REQUEUE, INVALID_DEPEND, TIME_LIMIT, \
                            TIME_LIMIT_90, TIME_LIMIT_80, TIME_LIMIT_50 and ARRAY_TASKS",
                });
            }
        }
    }
    if events.iter().all(|event| *event == MailEvent::ArrayTasks) {
        return Ok(None);
    }
    let to = layer.get(Opt::MailUser).map(|said| said.value.clone()).filter(|to| !to.is_empty());
    Ok(Some(MailWish { events, to }))
}

/// A remark as it is kept: of one line, and not too long.
pub(super) fn remark(text: &str) -> String {
    let mut kept: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    kept.truncate(kept.floor_char_boundary(NOTE_BYTES_MAX));
    kept
}

/// The words of a command line without the queries of addresses, where signatures are.
pub(super) fn without_signatures(words: &[String]) -> Vec<String> {
    let strip = |word: &String| match word.split_once("://").zip(word.split_once('?')) {
        Some((_, (shown, _))) => format!("{shown}?..."),
        None => word.clone(),
    };
    words.iter().map(strip).collect()
}

#[cfg(test)]
mod tests {
    use super::super::layer::Origin;
    use super::*;

    fn said(value: &str) -> Said {
        Said { value: value.to_owned(), origin: Origin::CommandLine { option: "--it".to_owned() } }
    }

    #[test]
    fn signals_are_read_as_sbatch_reads_them() {
        for (text, number, before_s, to) in [
            ("B:USR1@90", 10, 90, SignalTo::Script),
            ("USR2@90", 12, 90, SignalTo::Ranks),
            ("10", 10, 60, SignalTo::Ranks),
            ("SIGTERM", 15, 60, SignalTo::Ranks),
            ("RB:int@0", 2, 0, SignalTo::Script),
            ("R:USR1", 10, 60, SignalTo::Ranks),
        ] {
            let wish = signal(&said(text)).unwrap();
            assert_eq!((wish.signal, wish.before_s, wish.to), (number, before_s, to), "{text}");
        }
        for text in ["", "FOO", "USR1@x", "B:USR1@70000", "X:USR1", "0", "65", "@10"] {
            let message = signal(&said(text)).unwrap_err().to_string();
            assert!(message.contains("USR1@90"), "{text}: {message}");
        }
    }

    #[test]
    fn nice_lowers_by_a_hundred_unless_it_says_otherwise() {
        assert_eq!(nice(&said("")).unwrap(), 100);
        assert_eq!(nice(&said("-5")).unwrap(), -5);
        assert!(nice(&said("99999999999")).unwrap_err().to_string().contains("2147483645"));
    }

    #[test]
    fn mail_is_told_of_what_was_named() {
        let read = |kind: &str, to: Option<&str>| {
            let mut layer = Layer::default();
            layer.say(Opt::MailType, kind, Origin::CommandLine { option: "--mail-type".to_owned() });
            if let Some(to) = to {
                layer.say(Opt::MailUser, to, Origin::CommandLine { option: "--mail-user".to_owned() });
            }
            let mut warnings = Vec::new();
            let wish = mail(&layer, |warning| warnings.push(warning.to_owned()));
            (wish, warnings.len())
        };
        let (wish, _) = read("begin,END", Some("ann@example.org"));
        let wish = wish.unwrap().unwrap();
        assert_eq!(wish.events.into_iter().collect::<Vec<_>>(), [MailEvent::Begin, MailEvent::End]);
        assert_eq!(wish.to.as_deref(), Some("ann@example.org"));
        assert_eq!(read("ALL", None).0.unwrap().unwrap().events.len(), 5);
        assert_eq!(read("NONE", None).0.unwrap(), None);
        let (wish, warnings) = read("TIME_LIMIT_80,time_limit_50", None);
        let events: Vec<MailEvent> = wish.unwrap().unwrap().events.into_iter().collect();
        assert_eq!((events, warnings), (vec![MailEvent::TimeLimit80, MailEvent::TimeLimit50], 0));
        let (wish, warnings) = read("STAGE_OUT", None);
        assert_eq!((wish.unwrap(), warnings), (None, 1));
        assert!(read("sometimes", None).0.unwrap_err().to_string().contains("BEGIN"));
        assert_eq!(mail(&Layer::default(), |_| {}).unwrap(), None);
    }

    #[test]
    fn remarks_are_of_one_line_and_not_too_long() {
        assert_eq!(remark("a\nb"), "a b");
        assert_eq!(remark(&"é".repeat(NOTE_BYTES_MAX)).len(), NOTE_BYTES_MAX);
    }
}
