//! Sizes as Slurm writes them.

/// A size with the largest unit that keeps it whole, as squeue and scontrol write memory: `100M`, `4G`; in whole MiB
/// without conversion.
pub(super) fn memory(bytes: u64, convert: bool) -> String {
    let mib = bytes >> 20;
    if mib == 0 {
        return "0".to_owned();
    }
    let (mut number, mut unit) = (mib, 0);
    while convert && number >= 1024 && number % 1024 == 0 && unit + 1 < UNITS.len() {
        number /= 1024;
        unit += 1;
    }
    format!("{number}{}", UNITS[unit])
}

const UNITS: [char; 4] = ['M', 'G', 'T', 'P'];

/// A count of trackable resources: `cpu=4,mem=4G,node=1,billing=4` and the devices after them.
pub(super) fn tres(cores: u64, memory_bytes: u64, nodes: u32, gres: &[(String, u64)]) -> String {
    let memory =
        if memory_bytes >> 20 > 0 { format!("mem={},", memory(memory_bytes, true)) } else { String::new() };
    let gres: String = gres.iter().map(|(kind, count)| format!(",gres/{kind}={count}")).collect();
    format!("cpu={cores},{memory}node={nodes},billing={cores}{gres}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_the_largest_whole_unit() {
        let sizes = [0, 1 << 20, 1500 << 20, 2 << 30, 1 << 50];
        assert_eq!(sizes.map(|bytes| memory(bytes, true)), ["0", "1M", "1500M", "2G", "1P"]);
        assert_eq!(memory(2 << 30, false), "2048M");
        assert_eq!(tres(4, 4 << 30, 1, &[("gpu".into(), 2)]), "cpu=4,mem=4G,node=1,billing=4,gres/gpu=2");
        assert_eq!(tres(1, 0, 1, &[]), "cpu=1,node=1,billing=1");
    }
}
