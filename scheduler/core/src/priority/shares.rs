//! Fair share over the tree of accounts and users.
//!
//! This is Slurm's Fair Tree (Cox and Morrison, "Fair Tree: Fairshare Algorithm for Slurm", Slurm User Group 2014;
//! <https://slurm.schedmd.com/fair_tree.html>). Among siblings, the *level fair share* is the part of the shares
//! divided by the part of the usage. The tree is walked from the root, the greatest level fair share first, and users
//! are ranked as they are met; the factor is the rank divided by the number of users. So if an account has used less
//! of its share than its sibling, each of its users comes before each of the sibling's. Where accounts are equal,
//! their members are ranked together; a user who equals an account has the factor of its first user.

use std::collections::BTreeMap;

use foldhash::HashMap;

use crate::ids::Timestamp;
use crate::state::State;

/// Levels that differ by no more than this part are equal: floating point gives equal fractions in several ways.
const ROUNDING: f64 = 1e-12;

/// What a line of the tree is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareKind<'a> {
    /// The whole cluster.
    Cluster,
    /// An account.
    Account(&'a str),
    /// A user of the account above.
    User(&'a str),
}

/// An account or a user with its share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share<'a> {
    /// Who.
    pub kind: ShareKind<'a>,
    /// How deep in the tree; the cluster is 0.
    pub depth: u32,
    /// Shares relative to its siblings.
    pub shares: u32,
    /// The part of its siblings' shares, from 0 to 1.
    pub shares_part: f64,
    /// Decayed usage, with that of everything below, in core microseconds.
    pub core_us: u128,
    /// The part of its siblings' usage, from 0 to 1; 0 where none of them used anything.
    pub usage_part: f64,
    /// `shares_part` divided by `usage_part`: above 1 it has used less than its share; infinite if nothing.
    pub level: f64,
    /// Of a user: from 0 to 1, the greater the sooner its jobs come.
    pub factor: Option<f64>,
}

/// The tree at an instant.
#[derive(Debug, Clone)]
pub struct Shares<'a> {
    /// The cluster first, each account before its users, and they before the accounts below it.
    lines: Vec<Share<'a>>,
    /// By the same places.
    children: Vec<Vec<usize>>,
    /// By account, empty where none is declared, and user.
    users: HashMap<(&'a str, &'a str), usize>,
    has_accounts: bool,
}

impl<'a> Shares<'a> {
    /// What everybody has used at `now`, and who comes first because of it.
    #[must_use]
    pub fn new(state: &'a State, now: Timestamp) -> Self {
        let mut tree = Self {
            lines: Vec::new(),
            children: Vec::new(),
            users: HashMap::default(),
            has_accounts: !state.config.accounts.is_empty(),
        };
        tree.add(None, ShareKind::Cluster, 1, 0);
        if tree.has_accounts {
            tree.add_accounts(state, now);
        } else {
            tree.add_users(state, now);
        }
        tree.add_up(0);
        for at in 0..tree.lines.len() {
            tree.weigh_children(at);
        }
        let mut left = tree.users.len();
        let first = tree.children[0].clone();
        tree.rank(first, &mut left, None);
        tree
    }

    /// The lines of the tree, from the cluster down.
    pub fn lines(&self) -> impl Iterator<Item = &Share<'a>> {
        self.lines.iter()
    }

    /// The fair-share factor of a user who charges an account. Who is not listed in a declared account gets 0; where
    /// no accounts are declared, every user has one share, and who has used nothing gets 1.
    #[must_use]
    pub fn factor(&self, account: Option<&str>, user: &str) -> f64 {
        let (account, unknown) =
            if self.has_accounts { (account.unwrap_or_default(), 0.0) } else { ("", 1.0) };
        let place = self.users.get(&(account, user));
        place.and_then(|place| self.lines[*place].factor).unwrap_or(unknown)
    }

    fn add(&mut self, parent: Option<usize>, kind: ShareKind<'a>, shares: u32, core_us: u128) -> usize {
        let at = self.lines.len();
        let depth = parent.map_or(0, |parent| self.lines[parent].depth + 1);
        let (shares_part, usage_part, level, factor) = (1.0, 0.0, 1.0, None);
        self.lines.push(Share { kind, depth, shares, shares_part, core_us, usage_part, level, factor });
        self.children.push(Vec::new());
        if let Some(parent) = parent {
            self.children[parent].push(at);
        }
        at
    }

    /// Without accounts, every user who has used something is an account of one share.
    fn add_users(&mut self, state: &'a State, now: Timestamp) {
        let mut used: BTreeMap<&str, u128> = BTreeMap::new();
        for (_, user, core_us) in state.usage(now) {
            *used.entry(user).or_default() += u128::from(core_us);
        }
        for (user, core_us) in used {
            let at = self.add(Some(0), ShareKind::User(user), 1, core_us);
            self.users.insert(("", user), at);
        }
    }

    fn add_accounts(&mut self, state: &'a State, now: Timestamp) {
        let mut used: HashMap<(&str, &str), u128> = HashMap::default();
        // Of users who are no longer listed: what they used still counts for the account.
        let mut others: HashMap<&str, u128> = HashMap::default();
        for (name, user, core_us) in state.usage(now) {
            match state.account_named(name) {
                Some(account) if account.users.contains_key(user) => {
                    used.insert((name, user), u128::from(core_us));
                }
                Some(_) => *others.entry(name).or_default() += u128::from(core_us),
                None => {}
            }
        }
        let mut below: HashMap<Option<&str>, Vec<usize>> = HashMap::default();
        for (i, account) in state.config.accounts.iter().enumerate() {
            below.entry(account.parent.as_deref()).or_default().push(i);
        }
        // Depth first, so that lines come in the order of the tree.
        let first = below.remove(&None).unwrap_or_default();
        let mut left: Vec<(usize, usize)> = first.into_iter().rev().map(|i| (i, 0)).collect();
        while let Some((i, parent)) = left.pop() {
            let account = &state.config.accounts[i];
            let name = account.name.as_str();
            let unlisted = others.get(name).copied().unwrap_or(0);
            let at = self.add(Some(parent), ShareKind::Account(name), account.shares, unlisted);
            for (user, shares) in &account.users {
                let core_us = used.get(&(name, user.as_str())).copied().unwrap_or(0);
                let place = self.add(Some(at), ShareKind::User(user), *shares, core_us);
                self.users.insert((name, user), place);
            }
            let under = below.remove(&Some(name)).unwrap_or_default();
            left.extend(under.into_iter().rev().map(|i| (i, at)));
        }
    }

    /// Adds everybody's usage to the accounts above. Lines come after their parents.
    fn add_up(&mut self, root: usize) {
        for at in (root..self.lines.len()).rev() {
            let sum: u128 = self.children[at].iter().map(|child| self.lines[*child].core_us).sum();
            self.lines[at].core_us += sum;
        }
    }

    fn weigh_children(&mut self, parent: usize) {
        let children = &self.children[parent];
        let shares: u64 = children.iter().map(|child| u64::from(self.lines[*child].shares)).sum();
        let used: u128 = children.iter().map(|child| self.lines[*child].core_us).sum();
        for child in children {
            let line = &mut self.lines[*child];
            line.shares_part = f64::from(line.shares) / shares.max(1) as f64;
            if line.core_us == 0 {
                line.level = f64::INFINITY;
                continue;
            }
            line.usage_part = line.core_us as f64 / used as f64;
            line.level = line.shares_part / line.usage_part;
        }
    }

    /// Ranks everybody below these siblings; `left` users are not ranked yet. The first of them get the factor `tied`
    /// if there is one: that of a user who equals the account above.
    fn rank(&mut self, mut siblings: Vec<usize>, left: &mut usize, mut tied: Option<f64>) {
        let count = self.users.len() as f64;
        siblings.sort_by(|a, b| self.lines[*b].level.total_cmp(&self.lines[*a].level).then(a.cmp(b)));
        let levels = |a: &usize, b: &usize| self.lines[*a].level <= self.lines[*b].level * (1.0 + ROUNDING);
        let groups: Vec<Vec<usize>> = siblings.chunk_by(levels).map(<[usize]>::to_vec).collect();
        for group in groups {
            let is_user = |at: &usize| matches!(self.lines[*at].kind, ShareKind::User(_));
            let (users, accounts): (Vec<usize>, Vec<usize>) = group.into_iter().partition(is_user);
            if !users.is_empty() {
                tied = tied.or(Some(*left as f64 / count));
            }
            for user in &users {
                self.lines[*user].factor = tied;
            }
            *left -= users.len();
            let below: Vec<usize> =
                accounts.iter().flat_map(|account| self.children[*account].iter().copied()).collect();
            if !below.is_empty() {
                self.rank(below, left, tied);
            }
            tied = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::AccountConfig;
    use crate::testing::{account, config};

    /// A tree in which these users have used so many core-seconds.
    fn state(accounts: Vec<AccountConfig>, used: &[(&str, &str, u64)]) -> State {
        let mut config = config(&[1]);
        config.accounts = accounts;
        let mut state = State::new();
        let config = std::sync::Arc::new(config);
        state.evolve(&crate::event::Event::Configured { config }, Timestamp(0));
        for (account, user, core_s) in used {
            state.set_usage(account, user, core_s * 1_000_000, Timestamp(0));
        }
        state
    }

    fn factors(state: &State, whom: &[(&str, &str)]) -> Vec<f64> {
        let shares = Shares::new(state, Timestamp(0));
        whom.iter().map(|(account, user)| shares.factor(Some(account), user)).collect()
    }

    #[test]
    fn everybody_of_the_account_that_used_less_of_its_share_comes_first() {
        let tree = || {
            vec![
                account("physics", None, 3, &[("ann", 1), ("bob", 1)]),
                account("biology", None, 1, &[("cas", 1), ("dee", 1)]),
            ]
        };
        // Physics has used 60 % with 75 % of the shares; within it, ann more than dee in biology.
        let used = [("physics", "ann", 600), ("biology", "cas", 390), ("biology", "dee", 10)];
        let state = state(tree(), &used);
        let whom = [("physics", "bob"), ("physics", "ann"), ("biology", "dee"), ("biology", "cas")];
        assert_eq!(factors(&state, &whom), [1.0, 0.75, 0.5, 0.25]);
        let shares = Shares::new(&state, Timestamp(0));
        let physics = shares.lines().find(|line| line.kind == ShareKind::Account("physics")).unwrap();
        assert_eq!((physics.shares_part, physics.usage_part, physics.depth), (0.75, 0.6, 1));
        assert_eq!(physics.level, 0.75 / 0.6);
        assert_eq!(shares.factor(Some("physics"), "cas"), 0.0, "not listed there");
        assert_eq!(shares.factor(None, "ann"), 0.0, "charges no account");
    }

    #[test]
    fn equal_accounts_are_ranked_together() {
        let tree = vec![
            account("a", None, 1, &[("ann", 1)]),
            account("b", None, 1, &[]),
            account("c", Some("b"), 1, &[("cas", 1)]),
            account("d", None, 1, &[("dee", 1), ("eve", 1)]),
        ];
        // Nobody has used anything: all are equal.
        let state0 = state(tree.clone(), &[]);
        let whom = [("a", "ann"), ("c", "cas"), ("d", "dee"), ("d", "eve")];
        assert_eq!(factors(&state0, &whom), [1.0; 4], "also those further down");
        let state1 = state(tree, &[("a", "ann", 1), ("d", "dee", 1)]);
        // First b with what is below it; then a and d, which are equal: eve, who used nothing, before ann and dee.
        assert_eq!(factors(&state1, &whom), [0.5, 1.0, 0.25, 0.75]);
    }

    #[test]
    fn what_unlisted_users_have_used_counts_for_the_account() {
        let tree = vec![account("a", None, 1, &[("ann", 1)]), account("b", None, 1, &[("bob", 1)])];
        let state = state(tree, &[("a", "gone", 100), ("b", "bob", 50), ("undeclared", "ann", 1_000)]);
        assert_eq!(factors(&state, &[("a", "ann"), ("b", "bob")]), [0.5, 1.0]);
    }

    #[test]
    fn without_accounts_every_user_has_one_share_whatever_account_was_named() {
        let state = state(vec![], &[("", "ann", 10), ("x", "ann", 20), ("y", "bob", 25)]);
        assert_eq!(
            factors(&state, &[("x", "ann"), ("new", "ann"), ("", "bob"), ("", "cas")]),
            [0.5, 0.5, 1.0, 1.0]
        );
    }

    proptest! {
        #[test]
        fn of_siblings_who_used_less_for_its_shares_never_comes_later(
            users in prop::collection::vec((1u32..20, 0u64..1_000), 2..8),
            other in 0u64..1_000,
        ) {
            let names: Vec<String> = (0..users.len()).map(|i| format!("u{i}")).collect();
            let listed: Vec<(&str, u32)> = names.iter().zip(&users).map(|(n, (s, _))| (n.as_str(), *s)).collect();
            let tree = vec![account("a", None, 1, &listed), account("b", None, 1, &[("z", 1)])];
            let mut used: Vec<(&str, &str, u64)> =
                names.iter().zip(&users).map(|(name, (_, used))| ("a", name.as_str(), *used)).collect();
            used.push(("b", "z", other));
            let state = state(tree, &used);
            let shares = Shares::new(&state, Timestamp(0));
            let factor = |i: usize| shares.factor(Some("a"), &names[i]);
            for i in 0..users.len() {
                prop_assert!(factor(i) > 0.0 && factor(i) <= 1.0);
                for j in 0..users.len() {
                    let (less, more) = (users[i].1 * u64::from(users[j].0), users[j].1 * u64::from(users[i].0));
                    prop_assert!(less >= more || factor(i) > factor(j));
                    prop_assert!(less != more || factor(i) == factor(j));
                }
            }
            let sum: u64 = users.iter().map(|(_, used)| used).sum();
            let z = shares.factor(Some("b"), "z");
            let in_order = |i: usize| match other.cmp(&sum) {
                std::cmp::Ordering::Less => z > factor(i),
                std::cmp::Ordering::Greater => z < factor(i),
                std::cmp::Ordering::Equal => true,
            };
            prop_assert!((0..users.len()).all(in_order));
        }
    }
}
