//! `--array`: indices with steps, and how many run at once.

use std::collections::BTreeSet;

use muster_core::notation::parse_ranges;
use muster_core::spec::{ARRAY_ELEMENTS_MAX, ARRAY_INDEX_MAX, ArraySpec, IndexRange};

use super::layer::{Origin, Said};
use crate::error::CliError;

/// Reads `0-15:4,20%2`.
pub(crate) fn read(said: &Said) -> Result<ArraySpec, CliError> {
    let Said { value, origin } = said;
    let (list, limit) = match value.split_once('%') {
        Some((list, limit)) => (list, Some(running_max(limit, origin)?)),
        None => (value.as_str(), None),
    };
    let parsed = parse_ranges(list, ARRAY_INDEX_MAX)
        .map_err(|source| CliError::Notation { origin: origin.clone(), source })?;
    let mut ranges: Vec<IndexRange> = parsed.into_iter().map(IndexRange::from).collect();
    let wrong = |right| CliError::Value { origin: origin.clone(), value: value.clone(), right };
    if ranges.is_empty() {
        return Err(wrong("write indices, such as 0-9 or 1,3,5-20:5%4"));
    }
    if ranges.iter().map(IndexRange::len).sum::<u64>() > ARRAY_ELEMENTS_MAX {
        return Err(wrong("an array has at most 4,000,000 elements"));
    }
    ranges.sort_by_key(|range| range.first);
    if ranges.windows(2).any(|pair| pair[1].first <= pair[0].last) {
        ranges = disjoint(&ranges);
    }
    Ok(ArraySpec { indices: ranges, running_max: limit })
}

fn running_max(text: &str, origin: &Origin) -> Result<u32, CliError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|limit| digits && *limit > 0).ok_or_else(|| CliError::Number {
        origin: origin.clone(),
        value: text.to_owned(),
        min: 1,
        max: i64::from(u32::MAX),
    })
}

/// The same indices in ranges that do not reach into each other.
fn disjoint(ranges: &[IndexRange]) -> Vec<IndexRange> {
    let indices: BTreeSet<u32> = ranges.iter().flat_map(IndexRange::indices).collect();
    let mut out: Vec<IndexRange> = Vec::new();
    for index in indices {
        match out.last_mut() {
            Some(range) if range.first == range.last => {
                *range = IndexRange { last: index, step: index - range.first, ..*range }
            }
            Some(range) if range.last.checked_add(range.step) == Some(index) => range.last = index,
            _ => out.push(IndexRange { first: index, last: index, step: 1 }),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<ArraySpec, CliError> {
        let origin = Origin::CommandLine { option: "--array".to_owned() };
        read(&Said { value: text.to_owned(), origin })
    }

    fn indices(spec: &ArraySpec) -> Vec<u32> {
        spec.indices.iter().flat_map(IndexRange::indices).collect()
    }

    #[test]
    fn arrays_are_read_with_steps_and_limit() {
        for (text, expected, limit) in [
            ("0-3", vec![0, 1, 2, 3], None),
            ("0-15:4%2", vec![0, 4, 8, 12], Some(2)),
            ("7,1-3", vec![1, 2, 3, 7], None),
            ("0-10:2,1-11:2", (0..12).collect(), None),
            ("1-5,3,3,4-6", vec![1, 2, 3, 4, 5, 6], None),
            ("0,0-8:8", vec![0, 8], None),
        ] {
            let spec = read_text(text).unwrap();
            assert_eq!(indices(&spec), expected, "{text}");
            assert_eq!(spec.running_max, limit, "{text}");
            assert!(spec.indices.windows(2).all(|pair| pair[0].last < pair[1].first), "{text}: {spec:?}");
        }
        assert_eq!(read_text("0-3999999").unwrap().indices.len(), 1);
        for text in ["", "%2", "1-", "1-2%0", "1-2%x", "1-2%+1", "3-1", "0-4000000", "1000000001", "a"] {
            let message = read_text(text).unwrap_err().to_string();
            assert!(message.starts_with("--array: "), "{text}: {message}");
        }
    }

    proptest::proptest! {
        #[test]
        fn an_array_holds_the_indices_that_were_written(numbers in proptest::collection::vec((0u32..300, 0u32..40, 1u32..6), 1..6)) {
            let text: Vec<String> = numbers.iter().map(|(a, n, step)| format!("{a}-{}:{step}", a + n)).collect();
            let wanted: BTreeSet<u32> =
                numbers.iter().flat_map(|(a, n, step)| (*a..=a + n).step_by(*step as usize)).collect();
            let spec = read_text(&text.join(",")).unwrap();
            proptest::prop_assert_eq!(indices(&spec), wanted.into_iter().collect::<Vec<_>>());
            proptest::prop_assert!(spec.indices.windows(2).all(|pair| pair[0].last < pair[1].first));
        }
    }
}
