//! The tree of accounts, with what was used in each.

use std::collections::{BTreeMap, BTreeSet};

use muster_client::api::ShareLine;

/// The name of what all accounts are below, and to which jobs belong that charge none.
pub(super) const ROOT: &str = "root";

/// The accounts that are declared, by the one that each is below.
#[derive(Debug, Default)]
pub(super) struct Tree {
    below: BTreeMap<String, String>,
}

impl Tree {
    /// The tree of a listing in which each account is followed by those below it.
    pub(super) fn new(lines: &[ShareLine]) -> Self {
        let mut below = BTreeMap::new();
        let mut path: Vec<(u32, String)> = Vec::new();
        for line in lines.iter().filter(|line| line.user.is_none()) {
            let Some(account) = &line.account else { continue };
            while path.last().is_some_and(|(depth, _)| *depth >= line.depth) {
                path.pop();
            }
            let above = path.last().map_or(ROOT, |(_, name)| name.as_str());
            below.insert(account.clone(), above.to_owned());
            path.push((line.depth, account.clone()));
        }
        Self { below }
    }

    /// The account, and all that it is below, up to the root.
    pub(super) fn upward<'a>(&'a self, account: &'a str) -> impl Iterator<Item = &'a str> {
        let above = |name: &&'a str| match *name {
            ROOT => None,
            // One that is not declared any more is below nothing else.
            name => Some(self.below.get(name).map_or(ROOT, String::as_str)),
        };
        std::iter::successors(Some(account), above)
    }

    /// Whether an account is another one or below it.
    pub(super) fn is_within(&self, account: &str, other: &str) -> bool {
        self.upward(account).any(|name| name == other)
    }

    /// All of these accounts and those above them, each followed by those below it, with its depth.
    pub(super) fn ordered(&self, accounts: &BTreeSet<String>) -> Vec<(String, usize)> {
        let mut children: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for account in accounts {
            let path: Vec<&str> = self.upward(account).collect();
            for pair in path.windows(2) {
                children.entry(pair[1]).or_default().insert(pair[0]);
            }
        }
        let (mut order, mut next) = (Vec::new(), vec![(ROOT, 0)]);
        while let Some((name, depth)) = next.pop() {
            order.push((name.to_owned(), depth));
            let below = children.get(name).into_iter().flatten();
            next.extend(below.rev().map(|child| (*child, depth + 1)));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_account_is_followed_by_those_below_it() {
        let line = |account: Option<&str>, user: Option<&str>, depth| ShareLine {
            account: account.map(str::to_owned),
            user: user.map(str::to_owned),
            depth,
            shares: 1,
            shares_part: 1.0,
            usage_core_s: 0.0,
            usage_part: 0.0,
            level: None,
            factor: None,
        };
        let lines = [
            line(None, None, 0),
            line(Some("physics"), None, 1),
            line(Some("physics"), Some("ann"), 2),
            line(Some("theory"), None, 2),
            line(Some("strings"), None, 3),
            line(Some("chem"), None, 1),
        ];
        let tree = Tree::new(&lines);
        assert!(tree.is_within("strings", "physics") && !tree.is_within("chem", "physics"));
        assert!(tree.is_within("gone", ROOT) && tree.is_within(ROOT, ROOT));
        let accounts = ["strings", "gone", "chem"].map(str::to_owned).into_iter().collect();
        let order = tree.ordered(&accounts);
        let order: Vec<(&str, usize)> = order.iter().map(|(name, depth)| (name.as_str(), *depth)).collect();
        assert_eq!(
            order,
            [(ROOT, 0), ("chem", 1), ("gone", 1), ("physics", 1), ("theory", 2), ("strings", 3)]
        );
    }
}
