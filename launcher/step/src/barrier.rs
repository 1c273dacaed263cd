//! A barrier over parts of a step, which only those who bring something know: what all of them have brought is passed on
//! as one.

use std::collections::BTreeMap;

/// What the parts have brought since the last time.
#[derive(Debug)]
pub(crate) struct Barrier {
    /// Which parts are in the barrier of PMI.
    inside: Vec<bool>,
    pairs: BTreeMap<String, String>,
    /// The same for PMIx, by part: bytes that only its servers understand.
    blobs: Vec<Option<Vec<u8>>>,
}

impl Barrier {
    /// A barrier in which nobody is.
    pub fn new(parts: usize) -> Self {
        Self { inside: vec![false; parts], pairs: BTreeMap::new(), blobs: vec![None; parts] }
    }

    /// A part is in the barrier of PMI. Gives the pairs of all once all are in it, which opens it.
    pub fn bring(
        &mut self,
        part: usize,
        pairs: BTreeMap<String, String>,
    ) -> Option<BTreeMap<String, String>> {
        self.pairs.extend(pairs);
        *self.inside.get_mut(part)? = true;
        if self.inside.contains(&false) {
            return None;
        }
        self.inside.fill(false);
        Some(std::mem::take(&mut self.pairs))
    }

    /// The same for PMIx: what all have brought, one after the other.
    pub fn bring_bytes(&mut self, part: usize, bytes: Vec<u8>) -> Option<Vec<u8>> {
        *self.blobs.get_mut(part)? = Some(bytes);
        if self.blobs.contains(&None) {
            return None;
        }
        Some(self.blobs.iter_mut().filter_map(Option::take).flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_when_all_are_there_and_not_twice() {
        let mut barrier = Barrier::new(2);
        let pair = |key: &str| BTreeMap::from([(key.to_owned(), key.to_owned())]);
        for _ in 0..2 {
            assert_eq!(barrier.bring(1, pair("a")), None);
            assert_eq!(barrier.bring(0, pair("b")).map(|pairs| pairs.len()), Some(2));
            assert_eq!(barrier.bring_bytes(1, b"x".to_vec()), None);
            assert_eq!(barrier.bring_bytes(0, b"y".to_vec()), Some(b"yx".to_vec()));
        }
        assert_eq!(barrier.bring(2, pair("c")), None);
    }
}
