//! muster-ssh
