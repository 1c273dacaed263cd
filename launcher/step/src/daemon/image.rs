//! The program that a rank becomes, with its words and variables, in the form that the kernel wants.

use std::ffi::{CString, c_char};
use std::path::Path;

use nix::errno::Errno;

/// The one variable whose value only the rank itself knows.
const TASK_PID: &[u8] = b"SLURM_TASK_PID=";

/// The digits of the greatest process number, and the zero byte.
const PID_BYTES: usize = 11;

/// Everything that execve(2) takes. The pointers point to the texts, which are never changed.
pub(super) struct Image {
    program: CString,
    _texts: Vec<CString>,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    task_pid: Box<[u8]>,
}

// SAFETY: the pointers point to memory that the value owns.
unsafe impl Send for Image {}
// SAFETY: as above; nothing is changed through a shared reference.
unsafe impl Sync for Image {}

impl Image {
    /// # Errors
    ///
    /// `EINVAL` for a text with a zero byte.
    pub fn new(program: &Path, words: &[String], environment: &[(String, String)]) -> std::io::Result<Self> {
        let text = |text: String| CString::new(text).map_err(|_| Errno::EINVAL);
        let program = text(program.to_string_lossy().into_owned())?;
        let words = words.iter().cloned().map(text).collect::<Result<Vec<_>, _>>()?;
        let variables: std::collections::BTreeMap<&str, &str> =
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let variables = variables.into_iter().map(|(name, value)| text(format!("{name}={value}")));
        let variables = variables.collect::<Result<Vec<_>, _>>()?;
        let mut task_pid = TASK_PID.to_vec();
        task_pid.resize(TASK_PID.len() + PID_BYTES, 0);
        let task_pid = task_pid.into_boxed_slice();
        let end = std::iter::once(std::ptr::null());
        let arguments = words.iter().map(|word| word.as_ptr()).chain(end.clone()).collect();
        let own = std::iter::once(task_pid.as_ptr().cast());
        let environment = own.chain(variables.iter().map(|variable| variable.as_ptr())).chain(end).collect();
        let _texts = words.into_iter().chain(variables).collect();
        Ok(Self { program, _texts, arguments, environment, task_pid })
    }

    /// Becomes the program. It only calls the system, so it may run between fork and exec.
    ///
    /// # Errors
    ///
    /// Why it did not. A script without an interpreter is no error: it is left to the caller, who gives it to a shell.
    pub fn become_it(&mut self) -> std::io::Result<()> {
        // SAFETY: no arguments.
        let mut pid = unsafe { libc::getpid() }.unsigned_abs();
        let mut digits = [0u8; PID_BYTES];
        let mut count = 0;
        while pid > 0 {
            digits[count] = b'0' + (pid % 10) as u8;
            pid /= 10;
            count += 1;
        }
        for (place, digit) in digits[..count].iter().rev().enumerate() {
            self.task_pid[TASK_PID.len() + place] = *digit;
        }
        // SAFETY: both arrays end with a null pointer, and all texts with a zero byte.
        unsafe { libc::execve(self.program.as_ptr(), self.arguments.as_ptr(), self.environment.as_ptr()) };
        match Errno::last() {
            Errno::ENOEXEC => Ok(()),
            error => Err(error.into()),
        }
    }
}
