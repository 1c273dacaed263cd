//! Options as getopt_long(3) reads them, which is what Slurm's commands use: in any order, long ones abbreviated where
//! that is unambiguous, short ones glued together, and a value after `=` or a blank, or glued to a short option.

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// None.
    Nothing,
    /// One, which must be there.
    Value,
    /// One that may be left out; it is written `--name=value` or `-nvalue`, never after a blank.
    Maybe,
}

/// An option of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opt<K> {
    /// What the command calls it.
    pub key: K,
    /// Its letter, if it has one.
    pub short: Option<char>,
    /// Its long names; empty if it has none.
    pub long: &'static [&'static str],
    /// Whether it takes a value.
    pub takes: Takes,
}

/// What stands on a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line<K> {
    /// The options, in their order, with their values.
    pub options: Vec<(K, Option<String>)>,
    /// The other words.
    pub words: Vec<String>,
}

/// Where options end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Options may follow other words.
    Free,
    /// The first other word ends the options: it is a program with its own.
    ProgramLast,
}

/// What is wrong with an option, in the words of the GNU C library.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadOption {
    /// No such long option.
    #[error("unrecognized option '--{0}'")]
    Unrecognized(String),
    /// No such letter.
    #[error("invalid option -- '{0}'")]
    Invalid(char),
    /// An abbreviation of several.
    #[error("option '--{name}' is ambiguous; possibilities:{}", .all.iter().map(|one| format!(" '--{one}'")).collect::<String>())]
    Ambiguous {
        /// What was written.
        name: String,
        /// What it may mean.
        all: Vec<&'static str>,
    },
    /// A long option without its value.
    #[error("option '--{0}' requires an argument")]
    NoValue(&'static str),
    /// A letter without its value.
    #[error("option requires an argument -- '{0}'")]
    NoValueShort(char),
    /// A value for an option that takes none.
    #[error("option '--{0}' doesn't allow an argument")]
    NotTaken(&'static str),
}

/// Reads the words of a command line, without the program's name.
///
/// # Errors
/// The first option that is not right.
pub(crate) fn read<K: Copy + PartialEq>(
    words: &[String],
    table: &[Opt<K>],
    order: Order,
) -> Result<Line<K>, BadOption> {
    let mut line = Line { options: Vec::new(), words: Vec::new() };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            line.words.extend(rest.by_ref().cloned());
        } else if let Some(long) = word.strip_prefix("--") {
            line.options.push(read_long(long, table, &mut rest)?);
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            read_short(letters, table, &mut rest, &mut line)?;
        } else {
            line.words.push(word.clone());
            if order == Order::ProgramLast {
                line.words.extend(rest.by_ref().cloned());
            }
        }
    }
    Ok(line)
}

/// The option that `name` is, or abbreviates. An abbreviation of several names of one option is not ambiguous.
pub(crate) fn find_long<'t, K: Copy + PartialEq>(
    name: &str,
    table: &'t [Opt<K>],
) -> Result<(&'t Opt<K>, &'static str), BadOption> {
    let names = || table.iter().flat_map(|opt| opt.long.iter().map(move |long| (opt, *long)));
    if let Some(exact) = names().find(|(_, long)| *long == name) {
        return Ok(exact);
    }
    let begun: Vec<_> = names().filter(|(_, long)| long.starts_with(name)).collect();
    match begun.first() {
        None => Err(BadOption::Unrecognized(name.to_owned())),
        Some(first) if begun.iter().all(|(opt, _)| opt.key == first.0.key) => Ok(*first),
        Some(_) => Err(BadOption::Ambiguous {
            name: name.to_owned(),
            all: begun.iter().map(|(_, long)| *long).collect(),
        }),
    }
}

fn read_long<'w, K: Copy + PartialEq>(
    word: &str,
    table: &[Opt<K>],
    rest: &mut impl Iterator<Item = &'w String>,
) -> Result<(K, Option<String>), BadOption> {
    let (name, glued) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (word, None),
    };
    let (opt, long) = find_long(name, table).map_err(|bad| match bad {
        // The whole word is shown, with its value.
        BadOption::Unrecognized(_) => BadOption::Unrecognized(word.to_owned()),
        bad => bad,
    })?;
    let value = match (opt.takes, glued) {
        (Takes::Nothing, Some(_)) => return Err(BadOption::NotTaken(long)),
        (Takes::Value, None) => Some(rest.next().cloned().ok_or(BadOption::NoValue(long))?),
        (_, glued) => glued,
    };
    Ok((opt.key, value))
}

fn read_short<'w, K: Copy + PartialEq>(
    letters: &str,
    table: &[Opt<K>],
    rest: &mut impl Iterator<Item = &'w String>,
    line: &mut Line<K>,
) -> Result<(), BadOption> {
    for (at, letter) in letters.char_indices() {
        let opt = table.iter().find(|opt| opt.short == Some(letter)).ok_or(BadOption::Invalid(letter))?;
        let glued =
            Some(&letters[at + letter.len_utf8()..]).filter(|glued| !glued.is_empty()).map(str::to_owned);
        match opt.takes {
            Takes::Nothing => {
                line.options.push((opt.key, None));
                continue;
            }
            Takes::Maybe => line.options.push((opt.key, glued)),
            Takes::Value => {
                let value = glued.or_else(|| rest.next().cloned()).ok_or(BadOption::NoValueShort(letter))?;
                line.options.push((opt.key, Some(value)));
            }
        }
        return Ok(());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Opt<u8>] = &[
        Opt { key: 1, short: Some('n'), long: &["ntasks"], takes: Takes::Value },
        Opt { key: 2, short: None, long: &["ntasks-per-node", "tasks-per-node"], takes: Takes::Value },
        Opt { key: 3, short: Some('h'), long: &["noheader"], takes: Takes::Nothing },
        Opt { key: 4, short: Some('K'), long: &["kill-on-bad-exit"], takes: Takes::Maybe },
        Opt { key: 5, short: Some('o'), long: &["output", "out-file"], takes: Takes::Value },
        Opt { key: 6, short: Some('a'), long: &[], takes: Takes::Nothing },
    ];

    fn read_words(words: &str, order: Order) -> Result<Line<u8>, BadOption> {
        read(&words.split(' ').map(str::to_owned).collect::<Vec<_>>(), TABLE, order)
    }

    #[test]
    fn options_are_read_in_any_order_and_spelling() {
        let some = |text: &str| Some(text.to_owned());
        let line =
            read_words("12 -n2 -aho %j --tasks-p 4 --noheader -K -K0 --kill=1 x -- -n", Order::Free).unwrap();
        let right = [
            (1, some("2")),
            (6, None),
            (3, None),
            (5, some("%j")),
            (2, some("4")),
            (3, None),
            (4, None),
            (4, some("0")),
            (4, some("1")),
        ];
        assert_eq!(line.options, right);
        assert_eq!(line.words, ["12", "x", "-n"]);
        // Both names that begin so are the same option's.
        assert_eq!(read_words("--out=f", Order::Free).unwrap().options, [(5, some("f"))]);
        assert_eq!(read_words("-", Order::Free).unwrap().words, ["-"]);
    }

    #[test]
    fn a_program_keeps_its_own_options() {
        let line = read_words("-n 2 prog -n 3 --what", Order::ProgramLast).unwrap();
        assert_eq!(line.options, [(1, Some("2".to_owned()))]);
        assert_eq!(line.words, ["prog", "-n", "3", "--what"]);
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_the_c_library() {
        let said = |words: &str| read_words(words, Order::Free).unwrap_err().to_string();
        assert_eq!(said("--what=3"), "unrecognized option '--what=3'");
        assert_eq!(said("-hz"), "invalid option -- 'z'");
        assert_eq!(said("--nt"), "option '--nt' is ambiguous; possibilities: '--ntasks' '--ntasks-per-node'");
        assert_eq!(said("--ntasks"), "option '--ntasks' requires an argument");
        assert_eq!(said("-n"), "option requires an argument -- 'n'");
        assert_eq!(said("--noheader=1"), "option '--noheader' doesn't allow an argument");
    }
}
