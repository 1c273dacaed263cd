//! Putting a file on another host.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{ExitStatus, Session, SshError, shell_quote};

/// What to upload.
#[derive(Debug, Clone, Copy)]
pub enum Upload<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// The contents of this file.
    File(&'a Path),
}

impl Session {
    /// Stores a file on the host under the path, with the permission bits `mode` (as in `0o755`), all or nothing:
    /// whoever opens the path meets the old file or the whole new one. The folder must exist.
    ///
    /// It runs `cat` through the host's shell, and so needs neither `scp` nor an SFTP server there.
    ///
    /// # Errors
    ///
    /// [`SshError::LocalFile`] if the file cannot be read, [`SshError::Upload`] if the host cannot store it, and
    /// what [`Session::exec`] gives.
    pub fn upload(&mut self, source: Upload<'_>, remote_path: &str, mode: u32) -> Result<(), SshError> {
        match source {
            Upload::Bytes(bytes) => self.store(&mut { bytes }, bytes.len() as u64, remote_path, mode),
            Upload::File(path) => {
                let unread = |source| SshError::LocalFile { path: path.to_owned(), source };
                let mut file = File::open(path).map_err(unread)?;
                let length = file.metadata().map_err(unread)?.len();
                self.store(&mut file, length, remote_path, mode)
            }
        }
    }

    fn store(
        &mut self,
        contents: &mut dyn Read,
        length_bytes: u64,
        remote_path: &str,
        mode: u32,
    ) -> Result<(), SshError> {
        let path = shell_quote(remote_path);
        // `$$` makes the name unique on the host. The length is compared because a broken connection looks to `cat`
        // like the end of the file.
        let script = format!(
            "umask 077; t={path}.$$.part; \
             if cat > \"$t\" && [ \"$(wc -c < \"$t\")\" -eq {length_bytes} ] && chmod {mode:o} \"$t\" && mv -f \"$t\" {path}; \
             then :; else rm -f \"$t\"; echo 'the file did not arrive whole' >&2; exit 1; fi",
            mode = mode & 0o7777
        );
        let output = self.exec_reading(&format!("sh -c {}", shell_quote(&script)), contents, None)?;
        if output.status == ExitStatus::Code(0) {
            return Ok(());
        }
        let detail = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        Err(SshError::Upload { target: Box::new(self.target.clone()), path: remote_path.to_owned(), detail })
    }
}
