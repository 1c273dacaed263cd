//! The configuration of an attempt's own SSH endpoint on a node.

use crate::{AttemptDir, MpiError};

/// An endpoint that serves one attempt on one node: `sshd -i -e -f FILE`, run as the attempt's user, inside the
/// attempt's containment, once for each accepted connection.
///
/// The caller gives it the connection as standard input and output, and a log file or `/dev/null` as standard error:
/// in this mode that descriptor is the connection too unless it is replaced. For root, `/run/sshd` must exist.
#[derive(Debug, Clone)]
pub struct SshdConfig<'a> {
    /// The account that the attempt runs as; nobody else may enter.
    pub user: &'a str,
    /// The attempt's folder, with the host key and the authorized key in it.
    pub attempt_dir: &'a AttemptDir,
    /// Variables that every process started through the endpoint sees, see [`crate::endpoint_environment`]. `sshd`
    /// passes on none of its own.
    pub environment: &'a [(String, String)],
}

impl SshdConfig<'_> {
    /// The text of the configuration file, for OpenSSH 8.5 and later (sshd_config(5)).
    ///
    /// # Errors
    ///
    /// [`MpiError::SshdValue`] if a path or a variable holds what a configuration line cannot.
    pub fn to_text(&self) -> Result<String, MpiError> {
        let quoted_path = |name: &str, path: std::path::PathBuf| quote(name, &path.to_string_lossy());
        let mut text = format!(
            "HostKey {host_key}\n\
             AuthorizedKeysFile {authorized_keys}\n\
             AllowUsers {user}\n\
             AuthenticationMethods publickey\n\
             PermitRootLogin prohibit-password\n\
             PasswordAuthentication no\n\
             KbdInteractiveAuthentication no\n\
             UsePAM no\n\
             StrictModes no\n\
             PermitTTY no\n\
             PermitUserEnvironment no\n\
             PermitUserRC no\n\
             DisableForwarding yes\n\
             MaxSessions 256\n\
             LoginGraceTime 30\n\
             UseDNS no\n\
             PrintMotd no\n\
             PrintLastLog no\n\
             PidFile none\n\
             LogLevel ERROR\n",
            host_key = quoted_path("HostKey", self.attempt_dir.host_key())?,
            authorized_keys = quoted_path("AuthorizedKeysFile", self.attempt_dir.authorized_keys())?,
            user = quote("AllowUsers", self.user)?,
        );
        if !self.environment.is_empty() {
            // sshd honours the first line of this name only, so all variables share it.
            text.push_str("SetEnv");
            for (name, value) in self.environment {
                text.push(' ');
                text.push_str(&quote(name, &format!("{name}={value}"))?);
            }
            text.push('\n');
        }
        Ok(text)
    }
}

/// One argument of a configuration line. Within double quotes only the quote and the backslash are special.
fn quote(name: &str, value: &str) -> Result<String, MpiError> {
    if value.contains(['\n', '\r', '\0']) {
        return Err(MpiError::SshdValue { name: name.to_owned() });
    }
    Ok(format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_are_refused() {
        let dir = AttemptDir::new("/x");
        let environment = [("A".to_owned(), "1\nPermitRootLogin yes".to_owned())];
        let config = SshdConfig { user: "u", attempt_dir: &dir, environment: &environment };
        assert!(config.to_text().unwrap_err().to_string().starts_with("A cannot be set"));
        let config = SshdConfig { user: "u\nPermitRootLogin yes", ..config };
        assert!(matches!(config.to_text(), Err(MpiError::SshdValue { .. })));
    }
}
