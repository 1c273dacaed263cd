//! Accounts, qualities of service and the priority sum.

use muster_core::cluster::{Order, Preempt, PriorityPolicy};

use crate::accounts::{ACCOUNTS_MAX, DEPTH_MAX, USERS_MAX};
use crate::qos::QOS_MAX;
use crate::tests::{GOOD, read, refused};

/// The good text with more at its end, whose first line is 11.
fn and(more: &str) -> String {
    format!("{}\n{more}", GOOD.trim_end_matches('\n'))
}

#[test]
fn every_key_of_accounts_qualities_of_service_and_the_sum_is_read() {
    let text = and(r#"order = "multifactor"
priority = -5
[priority]
age_weight = 1
age_max = "1-0"
size_weight = 2
small_first = true
fair_share_weight = 3
half_life = "12:00:00"
pool_weight = 4
job_weight = 5
qos_weight = 6
[[account]]
name = "science"
[[account]]
name = "physics"
parent = "science"
shares = 3
users = ["ann", "bob:7"]
[[qos]]
name = "urgent"
priority = 1000
preempts = ["low"]
accounts = ["physics"]
running_per_user_max = 2
usage_percent = 200
[[qos]]
name = "low"
priority = -10
preempt = "requeue"
grace = "1:30"
"#);
    let cluster = read(&text).unwrap().cluster;
    assert_eq!((cluster.pools[0].order, cluster.pools[0].priority), (Order::Multifactor, -5));
    let expected = PriorityPolicy {
        age_weight: 1,
        age_max_s: 86_400,
        size_weight: 2,
        small_first: true,
        fair_share_weight: 3,
        half_life_s: 43_200,
        pool_weight: 4,
        job_weight: 5,
        qos_weight: 6,
    };
    assert_eq!(cluster.policy.priority, expected);
    let [science, physics] = &cluster.accounts[..] else { panic!("{:?}", cluster.accounts) };
    assert_eq!((science.parent.as_deref(), science.shares, science.users.len()), (None, 1, 0));
    assert_eq!((physics.parent.as_deref(), physics.shares), (Some("science"), 3));
    assert_eq!(
        physics.users.iter().map(|(u, s)| (u.as_str(), *s)).collect::<Vec<_>>(),
        [("ann", 1), ("bob", 7)]
    );
    let [urgent, low] = &cluster.qos[..] else { panic!("{:?}", cluster.qos) };
    assert_eq!((urgent.priority, urgent.running_per_user_max, urgent.usage_percent), (1000, Some(2), 200));
    assert!(urgent.preempts.contains("low") && urgent.accounts.contains("physics"));
    assert_eq!((urgent.preempt, urgent.grace_s), (Preempt::Off, 0));
    assert_eq!((low.priority, low.preempt, low.grace_s, low.usage_percent), (-10, Preempt::Requeue, 90, 100));
}

#[test]
fn names_must_be_declared_and_stand_once() {
    refused(
        &and(
            "[[account]]\nname = \"physics\"\nparent = \"sciense\"\nusers = [\"ann\", \"ann:2\", \"b b\", \"bob:0\"]\n\
             [[account]]\nname = \"science\"\n[[account]]\nname = \"science\"\n\
             [[qos]]\nname = \"urgent\"\npreempts = [\"lo\"]\naccounts = [\"fysics\", \"physics\", \"physics\"]\n\
             [[qos]]\nname = \"low\"\npreempt = \"kill\"\n[[qos]]\nname = \"low\"\n",
        ),
        "m.toml:13:10: account 'physics' names the account 'sciense', which is not declared: did you mean 'science'?\n\
         m.toml:14:17: 'ann' stands twice in 'users': write it once\n\
         m.toml:14:26: 'users' must be login names, each with shares from 1 to 1,000,000 if not one, such as \
         [\"ann\", \"bob:3\"], but is 'b b'\n\
         m.toml:14:33: 'users' must be login names, each with shares from 1 to 1,000,000 if not one, such as \
         [\"ann\", \"bob:3\"], but is 'bob:0'\n\
         m.toml:17:1: account 'science' was already declared on line 15: give each account a name of its own\n\
         m.toml:21:13: quality of service 'urgent' names the quality of service 'lo', which is not declared: did you mean 'low'?\n\
         m.toml:22:13: quality of service 'urgent' names the account 'fysics', which is not declared: did you mean 'physics'?\n\
         m.toml:22:34: 'physics' stands twice in 'accounts': write it once\n\
         m.toml:25:11: 'preempt' must be one of \"off\", \"requeue\", \"cancel\", but is 'kill'\n\
         m.toml:26:1: quality of service 'low' was already declared on line 23: give each quality of service a name of its own",
    );
}

#[test]
fn circles_are_refused() {
    let account =
        |name: &str, parent: &str| format!("[[account]]\nname = \"{name}\"\nparent = \"{parent}\"\n");
    refused(
        &and(&[
            account("below", "a"),
            account("a", "b"),
            account("b", "c"),
            account("c", "a"),
            account("s", "s"),
        ]
        .join("")),
        "m.toml:14:1: the accounts a > c > b > a form a circle: an account must not be a part of itself\n\
         m.toml:23:1: the accounts s > s form a circle: an account must not be a part of itself",
    );
    let qos = |name: &str, preempts: &str| format!("[[qos]]\nname = \"{name}\"\npreempts = [{preempts}]\n");
    refused(
        &and(&[qos("top", "\"a\", \"b\""), qos("a", "\"b\""), qos("b", "\"c\""), qos("c", "\"a\"")].join("")),
        "m.toml:14:1: the qualities of service a > b > c > a form a circle: their tasks would end each other for ever",
    );
    assert!(read(&and(&[qos("top", "\"a\", \"b\""), qos("a", "\"b\""), qos("b", "")].join(""))).is_ok());
}

#[test]
fn numbers_have_limits() {
    refused(
        &and(
            "order = \"multifacter\"\npriority = 1000001\n[priority]\nage_weight = -1\nhalf_life = \"0:59\"\n\
             fair_share_wait = 3\n[[account]]\nname = \"a\"\nshares = 0\n\
             [[qos]]\nname = \"q\"\npriority = -1000001\ngrace = \"2-0\"\nrunning_per_user_max = 0\nusage_percent = \"x\"\n",
        ),
        "m.toml:11:9: 'order' must be one of \"default\", \"fcfs\", \"sjf\", \"wfp3\", \"f1\", \"multifactor\", but is 'multifacter'\n\
         m.toml:12:12: 'priority' must be a whole number from -1000000 to 1000000, but is 1000001\n\
         m.toml:14:14: 'age_weight' must be a whole number from 0 to 1000000000, but is -1\n\
         m.toml:15:13: 'half_life' must be a time from 1 minute to 366 days, such as \"7-0\", but is '00:00:59'\n\
         m.toml:16:1: unknown key 'fair_share_wait' in [priority]: did you mean 'fair_share_weight'?\n\
         m.toml:19:10: 'shares' must be a whole number from 1 to 1000000, but is 0\n\
         m.toml:22:12: 'priority' must be a whole number from -1000000 to 1000000, but is -1000001\n\
         m.toml:23:9: 'grace' must be a time of at most one day, such as \"0:30\", but is '2-00:00:00'\n\
         m.toml:24:24: 'running_per_user_max' must be a whole number from 1 to 4294967295, but is 0\n\
         m.toml:25:17: 'usage_percent' must be a whole number from 0 to 10000, but is a text",
    );
}

#[test]
fn trees_have_a_depth_and_lists_a_length() {
    let chain = |depth: usize| -> String {
        let parent = |i: usize| if i > 0 { format!("parent = \"a{}\"\n", i - 1) } else { String::new() };
        and(&(0..depth).map(|i| format!("[[account]]\nname = \"a{i}\"\n{}", parent(i))).collect::<String>())
    };
    assert!(read(&chain(DEPTH_MAX)).is_ok());
    let error = read(&chain(DEPTH_MAX + 5)).unwrap_err();
    assert_eq!(error, "m.toml:106:1: account 'a32' lies deeper than 32 accounts: hang it on one further up");
    let many = |what: &str, count: usize| {
        and(&(0..count).map(|i| format!("[[{what}]]\nname = \"x{i}\"\n")).collect::<String>())
    };
    assert_eq!(read(&many("account", ACCOUNTS_MAX)).unwrap().cluster.accounts.len(), ACCOUNTS_MAX);
    let error = read(&many("account", ACCOUNTS_MAX + 1)).unwrap_err();
    assert!(error.ends_with("there are 10001 accounts: at most 10000 are allowed"), "{error}");
    assert!(read(&many("qos", QOS_MAX)).is_ok());
    let error = read(&many("qos", QOS_MAX + 1)).unwrap_err();
    assert!(error.ends_with("there are 1001 qualities of service: at most 1000 are allowed"), "{error}");
    let users = |count: usize| {
        let names: Vec<String> = (0..count).map(|i| format!("\"u{i}\"")).collect();
        and(&format!("[[account]]\nname = \"a\"\nusers = [{}]\n", names.join(",")))
    };
    assert!(read(&users(USERS_MAX)).is_ok());
    let error = read(&users(USERS_MAX + 1)).unwrap_err();
    assert!(error.contains("there are 100001 users of all accounts together: at most 100000"), "{error}");
}

#[test]
fn licences_are_read_and_what_is_wrong_with_them_is_told() {
    let text = and("[[license]]\nname = \"matlab\"\ncount = 10\n[[license]]\nname = \"ansys\"\ncount = 0\n");
    let licenses: Vec<(String, u32)> = read(&text).unwrap().cluster.licenses.into_iter().collect();
    assert_eq!(licenses, [("ansys".to_owned(), 0), ("matlab".to_owned(), 10)]);
    let text = and(
        "[[license]]\nname = \"a\"\ncount = 1\n[[license]]\nname = \"a\"\ncount = 1\n[[license]]\ncounts = 2\n",
    );
    let told = read(&text).unwrap_err();
    for word in ["m.toml:14:", "licence 'a'", "name = \"matlab\"", "count = 10", "counts"] {
        assert!(told.contains(word), "{word}: {told}");
    }
}
