//! Checksums of what the database holds: CRC-32 (ISO-HDLC, as in zlib) over the numbers of the row, each as eight
//! bytes, least significant first, and then its body.

/// The numbers that stand beside a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Sequence number.
    pub seq: i64,
    /// Instant, in microseconds since 1970.
    pub at_us: i64,
    /// Version of the body.
    pub version: i64,
}

/// A checksum that is still being added up.
#[derive(Debug, Clone)]
pub(crate) struct Checksum(crc32fast::Hasher);

impl Checksum {
    pub fn of(head: Head) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        for number in [head.seq, head.at_us, head.version] {
            hasher.update(&number.to_le_bytes());
        }
        Self(hasher)
    }

    pub fn with(mut self, body: &[u8]) -> Self {
        self.add(body);
        self
    }

    pub fn add(&mut self, body: &[u8]) {
        self.0.update(body);
    }

    /// As SQLite keeps it.
    pub fn value(self) -> i64 {
        i64::from(self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::{Checksum, Head};

    #[test]
    fn every_part_of_a_row_counts() {
        let head = Head { seq: 1, at_us: 2, version: 3 };
        let whole = Checksum::of(head).with(b"body").value();
        assert_eq!(whole, 0xc679_fa26, "the value is kept in databases for ever");
        let others = [
            (Head { seq: 2, ..head }, "body"),
            (Head { at_us: 3, ..head }, "body"),
            (Head { version: 4, ..head }, "body"),
            (head, "Body"),
            (head, "bod"),
        ];
        for (head, body) in others {
            assert_ne!(Checksum::of(head).with(body.as_bytes()).value(), whole, "{head:?} {body}");
        }
        assert_eq!(Checksum::of(head).with(b"bo").with(b"dy").value(), whole, "it is added up in parts");
    }
}
