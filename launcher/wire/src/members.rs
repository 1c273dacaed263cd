//! The members of a large gang, which each of its nodes is told: packed once, so that a gang of thousands of nodes is not told in
//! gigabytes.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use prost::Message as _;

use crate::{MESSAGE_BYTES_MAX, v1};

/// Why members cannot be packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// They are not what was packed.
    #[error("they cannot be unpacked")]
    Packing(#[source] std::io::Error),
    /// They are no members.
    #[error("they cannot be read")]
    Reading(#[source] prost::DecodeError),
    /// They are more than a message may hold.
    #[error("they take more than {MESSAGE_BYTES_MAX} bytes")]
    TooLarge,
}

/// Packs members for [`v1::Prepare::members_packed`].
///
/// # Errors
/// [`PackError`] if they are too many for a message.
pub fn pack_members(members: Vec<v1::Member>) -> Result<Bytes, PackError> {
    let plain = v1::Members { members }.encode_to_vec();
    if plain.len() > MESSAGE_BYTES_MAX {
        return Err(PackError::TooLarge);
    }
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&plain).and_then(|()| packer.finish()).map(Bytes::from).map_err(PackError::Packing)
}

/// Puts what is packed in the place of the members, if anything is.
///
/// # Errors
/// [`PackError`] if it cannot be unpacked.
pub fn unpack_members(prepare: &mut v1::Prepare) -> Result<(), PackError> {
    let packed = std::mem::take(&mut prepare.members_packed);
    if packed.is_empty() {
        return Ok(());
    }
    let mut plain = Vec::new();
    let most = MESSAGE_BYTES_MAX as u64 + 1;
    ZlibDecoder::new(&packed[..]).take(most).read_to_end(&mut plain).map_err(PackError::Packing)?;
    if plain.len() > MESSAGE_BYTES_MAX {
        return Err(PackError::TooLarge);
    }
    prepare.members = v1::Members::decode(&plain[..]).map_err(PackError::Reading)?.members;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: u32) -> Vec<v1::Member> {
        let member = |i: u32| v1::Member {
            host: format!("node{i:05}"),
            cores: (0..64).collect(),
            ranks: 64,
            devices: Vec::new(),
            address: format!("10.{}.{}.{}", i >> 16, i >> 8 & 255, i & 255),
        };
        (0..count).map(member).collect()
    }

    #[test]
    fn members_are_the_same_after_packing_and_much_smaller() {
        let all = members(4000);
        let packed = pack_members(all.clone()).unwrap();
        assert!(packed.len() < 64 << 10, "{} bytes", packed.len());
        let mut prepare = v1::Prepare { members_packed: packed, ..v1::Prepare::default() };
        unpack_members(&mut prepare).unwrap();
        assert_eq!(prepare.members, all);
        assert!(prepare.members_packed.is_empty());
        unpack_members(&mut prepare).unwrap();
        assert_eq!(prepare.members, all, "what is not packed stays");
    }

    #[test]
    fn what_is_no_packing_or_too_large_is_refused() {
        let unpack = |packed: Vec<u8>| {
            unpack_members(&mut v1::Prepare { members_packed: packed.into(), ..v1::Prepare::default() })
        };
        assert!(matches!(unpack(b"none".to_vec()).unwrap_err(), PackError::Packing(_)));
        let pack = |plain: &[u8]| {
            let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
            packer.write_all(plain).unwrap();
            packer.finish().unwrap()
        };
        assert!(matches!(unpack(pack(b"\xff\xff")).unwrap_err(), PackError::Reading(_)));
        let bomb = pack(&vec![0; MESSAGE_BYTES_MAX + 1]);
        assert!(bomb.len() < 1 << 20);
        assert!(matches!(unpack(bomb).unwrap_err(), PackError::TooLarge));
        assert!(matches!(pack_members(members(200_000)).unwrap_err(), PackError::TooLarge));
    }
}
