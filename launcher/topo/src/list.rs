//! Lists of small numbers in the kernel's notation, `0-3,8`.

use crate::TopoError;

/// The most numbers a list may name. It is a guard against `0-4294967295`, far above any node's CPU count.
pub const LIST_LENGTH_MAX: usize = 1 << 16;

/// Writes numbers as the kernel writes CPU lists: ascending, runs joined, `0-3,8`. No numbers give an empty text.
///
/// Order and repetition of the input do not matter.
pub fn format_list(numbers: &[u32]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut parts = Vec::new();
    for run in sorted.chunk_by(|left, right| left + 1 == *right) {
        match run {
            [only] => parts.push(only.to_string()),
            [first, .., last] => parts.push(format!("{first}-{last}")),
            [] => {}
        }
    }
    parts.join(",")
}

/// Reads `0-3,8` into ascending numbers without repetition. Blanks round the parts are allowed; an empty text is
/// an empty list.
///
/// # Errors
///
/// [`TopoError::List`] names the part that is no number, no ascending range, or makes the list longer than
/// [`LIST_LENGTH_MAX`].
pub fn parse_list(text: &str) -> Result<Vec<u32>, TopoError> {
    let fail =
        |part: &str, problem| TopoError::List { text: text.to_owned(), part: part.to_owned(), problem };
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut numbers = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |digits: &str| digits.parse::<u32>().map_err(|_| fail(part, "is no number"));
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err(fail(part, "runs downwards"));
        }
        if (last - first) as usize >= LIST_LENGTH_MAX - numbers.len() {
            return Err(fail(part, "names too many numbers"));
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn writes_runs_and_single_numbers() {
        assert_eq!(format_list(&[8, 0, 1, 2, 3, 2]), "0-3,8");
        assert_eq!(format_list(&[5]), "5");
        assert_eq!(format_list(&[]), "");
        assert_eq!(format_list(&[u32::MAX - 1, u32::MAX]), "4294967294-4294967295");
    }

    #[test]
    fn reads_what_the_kernel_writes() {
        assert_eq!(parse_list("0-3,8\n").unwrap(), [0, 1, 2, 3, 8]);
        assert_eq!(parse_list("").unwrap(), Vec::<u32>::new());
    }

    #[test]
    fn names_the_wrong_part() {
        for (text, part) in
            [("0-3,x", "x"), ("3-1", "3-1"), ("1,,2", ""), ("0-4294967295", "0-4294967295"), ("-3", "-3")]
        {
            let message = parse_list(text).unwrap_err().to_string();
            assert!(message.contains(&format!("`{part}`")), "{message}");
        }
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(mut numbers in proptest::collection::vec(0u32..500, 0..60)) {
            let text = format_list(&numbers);
            numbers.sort_unstable();
            numbers.dedup();
            prop_assert_eq!(parse_list(&text).unwrap(), numbers);
        }
    }
}
