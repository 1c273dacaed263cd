//! The directives of a script: `#SBATCH` and `#MUSTER` lines before the first command.

use super::layer::{Layer, Origin};
use super::options::{Found, Known, Meaning, Opt, Takes, find_long, find_short};
use super::words;
use crate::error::CliError;

/// What both kinds of directives start with.
const MARKS: [&str; 2] = ["#SBATCH", "#MUSTER"];

/// Reads the directives of `script` up to its first line that is neither blank nor a comment. A later directive
/// has the last word. `warn` gets a sentence for each option that is ignored.
pub(crate) fn read_directives(
    name: &str,
    script: &str,
    mut warn: impl FnMut(&str),
) -> Result<Layer, CliError> {
    let mut layer = Layer::default();
    for (number, line) in script.lines().enumerate() {
        if !line.trim().is_empty() && !line.trim_start().starts_with('#') {
            break;
        }
        let Some(rest) = MARKS.iter().find_map(|mark| line.strip_prefix(mark)) else { continue };
        // `#SBATCHX` is a comment, as `##SBATCH` and `# SBATCH` are; an option may stand without a blank before it.
        if rest.starts_with(|c: char| !c.is_whitespace() && c != '-') {
            continue;
        }
        let place = format!("{name}:{}: {}", number + 1, line.trim_end());
        let words = words::split(rest).ok_or_else(|| CliError::OpenQuote { place: place.clone() })?;
        read_words(&place, words, &mut layer, &mut warn)?;
    }
    Ok(layer)
}

/// Reads what follows `#SCRON` in a line of a crontab: options as directives have them.
pub(crate) fn read_scron_options(
    place: &str,
    text: &str,
    layer: &mut Layer,
    mut warn: impl FnMut(&str),
) -> Result<(), CliError> {
    let words = words::split(text).ok_or_else(|| CliError::OpenQuote { place: place.to_owned() })?;
    read_words(place, words, layer, &mut warn)
}

fn read_words(
    place: &str,
    words: Vec<String>,
    layer: &mut Layer,
    warn: &mut impl FnMut(&str),
) -> Result<(), CliError> {
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--").filter(|long| !long.is_empty()) {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let known = known_long(place, name, &word)?;
            let option = format!("--{}", known.long);
            let value = match (known.takes, value) {
                (Takes::Nothing, Some(_)) => {
                    return Err(CliError::NeedlessValue { place: place.to_owned(), option });
                }
                (Takes::Value, None) => words.next(),
                (_, value) => value,
            };
            act(place, known, option, value, layer, warn)?;
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            read_letters(place, letters, &mut words, layer, warn)?;
        } else {
            return Err(CliError::NotAnOption { place: place.to_owned(), word });
        }
    }
    Ok(())
}

/// `-n2`, `-n 2`, and letters without values in one word.
fn read_letters(
    place: &str,
    letters: &str,
    words: &mut impl Iterator<Item = String>,
    layer: &mut Layer,
    warn: &mut impl FnMut(&str),
) -> Result<(), CliError> {
    for (at, letter) in letters.char_indices() {
        let option = format!("-{letter}");
        let Some(known) = find_short(letter) else {
            return Err(CliError::UnknownOption {
                place: place.to_owned(),
                written: option.clone(),
                option,
                nearest: None,
            });
        };
        let rest = &letters[at + letter.len_utf8()..];
        if known.takes == Takes::Nothing {
            act(place, known, option, None, layer, warn)?;
            continue;
        }
        let glued = (!rest.is_empty()).then(|| rest.to_owned());
        let value = if known.takes == Takes::Value { glued.or_else(|| words.next()) } else { glued };
        return act(place, known, option, value, layer, warn);
    }
    Ok(())
}

fn known_long(place: &str, name: &str, written: &str) -> Result<&'static Known, CliError> {
    let option = format!("--{name}");
    match find_long(name) {
        Found::One(known) => Ok(known),
        Found::Several(names) => {
            let candidates = names.iter().map(|name| format!("--{name}")).collect::<Vec<_>>().join(" or ");
            Err(CliError::AmbiguousOption { place: place.to_owned(), option, candidates })
        }
        Found::None(nearest) => {
            let nearest = nearest.map(|name| format!("--{name}"));
            Err(CliError::UnknownOption {
                place: place.to_owned(),
                option,
                written: written.to_owned(),
                nearest,
            })
        }
    }
}

fn act(
    place: &str,
    known: &Known,
    option: String,
    value: Option<String>,
    layer: &mut Layer,
    warn: &mut impl FnMut(&str),
) -> Result<(), CliError> {
    let place = place.to_owned();
    match known.meaning {
        Meaning::Refused(right) => return Err(CliError::Unsupported { place, option, right }),
        _ if known.takes == Takes::Value && value.is_none() => {
            return Err(CliError::NoValue { place, option });
        }
        Meaning::SoAnyway => {}
        Meaning::Ignored(why) => warn(&format!("{place}: {option} is ignored: {why}")),
        Meaning::Set(Opt::Wrap | Opt::Help | Opt::Usage | Opt::Version) => {
            warn(&format!("{place}: {option} has no meaning in a script and is ignored"));
        }
        Meaning::Set(opt) => layer.say(opt, value.unwrap_or_default(), Origin::Directive { place, option }),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::options::Opt;
    use super::*;

    fn read(script: &str) -> Result<Layer, CliError> {
        read_directives("job.sh", script, |warning| panic!("{warning}"))
    }

    fn value(layer: &Layer, option: Opt) -> Option<&str> {
        layer.get(option).map(|said| said.value.as_str())
    }

    #[test]
    fn directives_are_read_in_every_spelling() {
        let script = "#!/bin/bash\n#SBATCH --time=10 # ten\n#SBATCH -n4 -c 2\n#MUSTER\t--job_name \"a b\"\n\n\
                      # SBATCH --nodes=9\n##SBATCH --nodes=9\n#SBATCHY --nodes=9\n  # a remark\n#SBATCH\n\
                      #SBATCH --exclusive --out=x\n#SBATCH--requeue\n#MUSTER -Wp big\necho\n#SBATCH --nodes=9\n";
        let layer = read(script).unwrap();
        for (option, text) in [
            (Opt::Time, Some("10")),
            (Opt::Ntasks, Some("4")),
            (Opt::CpusPerTask, Some("2")),
            (Opt::JobName, Some("a b")),
            (Opt::Exclusive, Some("")),
            (Opt::Output, Some("x")),
            (Opt::Requeue, Some("")),
            (Opt::Wait, Some("")),
            (Opt::Pool, Some("big")),
            (Opt::Nodes, None),
        ] {
            assert_eq!(value(&layer, option), text, "{option:?}");
        }
        assert_eq!(layer.get(Opt::Ntasks).unwrap().origin.to_string(), "job.sh:3: #SBATCH -n4 -c 2: -n");
    }

    #[test]
    fn the_later_directive_wins() {
        let layer =
            read("#!/bin/sh\n#MUSTER -t 5\n#SBATCH -t 6\n#SBATCH --requeue\n#MUSTER --no-requeue\n").unwrap();
        assert_eq!(value(&layer, Opt::Time), Some("6"));
        assert!(layer.has(Opt::NoRequeue) && !layer.has(Opt::Requeue));
    }

    #[test]
    fn mistakes_name_their_place_and_what_would_be_right() {
        for (line, message) in [
            (
                "#SBATCH --ntask-per-nod=2",
                "job.sh:2: #SBATCH --ntask-per-nod=2: there is no option --ntask-per-nod, did you mean --ntasks-per-node?",
            ),
            ("#SBATCH --zzz", "job.sh:2: #SBATCH --zzz: there is no option --zzz"),
            ("#SBATCH -Z", "job.sh:2: #SBATCH -Z: there is no option -Z"),
            (
                "#SBATCH --mail=x",
                "job.sh:2: #SBATCH --mail=x: --mail could be --mail-type or --mail-user: write more of it",
            ),
            ("#SBATCH -t", "job.sh:2: #SBATCH -t: -t needs a value after it"),
            ("#SBATCH --requeue=1", "job.sh:2: #SBATCH --requeue=1: --requeue takes no value"),
            (
                "#SBATCH hetjob",
                "job.sh:2: #SBATCH hetjob: 'hetjob' is not an option: options start with - or --, and a remark with #",
            ),
            ("#SBATCH -J 'x", "job.sh:2: #SBATCH -J 'x: a quote is not closed"),
            (
                "#SBATCH -O",
                "job.sh:2: #SBATCH -O: -O is an option of Slurm that Muster does not have: each rank has cores of its own; take it out",
            ),
        ] {
            assert_eq!(read(&format!("#!/bin/sh\n{line}\n")).unwrap_err().to_string(), message);
        }
        let gres = read("#!/bin/sh\n#SBATCH --gpus-per-socket=1").unwrap_err().to_string();
        assert!(gres.contains("--gpus-per-socket") && gres.contains("--gres"), "{gres}");
    }

    #[test]
    fn harmless_options_are_ignored_with_a_warning() {
        let mut warnings = Vec::new();
        let script = "#!/bin/sh\n#SBATCH --profile=a -q x\n#SBATCH --cpu-freq 3 --no-kill --use-min-nodes\n#SBATCH -n2 -A y\n";
        let layer = read_directives("job.sh", script, |warning| warnings.push(warning.to_owned())).unwrap();
        assert_eq!(warnings.len(), 3);
        assert_eq!(
            warnings[0],
            "job.sh:2: #SBATCH --profile=a -q x: --profile is ignored: use is measured for every job"
        );
        assert_eq!((value(&layer, Opt::Qos), value(&layer, Opt::Account)), (Some("x"), Some("y")));
        assert_eq!(value(&layer, Opt::Ntasks), Some("2"));
    }

    proptest::proptest! {
        #[test]
        fn no_script_makes_the_reader_panic(text in "(#SBATCH|#MUSTER)? [-=a-z0-9'\"#%\\\\ ,é]{0,60}") {
            let _ = read_directives("job.sh", &format!("#!/bin/sh\n{text}\n"), |_| {});
        }

        #[test]
        fn a_quoted_value_comes_out_as_it_went_in(value in "[ -~&&[^']]{0,40}") {
            let script = format!("#!/bin/sh\n#SBATCH --job-name='{value}' # a remark\n");
            let layer = read(&script).unwrap();
            proptest::prop_assert_eq!(&layer.get(Opt::JobName).unwrap().value, &value);
        }
    }
}
