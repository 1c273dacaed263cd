//! What an attempt is to do, in the parts in which its node is told: whoever only passes it on reads none of it, and who has read what all
//! tasks of an array are told alike need not read it again.

use bytes::Bytes;
use prost::{DecodeError, Message as _};

use crate::v1;

impl v1::Prepare {
    /// What is to be done, of all its parts: what comes later prevails. `None` if there is none.
    ///
    /// # Errors
    ///
    /// If a part cannot be decoded.
    pub fn decode_work(&self) -> Result<Option<v1::Work>, DecodeError> {
        let mut all = None;
        for part in &self.work {
            all.get_or_insert_with(v1::Work::default).merge(part.clone())?;
        }
        Ok(all)
    }

    /// Adds a part.
    pub fn add_work(&mut self, part: &v1::Work) {
        self.work.push(Bytes::from(part.encode_to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_later_prevails() {
        let mut prepare = v1::Prepare::default();
        assert_eq!(prepare.decode_work().unwrap(), None);
        let common = v1::Work { job_name: "sweep".into(), umask: 18, ..v1::Work::default() };
        prepare.add_work(&common);
        prepare.add_work(&v1::Work { umask: 23, stdout_path: "/out".into(), ..v1::Work::default() });
        let all = v1::Work { umask: 23, stdout_path: "/out".into(), ..common };
        assert_eq!(prepare.decode_work().unwrap(), Some(all));
        prepare.work.push(Bytes::from_static(b"\xff\xff"));
        assert!(prepare.decode_work().is_err());
    }
}
