//! The embedded store: containers and blobs in a directory of the controller's host, which clients of Azure's blob service
//! speak with over HTTP, by an account's key or by signed URLs.
//!
//! It has block blobs alone: they are put whole or in blocks, read in ranges, listed and deleted. What a blob is called and made
//! of is in a database (`index`), what is in it in files beside it (`data`). A file is on the disk before the database names it, and
//! the database is what counts: a file that it does not name is swept away when the store is opened.

mod blob;
mod block;
mod conditions;
mod container;
mod data;
mod error;
mod headers;
mod index;
mod names;
mod sas;
mod service;
mod shared_key;
mod unread;
mod xml;

pub use error::{BlobsError, Code};
pub use muster_batch::storage::{Permissions, Resource, sign_url};
pub use service::{Accounts, Limits, Store};
pub use unread::answer_and_read;
