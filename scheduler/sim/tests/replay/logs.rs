//! Windows of logs of real sites against the reference tables.
//!
//! The logs come from the Parallel Workloads Archive and are no part of the sources; they are looked for in
//! `$MUSTER_SHARED/traces`, else in `shared/traces` beside the checkout. Where they are not, a small log with a known
//! schedule stands in for them, so that the way from a file to the numbers is always tested.

use std::path::{Path, PathBuf};

use muster_sim::replay::{Metrics, ReplayPolicy, Window, Workload};
use muster_sim::swf;

use super::{reference, run};

const KTH: &str = "KTH-SP2-1996-2.1-cln.swf.gz";
const HPC2N: &str = "HPC2N-2002-2.1-cln.swf.gz";
const CURIE: &str = "CEA-Curie-2011-2.1-cln.swf.gz";

/// A row of a reference table: average wait, 95 % wait, longest wait, average bounded slowdown, makespan.
type Row = (f64, u64, u64, f64, u64);

fn traces() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    std::env::var_os("MUSTER_SHARED").map_or_else(beside, PathBuf::from).join("traces")
}

fn metrics(log: &str, skip: usize, limit: usize, policy: ReplayPolicy) -> Option<Metrics> {
    let path = traces().join(log);
    if !path.exists() {
        eprintln!("{} is not there: set MUSTER_SHARED to the folder above traces/", path.display());
        return None;
    }
    let trace = swf::read_file(&path).expect("the log is a trace");
    let workload =
        Workload::from_trace(&trace, None, Window { skip, limit: Some(limit) }).expect("it has jobs");
    Some(Metrics::of(&run(&workload, policy), workload.processors))
}

/// Every number as the table prints it.
fn exact(log: &str, window: (usize, usize), policy: ReplayPolicy, row: Row) {
    let Some(found) = metrics(log, window.0, window.1, policy) else { return };
    let round = |value: f64, digits: f64| (value * digits).round() / digits;
    let found = (
        round(found.avg_wait_s, 10.0),
        found.p95_wait_s,
        found.max_wait_s,
        round(found.avg_bounded_slowdown, 100.0),
        found.makespan_s,
    );
    assert_eq!(found, row, "{policy} on {log}");
}

/// Average wait within 0.5 %, average bounded slowdown within 1 %.
fn close(log: &str, window: (usize, usize), policy: ReplayPolicy, wait_s: f64, slowdown: f64) {
    let Some(found) = metrics(log, window.0, window.1, policy) else { return };
    let off = |found: f64, expected: f64| (found / expected - 1.0).abs();
    assert!(
        off(found.avg_wait_s, wait_s) <= 0.005 && off(found.avg_bounded_slowdown, slowdown) <= 0.01,
        "{policy} on {log}: average wait {:.1} s, expected {wait_s}; slowdown {:.2}, expected {slowdown}",
        found.avg_wait_s,
        found.avg_bounded_slowdown
    );
}

#[test]
fn fcfs_on_kth() {
    exact(KTH, (0, 5000), ReplayPolicy::Fcfs, (155_772.4, 479_556, 562_101, 3913.14, 6_662_471));
    exact(KTH, (0, 10_000), ReplayPolicy::Fcfs, (290_031.6, 586_246, 705_687, 5609.55, 11_470_304));
}

#[test]
fn fcfs_on_hpc2n() {
    exact(HPC2N, (0, 5000), ReplayPolicy::Fcfs, (12_089.2, 59_806, 127_240, 174.82, 8_369_513));
}

#[test]
fn fcfs_on_curie() {
    exact(CURIE, (80_000, 10_000), ReplayPolicy::Fcfs, (18_172.7, 59_882, 73_056, 898.81, 864_531));
}

#[test]
fn easy_on_kth() {
    close(KTH, (0, 5000), ReplayPolicy::Easy, 8736.8, 123.44);
    close(KTH, (0, 10_000), ReplayPolicy::Easy, 7569.5, 106.92);
}

#[test]
fn easy_on_hpc2n() {
    close(HPC2N, (0, 5000), ReplayPolicy::Easy, 5702.3, 46.94);
}

#[test]
fn easy_on_curie() {
    close(CURIE, (80_000, 10_000), ReplayPolicy::Easy, 2310.3, 46.66);
}

#[test]
fn easy_shortest_first_on_kth() {
    close(KTH, (0, 5000), ReplayPolicy::EasySjbf, 7550.1, 96.60);
}

#[test]
fn shortest_first_with_easy_on_kth() {
    close(KTH, (0, 5000), ReplayPolicy::SjfEasy, 6389.1, 65.01);
}

#[test]
fn wfp3_with_easy_on_kth() {
    close(KTH, (0, 5000), ReplayPolicy::Wfp3Easy, 6467.1, 77.44);
}

#[test]
fn f1_with_easy_on_kth() {
    close(KTH, (0, 5000), ReplayPolicy::F1Easy, 10_751.8, 87.64);
}

#[test]
fn conservative_on_kth() {
    exact(KTH, (0, 5000), ReplayPolicy::Conservative, (8799.9, 52_008, 235_103, 125.35, 6_258_149));
    exact(KTH, (0, 10_000), ReplayPolicy::Conservative, (8192.8, 45_984, 235_103, 112.18, 11_111_672));
}

#[test]
fn conservative_on_hpc2n() {
    exact(HPC2N, (0, 5000), ReplayPolicy::Conservative, (5897.7, 38_072, 126_459, 49.51, 8_304_552));
    exact(HPC2N, (0, 10_000), ReplayPolicy::Conservative, (5795.0, 38_780, 126_459, 58.62, 12_920_300));
}

#[test]
fn conservative_on_curie() {
    exact(CURIE, (0, 10_000), ReplayPolicy::Conservative, (188.1, 0, 40_471, 1.94, 2_357_967));
}

#[test]
#[cfg_attr(debug_assertions, ignore = "two seconds with optimisation, and a minute without")]
fn conservative_on_busy_days_of_curie() {
    exact(CURIE, (160_000, 10_000), ReplayPolicy::Conservative, (2149.9, 15_683, 91_576, 21.06, 693_883));
    exact(CURIE, (80_000, 10_000), ReplayPolicy::Conservative, (5158.0, 43_894, 86_126, 275.25, 864_531));
}

/// The default order promises more than any table has: shorter waits than EASY, and no job waits twice as long as
/// the longest wait there.
#[test]
fn the_default_order_is_better_than_easy_and_starves_nobody() {
    let easy = metrics(KTH, 0, 5000, ReplayPolicy::Easy);
    let (Some(easy), Some(found)) = (easy, metrics(KTH, 0, 5000, ReplayPolicy::Default)) else { return };
    assert!(found.avg_bounded_slowdown < easy.avg_bounded_slowdown, "{found:?} against {easy:?}");
    assert!(found.max_wait_s <= 2 * easy.max_wait_s, "{found:?} against {easy:?}");
}

/// The plain reference itself against the table: what is compared with it is compared with the table.
#[test]
fn the_reference_is_right_on_kth() {
    let path = traces().join(KTH);
    if !path.exists() {
        return;
    }
    let trace = swf::read_file(&path).expect("the log is a trace");
    let window = Window { skip: 0, limit: Some(5000) };
    let workload = Workload::from_trace(&trace, None, window).expect("it has jobs");
    for (rule, wait_s) in [
        (reference::Rule::Easy, 8736.8),
        (reference::Rule::EasySjbf, 7550.1),
        (reference::Rule::SjfEasy, 6389.1),
        (reference::Rule::Conservative, 8799.9),
    ] {
        let starts = reference::starts(&workload.jobs, workload.processors, rule);
        let waits = workload.jobs.iter().zip(&starts).map(|(job, start)| start - job.submit_s);
        let mean = waits.sum::<u64>() as f64 / starts.len() as f64;
        assert!((mean - wait_s).abs() < 0.06, "{rule:?}: {mean}");
    }
}

#[test]
fn a_small_log_is_read_and_replayed_as_the_reference_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/small.swf");
    let trace = swf::read_file(&path).expect("the log is a trace");
    let workload = Workload::from_trace(&trace, None, Window::default()).expect("it has jobs");
    assert_eq!((workload.processors, workload.jobs.len(), trace.jobs.len()), (16, 197, 200));
    for (policy, rule) in [
        (ReplayPolicy::Fcfs, reference::Rule::Fcfs),
        (ReplayPolicy::Easy, reference::Rule::Easy),
        (ReplayPolicy::Conservative, reference::Rule::Conservative),
    ] {
        let expected = reference::starts(&workload.jobs, workload.processors, rule);
        let found: Vec<u64> = run(&workload, policy).iter().map(|run| run.start_s).collect();
        assert_eq!(found, expected, "{policy}");
    }
}
