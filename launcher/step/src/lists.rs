//! Lists of numbers such as `0-3,8`.

/// Writes ascending ranges, without repetition.
pub fn format_list(numbers: &[u32]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut parts = Vec::new();
    for run in sorted.chunk_by(|left, right| left + 1 == *right) {
        match run {
            [first, .., last] => parts.push(format!("{first}-{last}")),
            only => parts.extend(only.iter().map(u32::to_string)),
        }
    }
    parts.join(",")
}

/// The longest list that is read, in numbers.
const NUMBERS_MAX: u32 = 1 << 16;

/// Reads a list; the order is kept. `None` if it is none, or too long.
pub fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        if last < first || last - first >= NUMBERS_MAX {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// A mask of CPU numbers as Slurm writes it: `0x3`.
pub fn format_mask(cpus: &[u32]) -> String {
    let width = cpus.iter().max().map_or(1, |max| *max as usize / 4 + 1);
    let mut digits = vec![0u8; width];
    for cpu in cpus {
        digits[width - 1 - *cpu as usize / 4] |= 1 << (cpu % 4);
    }
    let digits = digits.into_iter().map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0'));
    format!("0x{}", digits.collect::<String>())
}

/// The CPUs of a mask such as `0x3` or `f`.
pub fn parse_mask(text: &str) -> Option<Vec<u32>> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.is_empty() {
        return None;
    }
    let mut cpus = Vec::new();
    for (place, digit) in digits.chars().rev().enumerate() {
        let digit = digit.to_digit(16)?;
        let first = u32::try_from(place).ok()? * 4;
        cpus.extend((0..4).filter(|bit| digit & (1 << bit) != 0).map(|bit| first + bit));
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_masks_go_round() {
        assert_eq!(format_list(&[3, 0, 1, 2, 8]), "0-3,8");
        assert_eq!(parse_list("0-2,8"), Some(vec![0, 1, 2, 8]));
        for wrong in ["", "x", "3-1", "0-99999999", "1,,2"] {
            assert_eq!(parse_list(wrong), None, "{wrong}");
        }
        for (cpus, mask) in [(vec![0], "0x1"), (vec![0, 1, 5], "0x23"), (vec![64], "0x10000000000000000")] {
            assert_eq!(format_mask(&cpus), mask);
            assert_eq!(parse_mask(mask), Some(cpus));
        }
        assert_eq!(parse_mask("F"), Some(vec![0, 1, 2, 3]));
        assert_eq!(parse_mask("0xg"), None);
    }
}
