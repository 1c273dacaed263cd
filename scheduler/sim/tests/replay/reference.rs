//! A scheduler of a few dozen lines, slow and plain, that shares nothing with the engine: one resource, exact rules.
//!
//! EASY: Lifka, JSSPP 1995, with the shortest-first variant of Tsafrir, Etsion and Feitelson, TPDS 2007. Conservative:
//! Mu'alem and Feitelson, TPDS 2001: each job has a reservation from its arrival on; when a job ends early, the
//! waiting ones are placed anew in queue order.

use muster_sim::replay::ReplayJob;

/// What the reference can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    Fcfs,
    Easy,
    EasySjbf,
    SjfEasy,
    Conservative,
}

/// A job in the machine or with a reservation.
#[derive(Clone, Copy)]
struct Span {
    job: usize,
    start: u64,
    /// By its estimate.
    end: u64,
}

/// Starts of all jobs, in seconds. Jobs are in the order of their submits.
pub fn starts(jobs: &[ReplayJob], processors: u32, rule: Rule) -> Vec<u64> {
    let mut starts = vec![u64::MAX; jobs.len()];
    let mut running: Vec<Span> = Vec::new();
    let mut waiting: Vec<Span> = Vec::new();
    let mut arrived = 0;
    loop {
        let end = running.iter().map(|span| span.start + jobs[span.job].run_s).min();
        let arrival = jobs.get(arrived).map(|job| job.submit_s);
        let reserved = waiting.iter().map(|w| w.start).min().filter(|_| rule == Rule::Conservative);
        let Some(now) = [end, arrival, reserved].into_iter().flatten().min() else { return starts };
        let early = running.iter().any(|span| span.start + jobs[span.job].run_s == now && span.end > now);
        running.retain(|span| span.start + jobs[span.job].run_s > now);
        if early && rule == Rule::Conservative {
            for i in 0..waiting.len() {
                let others: Vec<Span> = waiting.iter().copied().filter(|w| w.job != waiting[i].job).collect();
                let before = waiting[i].start;
                waiting[i] =
                    reserve(jobs, processors, &[running.clone(), others].concat(), waiting[i].job, now);
                assert!(waiting[i].start <= before, "a reservation is never put off");
            }
        }
        while jobs.get(arrived).is_some_and(|job| job.submit_s == now) {
            let taken = [running.clone(), waiting.clone()].concat();
            waiting.push(reserve(jobs, processors, &taken, arrived, now));
            arrived += 1;
        }
        let chosen = match rule {
            Rule::Conservative => waiting.iter().filter(|w| w.start == now).map(|w| w.job).collect(),
            _ => easy(jobs, processors, &running, &waiting, rule, now),
        };
        waiting.retain(|w| !chosen.contains(&w.job));
        for job in chosen {
            starts[job] = now;
            running.push(Span { job, start: now, end: now + jobs[job].estimate_s });
            let used: u32 = running.iter().map(|span| jobs[span.job].processors).sum();
            assert!(used <= processors, "the reference itself gives nothing away twice");
        }
    }
}

/// The earliest place for a job beside what is taken.
fn reserve(jobs: &[ReplayJob], processors: u32, taken: &[Span], job: usize, now: u64) -> Span {
    let needs = |at: u64| taken.iter().filter(move |t| t.start <= at && at < t.end);
    let free = |at: u64| processors.saturating_sub(needs(at).map(|t| jobs[t.job].processors).sum::<u32>());
    let mut starts: Vec<u64> = taken.iter().map(|t| t.end).filter(|end| *end > now).chain([now]).collect();
    starts.sort_unstable();
    let fits = |start: u64| {
        let end = start + jobs[job].estimate_s;
        let steps = taken.iter().map(|t| t.start).filter(|at| *at > start && *at < end).chain([start]);
        steps.into_iter().all(|at| free(at) >= jobs[job].processors)
    };
    let start = starts.into_iter().find(|start| fits(*start)).expect("an empty machine holds every job");
    Span { job, start, end: start + jobs[job].estimate_s }
}

/// Who starts now: heads while they fit, then what does not delay the first head that does not.
fn easy(
    jobs: &[ReplayJob],
    processors: u32,
    running: &[Span],
    waiting: &[Span],
    rule: Rule,
    now: u64,
) -> Vec<usize> {
    let mut queue: Vec<usize> = waiting.iter().map(|w| w.job).collect();
    if rule == Rule::SjfEasy {
        queue.sort_by_key(|job| (jobs[*job].estimate_s, *job));
    }
    let mut ends: Vec<(u64, u32)> = running.iter().map(|r| (r.end, jobs[r.job].processors)).collect();
    let mut free = processors - ends.iter().map(|(_, used)| used).sum::<u32>();
    let mut chosen = Vec::new();
    while let Some(head) = queue.first().copied().filter(|head| jobs[*head].processors <= free) {
        queue.remove(0);
        free -= jobs[head].processors;
        ends.push((now + jobs[head].estimate_s, jobs[head].processors));
        chosen.push(head);
    }
    if queue.is_empty() || rule == Rule::Fcfs {
        return chosen;
    }
    let head = jobs[queue.remove(0)].processors;
    ends.sort_unstable();
    let at =
        |shadow: u64| free + ends.iter().filter(|(end, _)| *end <= shadow).map(|(_, used)| used).sum::<u32>();
    let shadow = ends.iter().map(|(end, _)| *end).find(|end| at(*end) >= head).expect("it fits some day");
    let mut extra = at(shadow) - head;
    if rule == Rule::EasySjbf {
        queue.sort_by_key(|job| (jobs[*job].estimate_s, *job));
    }
    for job in queue {
        let needs = jobs[job].processors;
        let in_time = now + jobs[job].estimate_s <= shadow;
        if needs <= free && (in_time || needs <= extra) {
            free -= needs;
            extra -= if in_time { 0 } else { needs };
            chosen.push(job);
        }
    }
    chosen
}
