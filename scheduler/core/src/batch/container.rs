//! Containers of tasks: the image that is their root file system, and what else they say of it.
//!
//! Nodes bring images as root on a user's word, so that they come from the sources alone that the site lists. Options of a container are
//! those of a list: none gives more rights than a task without a container has.

use serde::{Deserialize, Serialize};

use super::image::ImageName;
use super::mount::absolute;
use crate::staging::Command;

/// Images that a pool has brought to its nodes.
pub const IMAGES_PER_POOL_MAX: usize = 50;
/// Longest text of options, in bytes.
const OPTIONS_BYTES_MAX: usize = 8 << 10;
/// Folders of the node in one container.
pub const VOLUMES_MAX: usize = 20;
/// Folders of a container that are the node's own there.
const TAKEN: [&str; 3] = ["/proc", "/sys", "/dev"];
/// What may be said of a container, for messages.
const KNOWN: &str = "--workdir PATH, --env NAME=VALUE, --entrypoint PROGRAM, --volume FOLDER:PATH[:ro], --read-only, --network host, --rm";

/// What a pool says of containers: its tasks may run in them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolContainers {
    /// Images that are there before anything of the pool runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageName>,
}

/// The container of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its root file system.
    pub image: ImageName,
    /// Where its command begins.
    #[serde(default, skip_serializing_if = "ContainerDirectory::is_default")]
    pub directory: ContainerDirectory,
    /// Variables of its command, over those of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<(String, String)>,
    /// What the command line is given to, in the place of the image's own; empty: the command line is the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<String>,
    /// Whether nothing of the image can be written over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Folders of the node that it finds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
}

/// Where the command of a container begins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerDirectory {
    /// In the task's working directory.
    #[default]
    Task,
    /// Where the image says.
    Image,
    /// In this folder of the container.
    At(String),
}

impl ContainerDirectory {
    fn is_default(&self) -> bool {
        *self == Self::Task
    }
}

/// A folder of the node in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The folder: absolute.
    pub source: String,
    /// Where it is in the container: absolute.
    pub target: String,
    /// Whether it cannot be written there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// What is wrong with the options of a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadOptions {
    /// They cannot be taken apart.
    #[error("the options cannot be read: {why}")]
    Words {
        /// Why.
        why: String,
    },
    /// There is too much of them.
    #[error(
        "the options are too long; at most {OPTIONS_BYTES_MAX} bytes and {VOLUMES_MAX} volumes are allowed"
    )]
    Long,
    /// One is not offered.
    #[error("the option {option} is not offered; there are: {KNOWN}")]
    Unknown {
        /// Which.
        option: String,
    },
    /// Whom a task runs as is not for the container to say.
    #[error(
        "the option {option} is not offered: in a container a task runs as the user of the key that added it, as elsewhere"
    )]
    User {
        /// Which.
        option: String,
    },
    /// One needs a value.
    #[error("the option {option} needs a value")]
    Value {
        /// Which.
        option: String,
    },
    /// A value is none of its option's.
    #[error("'{value}' is nothing for the option {option}: {expected}")]
    Wrong {
        /// Which option.
        option: String,
        /// What was said.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
}

impl Container {
    /// A container of an image of which nothing else is said.
    #[must_use]
    pub fn of(image: ImageName) -> Self {
        Self {
            image,
            directory: ContainerDirectory::Task,
            environment: Vec::new(),
            entrypoint: None,
            read_only: false,
            volumes: Vec::new(),
        }
    }

    /// Takes options as `docker create` does, as far as they are offered.
    ///
    /// # Errors
    /// What is wrong with the first that is wrong.
    pub fn with_options(mut self, text: &str) -> Result<Self, BadOptions> {
        if text.len() > OPTIONS_BYTES_MAX {
            return Err(BadOptions::Long);
        }
        if text.trim().is_empty() {
            return Ok(self);
        }
        let words = Command::parse(text).map_err(|error| BadOptions::Words { why: error.to_string() })?;
        let mut words = words.words().iter();
        while let Some(word) = words.next() {
            let (option, value) = match word.split_once('=') {
                Some((option, value)) if option.starts_with("--") => (option, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            let value = || {
                let value = value.clone().or_else(|| words.next().cloned());
                value.ok_or_else(|| BadOptions::Value { option: option.to_owned() })
            };
            self.take(option, word, value)?;
        }
        match self.volumes.len() > VOLUMES_MAX {
            true => Err(BadOptions::Long),
            false => Ok(self),
        }
    }

    fn take(
        &mut self,
        option: &str,
        word: &str,
        value: impl FnOnce() -> Result<String, BadOptions>,
    ) -> Result<(), BadOptions> {
        let wrong = |value: String, expected| {
            let value = value.chars().take(100).collect();
            BadOptions::Wrong { option: option.to_owned(), value, expected }
        };
        match option {
            "--rm" | "--read-only" if word != option && !word.ends_with("=true") => {
                return Err(wrong(word.to_owned(), "leave it out, or say nothing after it"));
            }
            "--rm" => {}
            "--read-only" => self.read_only = true,
            "-w" | "--workdir" => {
                let said = value()?;
                let path = absolute(&said).ok_or_else(|| wrong(said, "an absolute path without .."))?;
                self.directory = ContainerDirectory::At(path);
            }
            "-e" | "--env" => {
                let said = value()?;
                let pair = said.split_once('=').filter(|(name, _)| !name.is_empty());
                let (name, text) = pair.ok_or_else(|| wrong(said.clone(), "NAME=VALUE"))?;
                self.environment.push((name.to_owned(), text.to_owned()));
            }
            "--entrypoint" => self.entrypoint = Some(value()?),
            "--network" | "--net" => match value()?.as_str() {
                "host" => {}
                other => return Err(wrong(other.to_owned(), "host, as tasks have the node's network")),
            },
            "-v" | "--volume" => {
                let said = value()?;
                let volume = Volume::parse(&said);
                self.volumes.push(volume.ok_or_else(|| {
                    wrong(said, "FOLDER:PATH or FOLDER:PATH:ro, both absolute, not over /proc, /sys or /dev")
                })?);
            }
            "-u" | "--user" | "--group-add" | "--userns" | "--privileged" => {
                return Err(BadOptions::User { option: option.to_owned() });
            }
            other => {
                let option = other.chars().take(100).collect();
                return Err(BadOptions::Unknown { option });
            }
        }
        Ok(())
    }
}

impl Volume {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (source, target) = (absolute(parts.next()?)?, absolute(parts.next()?)?);
        let read_only = match parts.next() {
            None | Some("rw") => false,
            Some("ro") => true,
            Some(_) => return None,
        };
        let is_below = |folder: &str| {
            target.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let is_taken = target == "/" || TAKEN.into_iter().any(is_below);
        (parts.next().is_none() && !is_taken).then_some(Self { source, target, read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(options: &str) -> Result<Container, BadOptions> {
        Container::of(ImageName::parse("debian:12").unwrap()).with_options(options)
    }

    #[test]
    fn options_are_those_of_a_list() {
        let said = with("--rm -w /data --env A='b c' -e=x 2>/dev/null");
        assert!(matches!(said, Err(BadOptions::Unknown { option }) if option == "-e=x"));
        let said = with(
            "--rm --workdir=/data --env A='b c' -e B= --read-only --net=host --network host \
                  --entrypoint /bin/sh -v /srv/data:/data:ro --volume=/srv/x:/x",
        )
        .unwrap();
        assert_eq!(said.directory, ContainerDirectory::At("/data".to_owned()));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(said.environment, [pair("A", "b c"), pair("B", "")]);
        assert!(said.read_only && said.entrypoint.as_deref() == Some("/bin/sh"));
        let volume = |source: &str, target: &str, read_only| Volume {
            source: source.to_owned(),
            target: target.to_owned(),
            read_only,
        };
        assert_eq!(said.volumes, [volume("/srv/data", "/data", true), volume("/srv/x", "/x", false)]);
        assert_eq!(with("  ").unwrap(), Container::of(ImageName::parse("debian:12").unwrap()));
    }

    #[test]
    fn what_would_give_more_rights_is_refused_by_name() {
        for option in ["--privileged", "-u", "--user=0", "--userns=host"] {
            let refused = with(option).unwrap_err();
            assert!(matches!(&refused, BadOptions::User { .. }), "{option}: {refused}");
        }
        for option in
            ["--cap-add=ALL", "--device /dev/sda", "--security-opt x", "--pid=host", "--mount x", "x"]
        {
            let refused = with(option).unwrap_err();
            assert!(matches!(&refused, BadOptions::Unknown { .. }), "{option}: {refused}");
        }
        for option in [
            "-v /a",
            "-v a:/b",
            "-v /a:/b:z",
            "-v /a/../b:/c",
            "-v /a:/",
            "-v /a:/proc/1",
            "-v /a:/dev",
            "-w x",
            "--network=bridge",
            "-e =x",
            "-e A",
            "--read-only=no",
        ] {
            assert!(matches!(with(option), Err(BadOptions::Wrong { .. })), "{option}");
        }
        assert!(matches!(with("-w"), Err(BadOptions::Value { .. })));
        assert!(matches!(with("'"), Err(BadOptions::Words { .. })));
        assert!(matches!(with(&"-v /a:/b ".repeat(21)), Err(BadOptions::Long)));
        assert!(with(&"-v /a:/b ".repeat(20)).is_ok());
        assert!(matches!(with(&"x".repeat(OPTIONS_BYTES_MAX + 1)), Err(BadOptions::Long)));
        assert_eq!(with("-v /a:/device").unwrap().volumes[0].target, "/device");
    }
}
