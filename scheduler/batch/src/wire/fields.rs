//! Reads the properties of an object, and says what is wrong with them in the protocol's words.

use muster_core::batch::{BatchRefusal, Target};
use serde_json::{Map, Value};

use super::duration::parse_duration_s;
use crate::error::{BatchError, ErrorCode};

/// An object of a body, with where it stands in it.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    /// The body itself.
    ///
    /// # Errors
    /// `InvalidRequestBody` if it is no object.
    pub fn of(body: &'a Value) -> Result<Self, BatchError> {
        let why = "The body must be a JSON object.";
        let object = body.as_object().ok_or_else(|| BatchError::new(ErrorCode::InvalidRequestBody, why))?;
        Ok(Self { object, path: String::new() })
    }

    /// All its properties.
    #[must_use]
    pub fn object(&self) -> &'a Map<String, Value> {
        self.object
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A property that is there, and not null.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        #[cfg(test)]
        looked_at::note(&self.path_of(name));
        self.quietly(name)
    }

    /// The same, of what this service may not offer at all.
    fn quietly(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// What is wrong with a property.
    #[must_use]
    pub fn wrong(&self, name: &str, why: &str) -> BatchError {
        let value = self.get(name).map(|value| match value {
            Value::String(text) if !text.contains('?') => text.chars().take(100).collect(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => "...".to_owned(),
        });
        BatchError::invalid_property(&self.path_of(name), &value.unwrap_or_default(), why)
    }

    fn missing(&self, name: &str) -> BatchError {
        let path = self.path_of(name);
        BatchError::new(ErrorCode::MissingRequiredProperty, format!("The property {path} is missing."))
            .with("PropertyName", path)
    }

    /// A text.
    ///
    /// # Errors
    /// `InvalidPropertyValue` if it is something else.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, BatchError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(name, "it must be a text"))
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// `MissingRequiredProperty`, or `InvalidPropertyValue` if it is something else.
    pub fn required(&self, name: &str) -> Result<&'a str, BatchError> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// A whole number within limits.
    ///
    /// # Errors
    /// `InvalidPropertyValue` if it is something else.
    pub fn number(&self, name: &str, min: i64, max: i64) -> Result<Option<i64>, BatchError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_i64().filter(|number| (min..=max).contains(number));
        number
            .map(Some)
            .ok_or_else(|| self.wrong(name, &format!("it must be a whole number from {min} to {max}")))
    }

    /// True or false.
    ///
    /// # Errors
    /// `InvalidPropertyValue` if it is something else.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, BatchError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(name, "it must be true or false"))
    }

    /// A duration, in seconds; `Some(None)` stands for no limit.
    ///
    /// # Errors
    /// `InvalidPropertyValue` if it is something else.
    pub fn duration_s(&self, name: &str) -> Result<Option<Option<u64>>, BatchError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        parse_duration_s(text)
            .map(Some)
            .map_err(|()| self.wrong(name, "it must be a duration, such as PT1H30M"))
    }

    /// One of several words, whatever the case of its letters.
    ///
    /// # Errors
    /// `InvalidPropertyValue` for another.
    pub fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, BatchError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| *value);
        let known = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        found.map(Some).ok_or_else(|| self.wrong(name, &format!("it must be one of {}", known())))
    }

    /// An object.
    ///
    /// # Errors
    /// `InvalidPropertyValue` if it is something else.
    pub fn inner(&self, name: &str) -> Result<Option<Fields<'a>>, BatchError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let object = value.as_object().ok_or_else(|| self.wrong(name, "it must be an object"))?;
        Ok(Some(Self { object, path: self.path_of(name) }))
    }

    /// A list of objects.
    ///
    /// # Errors
    /// `InvalidPropertyValue` if it is something else.
    pub fn list(&self, name: &str) -> Result<Vec<Fields<'a>>, BatchError> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or_else(|| self.wrong(name, "it must be a list"))?;
        let element = |(i, value): (usize, &'a Value)| {
            let object = value.as_object().ok_or_else(|| self.wrong(name, "it must be a list of objects"))?;
            Ok(Self { object, path: format!("{}[{i}]", self.path_of(name)) })
        };
        list.iter().enumerate().map(element).collect()
    }

    /// Names and values.
    ///
    /// # Errors
    /// `InvalidPropertyValue` if it is something else.
    pub fn pairs(&self, name: &str) -> Result<Vec<(String, String)>, BatchError> {
        let pair = |fields: Fields<'_>| {
            let key = fields.required("name")?;
            if key.is_empty() || key.contains(['=', '\0']) {
                return Err(fields.wrong("name", "it can name no variable"));
            }
            Ok((key.to_owned(), fields.text("value")?.unwrap_or_default().to_owned()))
        };
        self.list(name)?.into_iter().map(pair).collect()
    }

    /// Refuses properties that this service does not offer, unless they are empty.
    ///
    /// # Errors
    /// `UnsupportedProperty`.
    pub fn without(&self, names: &[&str]) -> Result<(), BatchError> {
        let is_empty = |value: &Value| match value {
            Value::Array(list) => list.is_empty(),
            Value::Bool(flag) => !flag,
            _ => false,
        };
        let found = names.iter().find(|name| self.quietly(name).is_some_and(|value| !is_empty(value)));
        match found.map(|name| self.path_of(name)) {
            None => Ok(()),
            Some(path) => {
                let why = format!("The property {path} is not offered by this service; leave it out.");
                Err(BatchError::new(ErrorCode::UnsupportedProperty, why).with("PropertyName", path))
            }
        }
    }
}

/// Takes the signatures out of addresses in what is shown: who may see a listing may not use what others may.
pub fn without_secrets(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(without_secrets),
        Value::Object(object) => {
            for (name, value) in object.iter_mut() {
                match value {
                    Value::String(text)
                        if matches!(name.as_str(), "httpUrl" | "storageContainerUrl" | "containerUrl") =>
                    {
                        if let Some((before, _)) = text.split_once('?') {
                            *text = format!("{before}?...");
                        }
                    }
                    other => without_secrets(other),
                }
            }
        }
        _ => {}
    }
}

/// A refusal of the engine in the protocol's words.
#[must_use]
pub fn refused(refusal: &BatchRefusal) -> BatchError {
    use ErrorCode as Code;
    let code = match refusal {
        BatchRefusal::NotFound { what, .. } => match what {
            Target::Pool => Code::PoolNotFound,
            Target::Node => Code::NodeNotFound,
            Target::Job => Code::JobNotFound,
            Target::Schedule => Code::JobScheduleNotFound,
            Target::Task => Code::TaskNotFound,
            Target::Application | Target::Package => Code::ApplicationNotFound,
        },
        BatchRefusal::Exists { what, .. } => match what {
            Target::Pool | Target::Node => Code::PoolExists,
            Target::Job => Code::JobExists,
            Target::Schedule => Code::JobScheduleExists,
            Target::Task => Code::TaskExists,
            Target::Application | Target::Package => Code::OperationInvalidForCurrentState,
        },
        BatchRefusal::SameId { what: Target::Schedule, .. } => Code::JobScheduleWithSameIdExists,
        BatchRefusal::SameId { .. } => Code::JobWithSameIdExists,
        BatchRefusal::ScheduleBeingTerminated => Code::JobScheduleBeingTerminated,
        BatchRefusal::ScheduleBeingDeleted => Code::JobScheduleBeingDeleted,
        BatchRefusal::ScheduleCompleted => Code::JobScheduleCompleted,
        BatchRefusal::Invalid { property, reason } => {
            return BatchError::invalid_property(property, "", reason);
        }
        BatchRefusal::Priority => Code::OutOfRangePriority,
        BatchRefusal::ConditionNotMet => Code::ConditionNotMet,
        BatchRefusal::PoolBeingDeleted => Code::PoolBeingDeleted,
        BatchRefusal::PoolBeingResized => Code::PoolBeingResized,
        BatchRefusal::JobBeingTerminated => Code::JobBeingTerminated,
        BatchRefusal::JobBeingDeleted => Code::JobBeingDeleted,
        BatchRefusal::JobCompleted => Code::JobCompleted,
        BatchRefusal::JobDisabled => Code::JobDisabled,
        BatchRefusal::InvalidState { .. } => Code::OperationInvalidForCurrentState,
        BatchRefusal::TaskCompleted => Code::TaskCompleted,
        BatchRefusal::TaskNotCompleted => Code::TaskNotCompleted,
        BatchRefusal::TaskSucceeded => Code::TaskSucceeded,
        BatchRefusal::NodeAlreadyInTargetState => Code::NodeAlreadyInTargetSchedulingState,
        BatchRefusal::DependenciesNotSpecified => Code::TaskDependenciesNotSpecifiedOnJob,
        BatchRefusal::DependencyTooLong { what: "ranges", .. } => Code::TaskDependencyRangesTooLong,
        BatchRefusal::DependencyTooLong { .. } => Code::TaskDependencyListTooLong,
        BatchRefusal::IdOfChore { what: "release" } => Code::TaskIdSameAsJobReleaseTask,
        BatchRefusal::IdOfChore { .. } => Code::TaskIdSameAsJobPreparationTask,
        BatchRefusal::Formula { too_long: true, .. } => Code::AutoScaleFormulaTooLong,
        BatchRefusal::Formula { .. } => Code::AutoScalingFormulaSyntaxError,
        BatchRefusal::Packages { .. } => Code::InvalidApplicationPackageReferences,
        BatchRefusal::PackageInUse { .. } => Code::OperationInvalidForCurrentState,
        BatchRefusal::Quota { what: "pools", .. } => Code::PoolQuotaReached,
        BatchRefusal::Quota { what: "applications" | "versions of the application", .. } => {
            Code::OperationInvalidForCurrentState
        }
        BatchRefusal::Quota { .. } => Code::ActiveJobAndScheduleQuotaReached,
    };
    BatchError::new(code, refusal.to_string())
}

/// Which properties readers look at, for the test that holds them against the OpenAPI document.
#[cfg(test)]
pub(crate) mod looked_at {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static PATHS: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
    }

    pub fn note(path: &str) {
        let mut plain = String::new();
        let mut is_index = false;
        for c in path.chars() {
            match c {
                '[' => is_index = true,
                ']' => is_index = false,
                c if !is_index => plain.push(c),
                _ => {}
            }
        }
        PATHS.with_borrow_mut(|paths| paths.insert(plain));
    }

    /// The paths that were looked at since the last call, without numbers of elements.
    pub fn take() -> BTreeSet<String> {
        PATHS.take()
    }
}
