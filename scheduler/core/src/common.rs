//! Values that many jobs have in common, such as the environment of a user who submits in a loop: kept once.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::fmt;
use std::hash::{BuildHasher as _, Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};

use foldhash::HashMap;
use foldhash::fast::FixedState;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many different values of a type each thread knows again.
const KNOWN_MAX: usize = 1024;

/// A value that may be kept once for all jobs that have an equal one. It reads and serializes as the value does; what is written to
/// is its owner's alone from then on.
pub struct Common<T>(Arc<T>);

impl<T: Hash + Eq + 'static> Common<T> {
    /// Makes it one with an equal value that this thread has met lately and that somebody still has. What it says does not
    /// change, so that this is for whoever keeps a value for long.
    pub fn share(&mut self) {
        // Tables are gone while a thread ends: then each value is kept by itself.
        let _ = KNOWN.try_with(|known| {
            let Ok(mut known) = known.try_borrow_mut() else { return };
            let of_type = known.entry(TypeId::of::<T>()).or_insert_with(|| Box::new(Known::<T>::new()));
            if let Some(known) = of_type.downcast_mut::<Known<T>>() {
                known.meet(&mut self.0);
            }
        });
    }

    /// Whether both are kept once.
    #[must_use]
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

thread_local! {
    /// The [`Known`] values of each type.
    static KNOWN: RefCell<HashMap<TypeId, Box<dyn Any>>> = RefCell::default();
}

/// Values that were met lately, each in the place that its hash says; a later one takes the place of an earlier one. It keeps
/// none of them alive.
struct Known<T>(Vec<Weak<T>>);

impl<T: Hash + Eq> Known<T> {
    fn new() -> Self {
        Self(std::iter::repeat_with(Weak::new).take(KNOWN_MAX).collect())
    }

    fn meet(&mut self, value: &mut Arc<T>) {
        let place = FixedState::default().hash_one(&**value) % KNOWN_MAX as u64;
        let known = &mut self.0[place as usize];
        match known.upgrade().filter(|known| *known == *value) {
            Some(known) => *value = known,
            None => *known = Arc::downgrade(value),
        }
    }
}

impl<T> Deref for Common<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Common<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> From<T> for Common<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Clone for Common<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The default is shared at once: most jobs leave the same things out.
impl<T: Default + Hash + Eq + 'static> Default for Common<T> {
    fn default() -> Self {
        let mut value = Self::from(T::default());
        value.share();
        value
    }
}

impl<T: fmt::Debug> fmt::Debug for Common<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Common<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl<T: Eq> Eq for Common<T> {}

impl<T: Hash> Hash for Common<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<T: Serialize> Serialize for Common<T> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(out)
    }
}

/// What is read is shared at once: snapshots and journals hold the same values many times over.
impl<'de, T: Deserialize<'de> + Hash + Eq + 'static> Deserialize<'de> for Common<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let mut value = Self::from(T::deserialize(input)?);
        value.share();
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(text: &str) -> Common<String> {
        let mut value = Common::from(text.to_owned());
        value.share();
        value
    }

    #[test]
    fn equal_values_are_kept_once_while_somebody_has_one() {
        let (first, other, again) = (shared("a"), shared("b"), shared("a"));
        assert!(first.is_shared_with(&again) && !first.is_shared_with(&other));
        assert!(!first.is_shared_with(&Common::from("a".to_owned())), "only what is asked to be");
        let weak = Arc::downgrade(&first.0);
        drop((first, again));
        assert_eq!(weak.strong_count(), 0, "that it is known keeps nothing alive");
        assert_eq!(*shared("a"), "a");
    }

    #[test]
    fn what_is_written_to_becomes_ones_own() {
        let (first, mut second) = (shared("a"), shared("a"));
        second.push('b');
        assert_eq!((first.as_str(), second.as_str()), ("a", "ab"));
    }

    #[test]
    fn of_more_values_than_are_known_each_stays_what_it_is() {
        let many: Vec<Common<String>> = (0..4 * KNOWN_MAX).map(|i| shared(&i.to_string())).collect();
        assert!(many.iter().enumerate().all(|(i, value)| **value == i.to_string()));
        assert!(
            many[many.len() - 1].is_shared_with(&shared(&many[many.len() - 1])),
            "the last is always known"
        );
    }

    #[test]
    fn it_is_written_as_the_value_is_and_read_values_are_shared() {
        let two: Vec<Common<String>> = serde_json::from_str(r#"["a","a"]"#).unwrap();
        assert!(two[0].is_shared_with(&two[1]));
        assert_eq!(serde_json::to_string(&two).unwrap(), r#"["a","a"]"#);
    }
}
