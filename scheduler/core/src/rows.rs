//! How what is kept in thousands is written down: in rows of numbers, in which zeros at the end are left out, behind what the rows have in
//! common.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A row of at most `N` numbers. What is missing at its end is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row<const N: usize>(pub [i64; N]);

impl<const N: usize> Serialize for Row<N> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let len = self.0.iter().rposition(|number| *number != 0).map_or(0, |last| last + 1);
        let mut row = out.serialize_seq(Some(len))?;
        self.0[..len].iter().try_for_each(|number| row.serialize_element(number))?;
        row.end()
    }
}

impl<'de, const N: usize> Deserialize<'de> for Row<N> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_seq(Numbers)
    }
}

struct Numbers<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for Numbers<N> {
    type Value = Row<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {N} whole numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Row<N>, A::Error> {
        let mut row = [0; N];
        let mut len = 0;
        while let Some(number) = numbers.next_element()? {
            *row.get_mut(len).ok_or_else(|| A::Error::invalid_length(len + 1, &self))? = number;
            len += 1;
        }
        Ok(Row(row))
    }
}

/// How far it is from one number to another, so that [`on_from`] finds the way however far that is.
pub(crate) fn step(from: u64, to: u64) -> i64 {
    to.wrapping_sub(from).cast_signed()
}

/// Where a step from a number leads to.
pub(crate) fn on_from(from: u64, step: i64) -> u64 {
    from.wrapping_add(step.cast_unsigned())
}

/// What rows have in common, each once, in the order in which it was met.
#[derive(Debug)]
pub(crate) struct Alike<T> {
    met: Vec<T>,
    numbers: HashMap<T, usize>,
}

impl<T> Default for Alike<T> {
    fn default() -> Self {
        Self { met: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Alike<T> {
    /// The number of what a row has in common with others.
    pub fn number(&mut self, common: T) -> i64 {
        // Neighbours are most often alike.
        let number = match self.met.last() == Some(&common) {
            true => self.met.len() - 1,
            false => *self.numbers.entry(common).or_insert_with_key(|common| {
                self.met.push(common.clone());
                self.met.len() - 1
            }),
        };
        number as i64
    }

    /// All of it, by its number.
    pub fn met(self) -> Vec<T> {
        self.met
    }
}

/// What has this number in what rows have in common.
pub(crate) fn numbered<T>(met: &[T], number: i64) -> Option<&T> {
    usize::try_from(number).ok().and_then(|number| met.get(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_at_the_end_are_left_out_and_found_again() {
        for (row, text) in
            [([0, 0, 0], "[]"), ([0, -7, 0], "[0,-7]"), ([1, 0, i64::MIN], "[1,0,-9223372036854775808]")]
        {
            assert_eq!(serde_json::to_string(&Row(row)).unwrap(), text);
            assert_eq!(serde_json::from_str::<Row<3>>(text).unwrap(), Row(row));
        }
        let error = serde_json::from_str::<Row<3>>("[1,2,3,4]").unwrap_err().to_string();
        assert!(error.starts_with("invalid length 4, expected a list of at most 3 whole numbers"), "{error}");
    }

    #[test]
    fn every_step_leads_to_where_it_was_taken_to() {
        for (from, to) in [(0, u64::MAX), (u64::MAX, 0), (5, 3), (0, 1 << 63), (u64::MAX / 2, u64::MAX)] {
            assert_eq!(on_from(from, step(from, to)), to);
        }
    }
}
