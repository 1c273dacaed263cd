//! What tasks have in common, kept once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::batch::TaskShape;

/// How many of the newest shapes a new one is compared with: tasks that have something in common come together.
const COMPARED: usize = 8;

/// The shapes of a job's tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Shapes {
    next: u32,
    by_number: BTreeMap<u32, Counted>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    shape: Arc<TaskShape>,
    tasks: u32,
}

impl Shapes {
    /// Takes up a shape for one more task, and says its number.
    pub fn take(&mut self, shape: &Arc<TaskShape>) -> u32 {
        let newest = self.by_number.iter_mut().rev().take(COMPARED);
        let is_same = |counted: &Counted| Arc::ptr_eq(&counted.shape, shape) || counted.shape == *shape;
        if let Some((number, counted)) = newest.into_iter().find(|(_, counted)| is_same(counted)) {
            counted.tasks += 1;
            return *number;
        }
        let number = self.next;
        self.next += 1;
        self.by_number.insert(number, Counted { shape: Arc::clone(shape), tasks: 1 });
        number
    }

    /// Lets a shape go for one task.
    pub fn drop(&mut self, number: u32) {
        if let Some(counted) = self.by_number.get_mut(&number) {
            counted.tasks -= 1;
            if counted.tasks == 0 {
                self.by_number.remove(&number);
            }
        }
    }

    /// The shape of this number.
    ///
    /// # Panics
    /// If no task has it.
    pub fn get(&self, number: u32) -> &Arc<TaskShape> {
        &self.by_number[&number].shape
    }

    /// How many tasks there are of each, by number.
    pub fn tasks(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.by_number.iter().map(|(number, counted)| (*number, counted.tasks))
    }
}
