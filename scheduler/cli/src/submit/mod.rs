//! From a script, the command line, the environment and the directives to a request.
//!
//! The same options can be said in three places. Each place makes a [`Layer`]; the layers are laid over each
//! other, and only then are values read, so that a mistake is reported with the place where it was made.

#[cfg(test)]
mod any_value_tests;
mod array;
mod asked;
mod build;
mod caller;
mod directives;
mod environment;
mod gres;
mod inherited;
mod known;
mod layer;
mod licenses;
mod lists;
mod notes;
mod options;
mod per_gpu;
mod script;
mod staging;
mod when;
mod words;

pub(crate) use build::build;
pub(crate) use caller::Caller;
pub(crate) use directives::{read_directives, read_scron_options};
pub(crate) use inherited::login_environment;
pub use layer::Origin;
pub(crate) use layer::{Layer, Said, from_environment};
pub(crate) use notes::signal_number;
pub(crate) use options::{Found, KNOWN, Known, Meaning, Opt, Takes, find_long, find_short};
pub(crate) use script::Script;
pub(crate) use when::instant as read_instant;
