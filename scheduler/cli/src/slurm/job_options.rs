//! The options of jobs on the command lines of Slurm's commands: the same table as that of directives and of `muster submit`.

use super::getopt::{self, BadOption, Line, Order, Takes};
use crate::submit::{self, KNOWN, Layer, Meaning, Opt, Origin};

/// An option of the table, by its place there. Names of one option have one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(usize);

/// The table of options for [`getopt::read`].
pub(crate) fn table() -> Vec<getopt::Opt<Place>> {
    let names = KNOWN.iter().enumerate().map(|(at, known)| {
        let same = |other: &submit::Known| {
            other.meaning == known.meaning && matches!(known.meaning, Meaning::Set(_))
        };
        let first = KNOWN.iter().position(same).unwrap_or(at);
        getopt::Opt {
            key: Place(first),
            short: known.short,
            long: std::slice::from_ref(&known.long),
            takes: match known.takes {
                submit::Takes::Nothing => Takes::Nothing,
                submit::Takes::Value => Takes::Value,
                submit::Takes::Maybe => Takes::Maybe,
            },
        }
    });
    names.collect()
}

/// What a command line says of a job.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Its options.
    pub layer: Layer,
    /// The words that are no options: a program or script, and its arguments.
    pub words: Vec<String>,
    /// A sentence for each option that is ignored.
    pub ignored: Vec<String>,
}

/// An option that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// With its dashes.
    pub option: String,
    /// What to do.
    pub right: &'static str,
}

/// Why a command line cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadLine {
    /// It is no option, or not well written.
    Option(BadOption),
    /// It is an option of Slurm that is not to be had here.
    Refused(Refused),
}

/// Reads a command line.
pub(crate) fn read(words: &[String]) -> Result<Said, BadLine> {
    let line: Line<Place> = getopt::read(words, &table(), Order::ProgramLast).map_err(BadLine::Option)?;
    said(line)
}

/// What the options and words of a command line mean.
pub(crate) fn said(line: Line<Place>) -> Result<Said, BadLine> {
    let mut said = Said { words: line.words, ..Said::default() };
    for (Place(at), value) in line.options {
        let known = &KNOWN[at];
        let option = format!("--{}", known.long);
        match known.meaning {
            Meaning::Set(opt) => {
                said.layer.say(opt, value.unwrap_or_default(), Origin::CommandLine { option });
            }
            Meaning::SoAnyway => {}
            Meaning::Ignored(why) => said.ignored.push(format!("{option} is ignored: {why}")),
            Meaning::Refused(right) => return Err(BadLine::Refused(Refused { option, right })),
        }
    }
    Ok(said)
}

/// The name of an option in Slurm's messages, without dashes.
pub(crate) fn slurm_name(option: Opt) -> &'static str {
    let named = |known: &&submit::Known| known.meaning == Meaning::Set(option);
    // Of two names, Slurm's own comes last.
    match option {
        Opt::Pool => "partition",
        Opt::NtasksPerNode => "ntasks-per-node",
        _ => KNOWN.iter().find(named).map_or("", |known| known.long),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &str) -> Result<Said, BadLine> {
        read(&words.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_command_line_is_read_with_the_table_of_directives() {
        let line = said("-n2 --part a --tasks-per-node 3 -k --use-min-nodes job.sh -n 9").unwrap();
        let value = |option| line.layer.get(option).map(|said| said.value.as_str());
        assert_eq!((value(Opt::Ntasks), value(Opt::Pool)), (Some("2"), Some("a")));
        assert_eq!(value(Opt::NtasksPerNode), Some("3"));
        assert_eq!(line.words, ["job.sh", "-n", "9"]);
        assert!(line.ignored.len() == 1 && line.ignored[0].starts_with("--no-kill is ignored: "));
        assert!(
            matches!(said("-O x"), Err(BadLine::Refused(Refused { option, .. })) if option == "--overcommit")
        );
        assert!(matches!(said("--bogus"), Err(BadLine::Option(BadOption::Unrecognized(_)))));
    }

    #[test]
    fn options_have_slurms_names() {
        assert_eq!(slurm_name(Opt::Pool), "partition");
        assert_eq!(slurm_name(Opt::Time), "time");
    }
}
