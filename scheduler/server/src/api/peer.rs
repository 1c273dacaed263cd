//! Who is at the other end of the client API's socket.

use muster_core::input::Caller;
use muster_core::spec::User;

/// Names of those who administer the cluster, beside root.
pub type Admins = std::sync::Arc<std::sync::RwLock<Vec<String>>>;

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
    /// Looks the user up; blocks for as long as the system's user database takes.
    #[must_use]
    pub fn new(uid: u32, gid: u32, admins: &Admins) -> Self {
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
        let name = user.unwrap_or_default().map(|user| user.name);
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
