//! Files of tasks on their nodes.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use muster_core::ids::JobRef;
use serde::{Deserialize, Serialize};

use crate::client::{ANSWER_TIME_MAX, Client};
use crate::error::ClientError;
use crate::query::with_query;
use crate::transport::Question;

/// A page of a folder of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileList {
    /// [`crate::api::SCHEMA`].
    pub schema: u32,
    /// The node that has it.
    pub node: String,
    /// What is in it, in the order of the names; of a file, the file itself.
    pub files: Vec<FileView>,
    /// Whether there is more after the last one.
    pub more: bool,
}

/// A file or folder of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileView {
    /// Below what was asked for.
    pub path: String,
    /// Whether it is a folder.
    pub directory: bool,
    /// Length of a file.
    pub bytes: u64,
    /// When it was last changed, in microseconds since 1970.
    pub changed_at_us: u64,
    /// Its mode.
    pub mode: u32,
}

impl Client {
    /// A page of a folder of a task, after the path that ended the page before.
    ///
    /// # Errors
    /// As [`Client::job`].
    pub fn files(
        &mut self,
        task: JobRef,
        path: &str,
        recursive: bool,
        after: &str,
    ) -> Result<FileList, ClientError> {
        let pairs = [
            ("path", Some(path.to_owned())),
            ("recursive", Some(recursive.to_string())),
            ("after", Some(after.to_owned())),
        ];
        self.get(with_query(&format!("/v1/tasks/{task}/files"), &pairs))
    }

    /// A part of a file of a task; nothing after its end.
    ///
    /// # Errors
    /// As [`Client::job`].
    pub fn file_part(&mut self, task: JobRef, path: &str, offset: u64) -> Result<Bytes, ClientError> {
        let pairs = [("path", Some(path.to_owned())), ("offset", Some(offset.to_string()))];
        let question = Question {
            method: Method::GET,
            path: with_query(&format!("/v1/tasks/{task}/files/data"), &pairs),
            body: Bytes::new(),
            held: Duration::ZERO,
            time_max: ANSWER_TIME_MAX,
        };
        self.raw(&question)
    }

    /// Removes a file or folder of a task.
    ///
    /// # Errors
    /// As [`Client::job`].
    pub fn delete_file(&mut self, task: JobRef, path: &str, recursive: bool) -> Result<(), ClientError> {
        let pairs = [("path", Some(path.to_owned())), ("recursive", Some(recursive.to_string()))];
        self.delete(with_query(&format!("/v1/tasks/{task}/files"), &pairs))
    }
}
