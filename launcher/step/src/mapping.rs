//! Which node each rank is on, in PMI's words.

/// The value of the PMI key `PMI_process_mapping`, from which an MPI library knows which ranks share a node:
/// `(vector,(FIRST NODE,NODES,RANKS EACH),...)`; when the list is used up, it begins anew.
///
/// `nodes` is the position of each rank's node, by rank.
pub fn process_mapping(nodes: &[u32]) -> String {
    let mut blocks: Vec<(u32, u32, u32)> = Vec::new();
    for run in nodes.chunk_by(|left, right| left == right) {
        let (node, length) = (run[0], run.len() as u32);
        match blocks.last_mut() {
            Some((first, count, each)) if *each == length && *first + *count == node => *count += 1,
            _ => blocks.push((node, 1, length)),
        }
    }
    let whole = (1..=blocks.len()).find(|size| {
        blocks.len().is_multiple_of(*size) && blocks.chunks(*size).all(|part| part == &blocks[..*size])
    });
    blocks.truncate(whole.unwrap_or(blocks.len()));
    let blocks: Vec<String> =
        blocks.iter().map(|(first, count, each)| format!("({first},{count},{each})")).collect();
    format!("(vector,{})", blocks.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_turns_are_written_short() {
        for (nodes, text) in [
            (vec![0, 0, 1, 1], "(vector,(0,2,2))"),
            (vec![0, 0, 1, 1, 2], "(vector,(0,2,2),(2,1,1))"),
            (vec![0, 1, 2, 0, 1, 2], "(vector,(0,3,1))"),
            (vec![0, 1, 0], "(vector,(0,2,1),(0,1,1))"),
            (vec![0], "(vector,(0,1,1))"),
        ] {
            assert_eq!(process_mapping(&nodes), text);
        }
    }
}
