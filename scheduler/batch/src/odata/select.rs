//! `$select`: which properties of each row a client wants.

use std::collections::BTreeMap;

use serde_json::Value;

use super::List;
use crate::error::BatchError;

/// Longest `$select`, in bytes.
const SELECT_BYTES_MAX: usize = 4096;
/// Most parts of a path.
const PATH_PARTS_MAX: usize = 4;

/// The properties that are wanted. A path (`executionInfo/exitCode`) is one property of an inner object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Select {
    /// What is wanted within each; nothing says all of it.
    names: BTreeMap<String, Select>,
}

impl Select {
    /// Reads a list of names, with commas between them.
    ///
    /// # Errors
    /// `InvalidQueryParameterValue` for a name that rows of this list do not have, or if the list cannot be shortened.
    pub fn parse(list: List, text: &str) -> Result<Self, BatchError> {
        let bad = |why: &str| BatchError::invalid_query("$select", text, why);
        if list.selectable().is_empty() {
            return Err(bad("this list has no $select"));
        }
        if text.len() > SELECT_BYTES_MAX {
            return Err(bad(&format!("it has more than {SELECT_BYTES_MAX} bytes")));
        }
        let mut select = Self::default();
        for path in text.split(',').map(str::trim) {
            let mut parts = path.split('/').map(str::trim);
            if parts.clone().count() > PATH_PARTS_MAX || parts.clone().any(str::is_empty) {
                return Err(bad(&format!("'{path}' is no property")));
            }
            let name = parts.next().unwrap_or_default();
            if !list.selectable().contains(&name) {
                return Err(bad(&format!(
                    "there is no property '{name}'; there are {}",
                    list.selectable().join(", ")
                )));
            }
            select.add(name, &mut parts);
        }
        Ok(select)
    }

    fn add(&mut self, name: &str, rest: &mut dyn Iterator<Item = &str>) {
        let known = self.names.contains_key(name);
        let within = self.names.entry(name.to_owned()).or_default();
        match rest.next() {
            // All of it was asked for before.
            Some(_) if known && within.names.is_empty() => {}
            Some(next) => within.add(next, rest),
            None => within.names.clear(),
        }
    }

    /// Whether anything of this property is wanted.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Removes from a row what is not wanted.
    pub fn apply(&self, row: &mut Value) {
        if let Value::Object(object) = row {
            object.retain(|name, _| self.names.contains_key(name));
            for (name, within) in &self.names {
                if !within.names.is_empty()
                    && let Some(inner) = object.get_mut(name)
                {
                    within.apply(inner);
                }
            }
        }
    }
}
