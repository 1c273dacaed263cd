//! Texts for tests of parsers: valid ones with a few places changed, which reach deeper than any text does.

use proptest::prelude::*;

/// One of `valid` with up to `changes` characters taken out, put in, or replaced, or parts of it doubled.
pub fn mutated(valid: Vec<String>, changes: usize) -> impl Strategy<Value = String> {
    let change =
        (any::<prop::sample::Index>(), 0..5u8, prop_oneof!["[ -~]", "[0-9:,%\\[\\]{}\"&|!-]", "\\PC"]);
    (prop::sample::select(valid), prop::collection::vec(change, 0..=changes)).prop_map(|(text, changes)| {
        let mut chars: Vec<char> = text.chars().collect();
        for (at, how, new) in changes {
            let at = at.index(chars.len() + 1);
            match how {
                0 if at < chars.len() => drop(chars.remove(at)),
                1 if at < chars.len() => chars[at] = new.chars().next().unwrap_or('x'),
                2 => chars.truncate(at),
                3 => {
                    let again: Vec<char> = chars[at..chars.len().min(at + 8)].to_vec();
                    chars.splice(at..at, again);
                }
                _ => drop(chars.splice(at..at, new.chars()).collect::<Vec<_>>()),
            }
        }
        chars.into_iter().collect()
    })
}

/// The same of texts that are written in a test.
pub fn of(valid: &[&str], changes: usize) -> impl Strategy<Value = String> {
    mutated(valid.iter().map(|text| (*text).to_owned()).collect(), changes)
}
