//! The policies of the reference tables, as settings of a pool.

use clap::ValueEnum;
use muster_core::cluster::{Backfill, Order};
use serde::Serialize;

/// A pair of order and backfill that has a name in the literature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayPolicy {
    /// First come, first served; nothing overtakes.
    Fcfs,
    /// First come, first served; what does not delay the first that waits may overtake.
    Easy,
    /// The same, the shortest overtakes first.
    EasySjbf,
    /// The shortest first, with EASY backfill.
    SjfEasy,
    /// The largest (wait / limit)^3 x processors first, with EASY backfill.
    Wfp3Easy,
    /// The smallest log10(limit) x processors + 870 log10(submit) first, with EASY backfill.
    F1Easy,
    /// First come, first served; each waiting job has a reservation.
    Conservative,
    /// What a pool does that says nothing: the default order with EASY backfill.
    Default,
}

impl ReplayPolicy {
    /// The pool's order.
    #[must_use]
    pub fn order(self) -> Order {
        match self {
            Self::Fcfs | Self::Easy | Self::EasySjbf | Self::Conservative => Order::Fcfs,
            Self::SjfEasy => Order::Sjf,
            Self::Wfp3Easy => Order::Wfp3,
            Self::F1Easy => Order::F1,
            Self::Default => Order::Default,
        }
    }

    /// The pool's backfill.
    #[must_use]
    pub fn backfill(self) -> Backfill {
        match self {
            Self::Fcfs => Backfill::None,
            Self::EasySjbf => Backfill::EasyShortest,
            Self::Conservative => Backfill::Conservative,
            Self::Easy | Self::SjfEasy | Self::Wfp3Easy | Self::F1Easy | Self::Default => Backfill::Easy,
        }
    }
}

impl std::fmt::Display for ReplayPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Every variant has a name: none is hidden from the command line.
        f.write_str(
            self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default().as_str(),
        )
    }
}
