//! Who is at the other end of the client API's socket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use muster_core::input::Caller;
use muster_core::spec::User;

/// Names of those who administer the cluster, beside root.
pub type Admins = Arc<RwLock<Vec<String>>>;

/// How long a login name is known before the system is asked for it again.
const NAME_KNOWN_FOR: Duration = Duration::from_secs(10);
/// Login names that are known at once, at most.
const NAMES_MAX: usize = 4096;

/// Login names by user id, as the system's user database had them a moment ago: every command opens a connection of its own,
/// and that database may be far away.
#[derive(Debug, Default)]
pub struct Names(Mutex<HashMap<u32, (String, Instant)>>);

impl Names {
    /// The name of a user, if it is known.
    #[must_use]
    pub fn known(&self, uid: u32) -> Option<String> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, since) = names.get(&uid)?;
        (since.elapsed() < NAME_KNOWN_FOR).then(|| name.clone())
    }

    /// Asks the system for a name; blocks for as long as its user database takes. One without a name may have one at any
    /// moment, and is not remembered.
    pub fn look_up(&self, uid: u32) -> Option<String> {
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
        let name = user.unwrap_or_default().map(|user| user.name)?;
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES_MAX && !names.contains_key(&uid) {
            names.clear();
        }
        names.insert(uid, (name.clone(), Instant::now()));
        Some(name)
    }
}

/// The process at the other end, as the kernel knows it (`SO_PEERCRED`, unix(7)).
#[derive(Debug, Clone)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Login name, if the user id has one here.
    pub name: Option<String>,
    /// Whether they administer the cluster.
    pub admin: bool,
}

impl Peer {
    /// A caller whose login name has been looked up.
    #[must_use]
    pub fn new(uid: u32, gid: u32, name: Option<String>, admins: &Admins) -> Self {
        let is_listed = |name: &String| admins.read().expect("no code panics under this lock").contains(name);
        let admin = uid == 0 || name.as_ref().is_some_and(is_listed);
        Self { uid, gid, name, admin }
    }

    /// As the engine knows callers.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller { uid: self.uid, admin: self.admin }
    }

    /// As jobs know their user; none without a login name.
    #[must_use]
    pub fn user(&self) -> Option<User> {
        Some(User { name: self.name.clone()?, uid: self.uid, gid: self.gid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_remembered_within_a_limit() {
        let names = Names::default();
        assert_eq!(names.known(0), None);
        assert_eq!(names.look_up(0).as_deref(), Some("root"));
        assert_eq!(names.known(0).as_deref(), Some("root"));
        assert_eq!((names.look_up(4_000_000_001), names.known(4_000_000_001)), (None, None));
        let old = Instant::now().checked_sub(NAME_KNOWN_FOR).unwrap();
        let mut full: HashMap<u32, (String, Instant)> =
            (1..=NAMES_MAX as u32).map(|uid| (uid, ("x".to_owned(), old))).collect();
        std::mem::swap(&mut *names.0.lock().unwrap(), &mut full);
        assert_eq!(names.known(7), None, "it is too old");
        assert_eq!(names.look_up(0).as_deref(), Some("root"));
        assert_eq!(names.0.lock().unwrap().len(), 1);
    }
}
