//! How to split a number of equal things over the groups of a tree, at the greatest worth.
//!
//! The groups are switches with free nodes, or the parts of a node with free cores. The worth is a sum over all
//! groups of something that depends only on how many things the group gets, so the best split is found from the
//! bottom up: what a group is worth for each number it may get follows from the groups below it (a knapsack).

use std::cmp::Reverse;

/// Most things times room for which the best split is searched for; above it a good one is guessed.
///
/// It bounds the steps of the search, about a nanosecond each, and the size of the worth: see the places that
/// build one.
pub(super) const SEARCH_MAX: u64 = 1 << 18;

/// A group of a tree; groups stand in the order of a walk, each before those below it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    /// One past the last group below it.
    pub below_end: u32,
    /// How many things it can take.
    pub room: u32,
    /// Whether the groups below it have none below them and all the same worth. It must be convex then, apart from
    /// the part that says how well a thing fits, so that the fullest groups come first.
    pub alike: bool,
}

/// What a group is worth for each count from 0, and how it gets there.
struct Solved {
    worth: Vec<i64>,
    how: How,
}

enum How {
    Leaf,
    /// Groups without any below, the roomiest first.
    Alike(Vec<(u32, u32)>),
    /// The groups below, each with what it gets of every count of it and those before it.
    Parts(Vec<(u32, Solved, Vec<u32>)>),
}

/// The groups directly below one, by index.
pub(super) fn below(groups: &[Group], index: usize) -> impl Iterator<Item = usize> + '_ {
    let end = groups[index].below_end as usize;
    let mut next = index + 1;
    std::iter::from_fn(move || {
        let this = next;
        (this < end).then(|| {
            next = groups[this].below_end as usize;
            this
        })
    })
}

/// Splits `count` things, at most the first group's room, at the greatest worth.
///
/// `parts[i]` becomes the number that group `i` gets if it has no groups below it, and stays 0 otherwise.
pub(super) fn best(groups: &[Group], count: u32, worth: &impl Fn(usize, u32) -> i64, parts: &mut [u32]) {
    let solved = solve(groups, 0, count, true, worth);
    trace(groups, 0, &solved, count, parts);
}

fn solve(
    groups: &[Group],
    index: usize,
    count: u32,
    only_last: bool,
    worth: &impl Fn(usize, u32) -> i64,
) -> Solved {
    let most = groups[index].room.min(count);
    if groups[index].below_end as usize == index + 1 {
        return Solved { worth: (0..=most).map(|x| worth(index, x)).collect(), how: How::Leaf };
    }
    if groups[index].alike {
        return solve_alike(groups, index, most, worth);
    }
    let mut total = vec![0];
    let mut parts = Vec::new();
    let mut left = groups[index].room;
    for part in below(groups, index).filter(|part| groups[*part].room > 0) {
        let solved = solve(groups, part, count, false, worth);
        left -= groups[part].room;
        // Of the last part at the top, only the whole count is of interest.
        let (joined, choice) = join(&total, &solved.worth, most, only_last && left == 0);
        total = joined;
        parts.push((part as u32, solved, choice));
    }
    for (x, sum) in total.iter_mut().enumerate() {
        *sum += worth(index, x as u32);
    }
    Solved { worth: total, how: How::Parts(parts) }
}

/// The worth of both together for each count up to `most`, and what of it the second one gets.
fn join(first: &[i64], second: &[i64], most: u32, only_last: bool) -> (Vec<i64>, Vec<u32>) {
    let most = (most as usize).min(first.len() + second.len() - 2);
    let mut total = vec![i64::MIN; most + 1];
    let mut choice = vec![0; most + 1];
    for x in if only_last { most..=most } else { 0..=most } {
        let from = (x + 1).saturating_sub(first.len());
        let to = x.min(second.len() - 1);
        let (mut best, mut best_y) = (i64::MIN, from);
        for (y, (b, a)) in second[from..=to].iter().zip(first[x - to..=x - from].iter().rev()).enumerate() {
            if a + b > best {
                (best, best_y) = (a + b, from + y);
            }
        }
        total[x] = best;
        choice[x] = best_y as u32;
    }
    if only_last {
        // The rest was not looked at; zeros keep the sums above from running over.
        total[..most].fill(0);
    }
    (total, choice)
}

/// Groups below that are worth the same: every count fills the roomiest ones, and what is left goes where it fits
/// best. The numbers then dominate those of every other split (one majorizes the other), and a sum of a convex
/// function is largest there.
fn solve_alike(groups: &[Group], index: usize, most: u32, worth: &impl Fn(usize, u32) -> i64) -> Solved {
    let rooms = roomiest_first(groups, index);
    let mut total = Vec::with_capacity(most as usize + 1);
    total.push(worth(index, 0));
    let mut full = 0;
    for (k, &(room, group)) in rooms.iter().enumerate() {
        for rest in 1..=room {
            if total.len() > most as usize {
                break;
            }
            let fit = best_fit(&rooms, k, rest);
            let x = total.len() as u32;
            total.push(full + worth(rooms[fit].1 as usize, rest) + worth(index, x));
        }
        full += worth(group as usize, room);
    }
    Solved { worth: total, how: How::Alike(rooms) }
}

/// Room and index of the groups directly below, the roomiest first.
fn roomiest_first(groups: &[Group], index: usize) -> Vec<(u32, u32)> {
    let mut rooms: Vec<(u32, u32)> = below(groups, index)
        .filter(|part| groups[*part].room > 0)
        .map(|part| (groups[part].room, part as u32))
        .collect();
    rooms.sort_unstable_by_key(|&(room, part)| (Reverse(room), part));
    rooms
}

/// The first of the least roomy groups from `from` on that have room for `rest`.
fn best_fit(rooms: &[(u32, u32)], from: usize, rest: u32) -> usize {
    let fitting = rooms[from..].partition_point(|&(room, _)| room >= rest);
    let least = rooms[from + fitting - 1].0;
    from + rooms[from..].partition_point(|&(room, _)| room > least)
}

fn trace(groups: &[Group], index: usize, solved: &Solved, count: u32, parts: &mut [u32]) {
    match &solved.how {
        How::Leaf => parts[index] = count,
        How::Alike(rooms) => fill(rooms, count, |part, x| parts[part as usize] = x),
        How::Parts(below) => {
            let mut left = count;
            for (part, solved, choice) in below.iter().rev() {
                let x = choice[left as usize];
                trace(groups, *part as usize, solved, x, parts);
                left -= x;
            }
        }
    }
}

/// Fills the roomiest groups, and puts the rest where it fits best.
fn fill(rooms: &[(u32, u32)], count: u32, mut put: impl FnMut(u32, u32)) {
    let mut left = count;
    for (k, &(room, part)) in rooms.iter().enumerate() {
        if left <= room {
            if left > 0 {
                put(rooms[best_fit(rooms, k, left)].1, left);
            }
            return;
        }
        put(part, room);
        left -= room;
    }
}

/// Splits `count` things without a search: at every level the roomiest groups are filled, until what is left fits
/// into one, and goes into the least roomy one that holds it.
///
/// Exact where the groups below the first one are alike.
pub(super) fn guess(groups: &[Group], index: usize, count: u32, parts: &mut [u32]) {
    if count == 0 {
        return;
    }
    if groups[index].below_end as usize == index + 1 {
        parts[index] = count;
        return;
    }
    fill(&roomiest_first(groups, index), count, |part, x| guess(groups, part as usize, x, parts));
}

/// The fewest groups without any below that hold `count` things; `None` if all together do not.
pub(super) fn fewest(rooms: impl Iterator<Item = u32>, count: u32) -> Option<u32> {
    let mut rooms: Vec<u32> = rooms.filter(|room| *room > 0).collect();
    rooms.sort_unstable_by_key(|room| Reverse(*room));
    let mut sum = 0;
    for (i, room) in rooms.into_iter().enumerate() {
        sum += u64::from(room);
        if sum >= u64::from(count) {
            return Some(i as u32 + 1);
        }
    }
    (count == 0).then_some(0)
}
