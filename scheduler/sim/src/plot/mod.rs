//! Pictures of a replayed schedule, as SVG: what the machine did over time, and who waited.

mod chart;

use std::path::{Path, PathBuf};

use self::chart::{Axis, Chart};
use crate::SimError;
use crate::replay::{JobRun, nearest_rank};

/// Columns that a curve over time has at most: one for each unit of the drawing's width.
const COLUMNS: usize = 720;

/// Writes `utilisation.svg`, `queue.svg` and `waits.svg` into a folder, which is made if it is not there.
///
/// # Errors
/// [`SimError::Write`]
pub fn write_all(
    folder: &Path,
    title: &str,
    runs: &[JobRun],
    processors: u32,
) -> Result<Vec<PathBuf>, SimError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| SimError::Write { path, source }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    let pictures = [
        ("utilisation.svg", utilisation(title, runs, processors)),
        ("queue.svg", queue(title, runs)),
        ("waits.svg", waits(title, runs)),
    ];
    let mut written = Vec::new();
    for (name, picture) in pictures {
        let path = folder.join(name);
        std::fs::write(&path, picture).map_err(failed(&path))?;
        written.push(path);
    }
    Ok(written)
}

/// Share of the processors in use, over time.
#[must_use]
pub fn utilisation(title: &str, runs: &[JobRun], processors: u32) -> String {
    let steps = runs
        .iter()
        .flat_map(|run| [(run.start_s, i64::from(run.processors)), (run.end_s, -i64::from(run.processors))]);
    let percent = |used: f64| used * 100.0 / f64::from(processors);
    let curve: Vec<_> = means(steps.collect()).into_iter().map(|(day, used)| (day, percent(used))).collect();
    let time = days(&curve);
    Chart::new(&format!("{title}: utilisation"), time, Axis::linear("processors in use (%)", 0.0, 100.0))
        .area(&curve)
        .finish()
}

/// How many jobs wait, over time.
#[must_use]
pub fn queue(title: &str, runs: &[JobRun]) -> String {
    let steps = runs.iter().flat_map(|run| [(run.submit_s, 1), (run.start_s, -1)]);
    let curve = means(steps.chain(runs.iter().map(|run| (run.end_s, 0))).collect());
    let most = curve.iter().map(|(_, waiting)| *waiting).fold(1.0, f64::max);
    Chart::new(&format!("{title}: queue"), days(&curve), Axis::linear("jobs that wait", 0.0, most))
        .area(&curve)
        .finish()
}

/// Wait of jobs by their size, each class from one power of two to the next: median, quartiles, and 95 %.
#[must_use]
pub fn waits(title: &str, runs: &[JobRun]) -> String {
    let mut classes: Vec<Vec<u64>> = Vec::new();
    for run in runs {
        let class = run.processors.max(1).ilog2() as usize;
        if classes.len() <= class {
            classes.resize(class + 1, Vec::new());
        }
        classes[class].push(run.wait_s());
    }
    let most = runs.iter().map(JobRun::wait_s).max().unwrap_or(0).max(10);
    let labels = (0..classes.len()).map(|class| match class {
        0 => "1".to_owned(),
        _ => format!("{}+", 1_u64 << class),
    });
    let size = Axis::classes("processors of the job, each class up to the next", labels.collect());
    let wait = Axis::durations("wait (no wait is drawn at 1 s)", most as f64);
    let mut chart = Chart::new(&format!("{title}: waits by size"), size, wait);
    for (class, waits) in classes.iter_mut().enumerate().filter(|(_, waits)| !waits.is_empty()) {
        waits.sort_unstable();
        let at = |percent| waits[nearest_rank(waits.len(), percent)] as f64;
        chart = chart.summary(class, [at(25), at(50), at(75), at(95)], waits.len());
    }
    chart
        .legend("box: half of the jobs, bar: median, circle: 95 % wait no longer; number of jobs above")
        .finish()
}

/// Averages of a step function over equal columns of time: days from the start, and the value.
fn means(mut steps: Vec<(u64, i64)>) -> Vec<(f64, f64)> {
    steps.sort_unstable();
    let end = steps.last().map_or(0, |(at, _)| *at).max(1);
    let width = end as f64 / COLUMNS as f64;
    let mut areas = vec![0.0; COLUMNS];
    let (mut value, mut since) = (0_i64, 0_u64);
    for (at, change) in steps {
        if value != 0 && at > since {
            spread(&mut areas, width, since as f64, at as f64, value as f64);
        }
        value += change;
        since = at;
    }
    let day = |column: usize| (column as f64 + 0.5) * width / 86_400.0;
    areas.iter().enumerate().map(|(column, area)| (day(column), area / width)).collect()
}

/// Adds `value` from `from` to `to` to the columns that it lies in.
fn spread(areas: &mut [f64], width: f64, from: f64, to: f64, value: f64) {
    let last = areas.len() - 1;
    let (first, end) = ((from / width) as usize, (to / width) as usize);
    for (column, area) in areas.iter_mut().enumerate().take(end.min(last) + 1).skip(first.min(last)) {
        let left = (column as f64 * width).max(from);
        let right = ((column + 1) as f64 * width).min(to);
        *area += (right - left).max(0.0) * value;
    }
}

fn days(curve: &[(f64, f64)]) -> Axis {
    let last = curve.last().map_or(1.0, |(day, _)| *day);
    Axis::linear("days from the first submit", 0.0, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(submit_s: u64, start_s: u64, end_s: u64, processors: u32) -> JobRun {
        JobRun { number: 1, submit_s, start_s, end_s, processors }
    }

    #[test]
    fn means_keep_the_area() {
        let curve = means(vec![(0, 4), (720, -2), (1440, -2)]);
        assert_eq!(curve.len(), COLUMNS);
        assert!((curve[0].1 - 4.0).abs() < 1e-9 && (curve[719].1 - 2.0).abs() < 1e-9);
        let area: f64 = curve.iter().map(|(_, value)| value * 2.0).sum();
        assert!((area - (4.0 * 720.0 + 2.0 * 720.0)).abs() < 1e-6, "{area}");
        // Steps shorter than a column count with their share of it.
        let curve = means(vec![(0, 1), (1, -1), (7200, 0)]);
        assert!((curve[0].1 - 0.1).abs() < 1e-9);
    }

    #[test]
    fn pictures_are_whole_and_say_what_they_show() {
        let runs = [run(0, 0, 86_400, 4), run(10, 86_400, 100_000, 8), run(20, 20, 30, 1)];
        let pictures = [utilisation("a <log>", &runs, 8), queue("a <log>", &runs), waits("a <log>", &runs)];
        for (picture, axis) in pictures.iter().zip(["in use (%)", "jobs that wait", "processors of the job"])
        {
            assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"), "{picture}");
            assert!(picture.contains(axis) && picture.contains("a &lt;log&gt;"), "{picture}");
            assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
        }
    }

    #[test]
    fn pictures_are_written_to_a_new_folder() {
        let folder = tempfile::tempdir().unwrap();
        let written = write_all(&folder.path().join("a/b"), "t", &[run(0, 5, 9, 1)], 1).unwrap();
        assert!(written.len() == 3 && written.iter().all(|path| path.exists()));
    }
}
