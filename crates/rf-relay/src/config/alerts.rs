//! `alerts`: from when on something is wrong, on the status page and for alerts alike.

use std::time::Duration;

use rf_core::config::{Interval, Node, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// From when on something is wrong: for the status page, `/readyz`, metrics and alerts alike.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AlertsFile {
    /// A node that told of itself is silent after so long; never before three of its messages are missing.
    pub node_silent_after: Interval,
    /// Per cent of its limit from which on a bucket, or a sink's queue, is filling.
    pub fill_percent: u8,
    /// The oldest event of a bucket, or of a sink's queue, may wait so long. 0: as long as it likes.
    pub oldest_event: Interval,
    /// A clock may be so far from the relay's. 0: as far as it likes.
    pub clock_skew: Interval,
    /// Per cent of a node's file system from which on it is filling.
    pub disk_percent: u8,
    /// Events dropped, batches refused and dead letters are trouble for so long after they happened.
    pub losses_for: Interval,
}

impl Default for AlertsFile {
    fn default() -> AlertsFile {
        AlertsFile {
            node_silent_after: Interval::from_secs(180),
            fill_percent: 80,
            oldest_event: Interval::from_secs(600),
            clock_skew: Interval::from_secs(10),
            disk_percent: 90,
            losses_for: Interval::from_secs(900),
        }
    }
}

/// The same, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// Silence of a node.
    pub node_silent_after: Duration,
    /// Per cent of a limit.
    pub fill_percent: u8,
    /// Age of the oldest event.
    pub oldest_event: Option<Duration>,
    /// Distance of clocks.
    pub clock_skew: Option<Duration>,
    /// Per cent of a file system.
    pub disk_percent: u8,
    /// How long a loss counts.
    pub losses_for: Duration,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        AlertsFile::default().thresholds()
    }
}

impl AlertsFile {
    pub(super) fn check(&self, at: Node<'_>, problems: &mut Problems) -> Thresholds {
        for (key, percent) in
            [("fillPercent", self.fill_percent), ("diskPercent", self.disk_percent)]
        {
            if !(1..=100).contains(&percent) {
                let text = format!("expected a number from 1 to 100, found {percent}");
                problems.error(&at.get(key).unwrap_or(at), text);
            }
        }
        self.thresholds()
    }

    fn thresholds(&self) -> Thresholds {
        let unless_zero = |interval: Interval| {
            Some(interval.as_duration()).filter(|duration| !duration.is_zero())
        };
        Thresholds {
            node_silent_after: self.node_silent_after.into(),
            fill_percent: self.fill_percent,
            oldest_event: unless_zero(self.oldest_event),
            clock_skew: unless_zero(self.clock_skew),
            disk_percent: self.disk_percent,
            losses_for: self.losses_for.into(),
        }
    }
}
