//! What pools do at present, as admins say it.

use serde::{Deserialize, Serialize};

use super::State;

/// What a pool does, after the states of a partition in scontrol(1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolState {
    /// It takes jobs and starts tasks.
    #[default]
    Up,
    /// It takes jobs, and starts none of their tasks.
    Down,
    /// It starts tasks of the jobs that it has, and takes no others.
    Drain,
    /// It does neither.
    Inactive,
}

impl PoolState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Up, Self::Down, Self::Drain, Self::Inactive];

    /// A word for people and programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Drain => "drain",
            Self::Inactive => "inactive",
        }
    }

    /// Whether jobs may be submitted to it.
    #[must_use]
    pub fn takes_jobs(self) -> bool {
        matches!(self, Self::Up | Self::Down)
    }

    /// Whether tasks start in it.
    #[must_use]
    pub fn starts_tasks(self) -> bool {
        matches!(self, Self::Up | Self::Drain)
    }
}

impl State {
    /// What a pool does.
    #[must_use]
    pub fn pool_state(&self, pool: &str) -> PoolState {
        self.pool_states.get(pool).copied().unwrap_or_default()
    }
}
