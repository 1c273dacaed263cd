//! Schedules computed by hand.

use muster_sim::replay::ReplayPolicy;

use super::{job, starts};

#[test]
fn first_come_first_served_lets_nothing_overtake() {
    let jobs = [job(1, 0, 100, 100, 6), job(2, 1, 50, 50, 8), job(3, 2, 10, 10, 2)];
    assert_eq!(starts(10, &jobs, ReplayPolicy::Fcfs), [0, 100, 100]);
}

#[test]
fn easy_lets_overtake_what_ends_in_time() {
    // 3 ends at 99 before the shadow at 100; 4 would end at 103 and leaves only 10 - 8 = 2 of 3.
    let jobs = [job(1, 0, 100, 100, 6), job(2, 1, 50, 50, 8), job(3, 2, 97, 97, 1), job(4, 3, 100, 100, 3)];
    assert_eq!(starts(10, &jobs, ReplayPolicy::Easy), [0, 100, 2, 150]);
}

#[test]
fn easy_lets_overtake_what_needs_only_the_extra_processors() {
    // The head needs 8 of 10 at 100: two are extra, for as long as one likes, but only once.
    let jobs = [job(1, 0, 100, 100, 6), job(2, 1, 50, 50, 8), job(3, 2, 500, 500, 2), job(4, 3, 500, 500, 2)];
    assert_eq!(starts(10, &jobs, ReplayPolicy::Easy), [0, 100, 2, 150]);
}

#[test]
fn what_ends_exactly_at_the_shadow_does_not_delay() {
    let jobs = [job(1, 0, 100, 100, 6), job(2, 1, 50, 50, 10), job(3, 2, 98, 98, 4)];
    assert_eq!(starts(10, &jobs, ReplayPolicy::Easy), [0, 100, 2]);
}

#[test]
fn easy_may_delay_the_second_that_waits_and_conservative_may_not() {
    // 2 waits for 1 until 100. 3 is reserved for 200 behind 2, beside nobody. 4 fits beside 1 and 2, but would push 3
    // from 200 to 302 under EASY, which keeps a place for 2 alone.
    let jobs =
        [job(1, 0, 100, 100, 6), job(2, 1, 100, 100, 8), job(3, 2, 10, 10, 10), job(4, 3, 299, 299, 2)];
    assert_eq!(starts(10, &jobs, ReplayPolicy::Easy), [0, 100, 302, 3]);
    assert_eq!(starts(10, &jobs, ReplayPolicy::Conservative), [0, 100, 200, 210]);
}

#[test]
fn conservative_moves_reservations_forward_when_a_job_ends_early() {
    // 1 ends at 20 instead of 100: 2 and then 3 move forward, in that order.
    let jobs = [job(1, 0, 20, 100, 10), job(2, 1, 50, 50, 6), job(3, 2, 50, 50, 6)];
    assert_eq!(starts(10, &jobs, ReplayPolicy::Conservative), [0, 20, 70]);
}

#[test]
fn the_shortest_overtakes_first_where_that_is_asked_for() {
    // Beside 1 and before the shadow at 100 there is room for one of 3 and 4.
    let jobs = [job(1, 0, 100, 100, 8), job(2, 1, 50, 50, 10), job(3, 2, 90, 90, 2), job(4, 2, 30, 30, 2)];
    assert_eq!(starts(10, &jobs, ReplayPolicy::Easy), [0, 100, 2, 150]);
    assert_eq!(starts(10, &jobs, ReplayPolicy::EasySjbf), [0, 100, 150, 2]);
}

#[test]
fn the_shortest_goes_first_where_that_is_the_order() {
    let jobs = [job(1, 0, 100, 100, 10), job(2, 1, 50, 50, 10), job(3, 2, 30, 30, 10), job(4, 3, 40, 40, 10)];
    assert_eq!(starts(10, &jobs, ReplayPolicy::SjfEasy), [0, 170, 100, 130]);
}

#[test]
fn wfp3_weighs_wait_and_width_against_length() {
    // At 100: 2 has (99/50)^3 x 10 = 77.6, 3 has (98/30)^3 x 6 = 209, 4 has (97/1000)^3 x 10 = 0.009.
    let jobs =
        [job(1, 0, 100, 100, 10), job(2, 1, 50, 50, 10), job(3, 2, 30, 30, 6), job(4, 3, 10, 1000, 10)];
    assert_eq!(starts(10, &jobs, ReplayPolicy::Wfp3Easy), [0, 130, 100, 180]);
}

#[test]
fn f1_weighs_size_against_age() {
    // At 100: 2 has log10(1000000) x 10 + 870 log10(10) = 930, 3 has log10(10) x 10 + 870 log10(11) = 916, and 4 has
    // 10 + 870 log10(12) = 949: age wins while a log is young.
    let jobs = [
        job(1, 0, 100, 100, 10),
        job(2, 10, 30, 1_000_000, 10),
        job(3, 11, 10, 10, 10),
        job(4, 12, 10, 10, 10),
    ];
    assert_eq!(starts(10, &jobs, ReplayPolicy::F1Easy), [0, 110, 100, 140]);
}

#[test]
fn ends_come_before_submits_of_the_same_instant() {
    let jobs = [job(1, 0, 10, 10, 10), job(2, 10, 5, 5, 10), job(3, 10, 5, 5, 10)];
    for policy in [ReplayPolicy::Fcfs, ReplayPolicy::Easy, ReplayPolicy::Conservative, ReplayPolicy::Default]
    {
        assert_eq!(starts(10, &jobs, policy), [0, 10, 15], "{policy}");
    }
}

#[test]
fn machines_of_many_nodes_are_one_pool_of_processors() {
    // 8,192 processors are two nodes: the second job spans both.
    let jobs = [job(1, 0, 100, 100, 3000), job(2, 1, 10, 10, 5192), job(3, 2, 10, 10, 1)];
    assert_eq!(starts(8192, &jobs, ReplayPolicy::Fcfs), [0, 1, 11]);
}
