//! The values of a step's options, as srun(1) writes them.

use crate::StepError;
use crate::client::Redirect;
use crate::frames::{CpuBind, Wireup};
use crate::lists::{parse_list, parse_mask};
use crate::tree;
use crate::words::Distribution;

/// A value, and what of it is not followed: a sentence for the user.
pub type Read<T> = (T, Option<String>);

fn wrong(option: &'static str, value: &str, wanted: &str) -> StepError {
    StepError::Value { option, value: value.to_owned(), wanted: wanted.to_owned() }
}

/// A count such as `-n`'s.
///
/// # Errors
///
/// [`StepError::Value`] if it is none, or zero.
pub fn count(option: &'static str, value: &str) -> Result<u32, StepError> {
    let count = value.trim().parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| wrong(option, value, "a number of at least 1 is wanted"))
}

/// `--tree-width`: Slurm's `TreeWidth`.
///
/// # Errors
///
/// [`StepError::Value`] if it is none.
pub fn tree_width(value: &str) -> Result<u32, StepError> {
    let width = value.trim().parse().ok().filter(|width| (1..=tree::WIDTH_MAX).contains(width));
    width.ok_or_else(|| {
        wrong("--tree-width", value, &format!("a number from 1 to {} is wanted", tree::WIDTH_MAX))
    })
}

/// `-N 2` or `-N 2-4`.
///
/// # Errors
///
/// [`StepError::Value`] if it is neither.
pub fn nodes(value: &str) -> Result<(u32, u32), StepError> {
    let (least, most) = value.split_once('-').unwrap_or((value, value));
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|count| *count > 0);
    match (number(least), number(most)) {
        (Some(least), Some(most)) if least <= most => Ok((least, most)),
        _ => Err(wrong("--nodes", value, "a count of nodes such as 2, or a range such as 2-4, is wanted")),
    }
}

/// How ranks go to nodes: the first part of `-m`. Cores are always taken in the order of the allocation.
///
/// # Errors
///
/// [`StepError::Value`] if it is no distribution.
pub fn distribution(value: &str) -> Result<Read<Option<Distribution>>, StepError> {
    let text = value.to_ascii_lowercase();
    let text = text.split(',').next().unwrap_or_default();
    let (over_nodes, over_sockets) = text.split_once(':').unwrap_or((text, "block"));
    let wanted = "block, cyclic, plane=SIZE or arbitrary is wanted";
    let found = match over_nodes {
        "block" | "*" | "" => Some(Distribution::Block),
        "cyclic" => Some(Distribution::Cyclic),
        "arbitrary" => None,
        plane => {
            let size =
                plane.strip_prefix("plane=").and_then(|size| size.parse().ok()).filter(|size| *size > 0);
            Some(Distribution::Plane(size.ok_or_else(|| wrong("--distribution", value, wanted))?))
        }
    };
    let followed = over_sockets.split(':').all(|part| matches!(part, "block" | "*" | ""));
    let left =
        (!followed).then(|| format!("--distribution={value}: ranks take the cores of a node in their order"));
    Ok((found, left))
}

/// `--cpu-bind`.
///
/// # Errors
///
/// [`StepError::Value`] if it is no binding.
pub fn cpu_bind(value: &str) -> Result<Read<CpuBind>, StepError> {
    let mut rest = value;
    for word in ["quiet,", "verbose,", "q,", "v,"] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let lists =
        |list: &str| list.split(',').map(parse_list).collect::<Option<Vec<_>>>().map(|lists| lists.concat());
    let bad = || {
        wrong(
            "--cpu-bind",
            value,
            "none, cores, threads, rank, map_cpu:LIST or mask_cpu:LIST is wanted; verbose may stand before it",
        )
    };
    let bind = match rest.split_once(':') {
        Some(("map_cpu", list)) => CpuBind::Map(lists(list).ok_or_else(bad)?),
        Some(("mask_cpu", list)) => {
            CpuBind::Masks(list.split(',').map(parse_mask).collect::<Option<Vec<_>>>().ok_or_else(bad)?)
        }
        Some(_) => return Err(bad()),
        None => match rest {
            "none" | "no" => CpuBind::None,
            "cores" | "core" | "yes" | "" | "quiet" | "verbose" | "q" | "v" => CpuBind::Cores,
            "threads" | "thread" => CpuBind::Threads,
            "rank" => CpuBind::Rank,
            "sockets" | "ldoms" | "boards" => {
                let text =
                    format!("--cpu-bind={rest}: ranks may use all cores that the step has on their node");
                return Ok((CpuBind::None, Some(text)));
            }
            _ => return Err(bad()),
        },
    };
    Ok((bind, None))
}

/// Whether `--cpu-bind` asks that it is told where ranks are bound.
pub fn is_verbose(value: &str) -> bool {
    value.split(',').take_while(|word| !word.contains(':')).any(|word| matches!(word, "verbose" | "v"))
}

/// The kinds of `--mpi`, as `--mpi=list` shows them.
pub const MPI_KINDS: [&str; 3] = ["none", "pmi2", "pmix"];

/// `--mpi`; `None` for `list`.
///
/// # Errors
///
/// [`StepError::Value`] if it is no kind.
pub fn mpi(value: &str) -> Result<Option<Wireup>, StepError> {
    Ok(Some(match value {
        "list" => return Ok(None),
        "none" | "openmpi" => Wireup::None,
        "pmi" | "pmi1" | "pmi2" | "mpich" | "cray_shasta" => Wireup::Pmi,
        "auto" => Wireup::Auto,
        version if version == "pmix" || version.starts_with("pmix_v") => Wireup::Pmix,
        _ => return Err(wrong("--mpi", value, "none, pmi2 or pmix is wanted, see --mpi=list")),
    }))
}

/// `-o`, `-e` and `-i`.
pub fn redirect(value: &str) -> Redirect {
    match value {
        "all" | "" => Redirect::Own,
        "none" => Redirect::Nothing,
        text => text.parse().map_or_else(|_| Redirect::File(text.to_owned()), Redirect::Rank),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_sruns_manual_has_them() {
        assert_eq!(nodes("2-4").unwrap(), (2, 4));
        assert_eq!(nodes("3").unwrap(), (3, 3));
        assert_eq!(tree_width("2").unwrap(), 2);
        assert!(tree_width("0").is_err() && tree_width("65534").is_err());
        assert!(nodes("4-2").is_err() && nodes("0").is_err() && count("--ntasks", "x").is_err());
        assert_eq!(distribution("plane=4").unwrap().0, Some(Distribution::Plane(4)));
        assert_eq!(distribution("cyclic:block").unwrap(), (Some(Distribution::Cyclic), None));
        assert!(distribution("block:cyclic").unwrap().1.is_some());
        assert_eq!(distribution("arbitrary").unwrap().0, None);
        assert!(distribution("plane=0").is_err() && distribution("spiral").is_err());
        assert_eq!(cpu_bind("quiet,map_cpu:0,2-3").unwrap().0, CpuBind::Map(vec![0, 2, 3]));
        assert_eq!(cpu_bind("mask_cpu:0x3,0xc").unwrap().0, CpuBind::Masks(vec![vec![0, 1], vec![2, 3]]));
        assert_eq!(cpu_bind("verbose,none").unwrap().0, CpuBind::None);
        assert_eq!(cpu_bind("verbose").unwrap().0, CpuBind::Cores);
        assert_eq!(
            ["verbose", "v,cores", "verbose,map_cpu:0", "cores", "map_cpu:0"].map(is_verbose),
            [true, true, true, false, false]
        );
        assert!(cpu_bind("sockets").unwrap().1.is_some());
        assert!(cpu_bind("map_cpu:x").is_err() && cpu_bind("tightly").is_err());
        assert_eq!(mpi("pmix_v4").unwrap(), Some(Wireup::Pmix));
        assert_eq!(mpi("list").unwrap(), None);
        assert!(mpi("bogus").is_err());
        assert_eq!(redirect("none"), Redirect::Nothing);
        assert_eq!(redirect("3"), Redirect::Rank(3));
        assert_eq!(redirect("out.%t"), Redirect::File("out.%t".into()));
    }
}
