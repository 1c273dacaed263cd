//! Names of users and groups, asked of the system once each.

use std::cell::RefCell;
use std::collections::HashMap;

use nix::unistd::{Gid, Group, Uid, User};

/// Names that were asked for.
#[derive(Default)]
pub(super) struct People {
    groups: RefCell<HashMap<u32, String>>,
}

impl People {
    /// The name of a group; its number if it has none.
    pub(super) fn group(&self, gid: u32) -> String {
        let mut groups = self.groups.borrow_mut();
        let ask = || Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name);
        groups.entry(gid).or_insert_with(|| ask().unwrap_or_else(|| gid.to_string())).clone()
    }
}

/// The login name of a user id; its number if it has none.
pub(super) fn user_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// The login name of whoever runs this.
pub(super) fn own_name() -> String {
    user_name(Uid::current().as_raw())
}

/// The login name that a word of `--user` means, be it a name or a number; none if there is no such user.
pub(super) fn find_user(word: &str) -> Option<String> {
    if let Ok(Some(user)) = User::from_name(word) {
        return Some(user.name);
    }
    let uid = word.parse().ok()?;
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}
