//! Known contents and closed forms, against which what arrives is compared.

use crate::splitmix;

/// Byte number `index` of the message of a given length.
///
/// It depends on both, so that a message that is cut, shifted or left over from another size is found.
#[must_use]
pub fn message_byte(length: usize, index: usize) -> u8 {
    splitmix::mix((length as u64) << 32 ^ index as u64) as u8
}

/// The message of a given length.
#[must_use]
pub fn message(length: usize) -> Vec<u8> {
    (0..length).map(|index| message_byte(length, index)).collect()
}

/// How many bytes differ from the message that bounced `bounces` times; every receiver adds one to the first
/// byte before it answers, so that a stale buffer cannot pass.
#[must_use]
pub fn wrong_bytes(received: &[u8], bounces: usize) -> usize {
    let length = received.len();
    received
        .iter()
        .enumerate()
        .filter(|(index, byte)| {
            let added = if *index == 0 { bounces as u8 } else { 0 };
            **byte != message_byte(length, *index).wrapping_add(added)
        })
        .count()
}

/// Values repeat after this many elements, so that all sums stay exact in 53 bits for up to a million ranks.
const VALUE_PERIOD: usize = 4096;

/// What a rank adds to element `index` of a sum.
#[must_use]
pub fn summand(rank: usize, index: usize) -> f64 {
    ((rank + 1) * (index % VALUE_PERIOD + 1)) as f64
}

/// The sum of [`summand`] over all ranks; exact, whatever the order of the additions.
#[must_use]
pub fn expected_sum(ranks: usize, index: usize) -> f64 {
    (ranks * (ranks + 1) / 2 * (index % VALUE_PERIOD + 1)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closed_form_is_the_sum() {
        for ranks in [1, 2, 3, 8, 100] {
            for index in [0, 1, 4095, 4096, 1_000_000] {
                let sum: f64 = (0..ranks).map(|rank| summand(rank, index)).sum();
                assert_eq!(sum.to_bits(), expected_sum(ranks, index).to_bits());
            }
        }
    }

    #[test]
    fn wrong_messages_are_found() {
        let mut bytes = message(64);
        assert_eq!(wrong_bytes(&bytes, 0), 0);
        assert_eq!(wrong_bytes(&bytes, 1), 1, "a bounce that did not happen");
        bytes[0] = bytes[0].wrapping_add(3);
        assert_eq!(wrong_bytes(&bytes, 3), 0);
        assert_eq!(wrong_bytes(&bytes, 259), 0, "the counter wraps like the byte");
        bytes[63] ^= 1;
        assert_eq!(wrong_bytes(&bytes, 3), 1);
        assert!(wrong_bytes(&message(65)[1..], 0) > 32, "a shifted message");
    }
}
