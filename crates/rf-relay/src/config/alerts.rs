//! `alerts`: from when on something is wrong, on the status page and for alerts alike.

use std::collections::BTreeMap;
use std::time::Duration;

use rf_core::config::{Interval, Node, Problems, Secret};
use rf_notify::{Target, TargetConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::Level;

/// Calling more often helps nobody.
const MIN_HEARTBEAT: Duration = Duration::from_secs(1);

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
    /// What is wrong for so long is told: in the log, and to `notify`. Its end is told too.
    pub after: Interval,
    /// From which level on it is told.
    pub level: AlertLevel,
    /// The services that are told, each by a name of your choice.
    #[serde(skip_serializing)]
    pub notify: BTreeMap<String, TargetConfig>,
    /// An address elsewhere that is called as long as this relay works, so that somebody notices when it does not.
    #[serde(skip_serializing)]
    pub heartbeat_url: Option<Secret>,
    /// How often it is called.
    pub heartbeat_every: Interval,
}

/// From which level on something is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AlertLevel {
    /// What may become trouble, too.
    #[default]
    Warn,
    /// Trouble only.
    Bad,
}

/// Who is told of what, checked.
#[derive(Debug, Clone)]
pub struct AlertsConfig {
    /// How long it must last.
    pub after: Duration,
    /// How bad it must be.
    pub least: Level,
    /// Services.
    pub notify: Vec<Target>,
    /// The heartbeat's address.
    pub heartbeat_url: Option<Secret>,
    /// Its pace.
    pub heartbeat_every: Duration,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        AlertsFile::default().told(Vec::new())
    }
}

/// Services that are told, at the most.
const MAX_NOTIFY: usize = 32;

impl Default for AlertsFile {
    fn default() -> Self {
        Self {
            node_silent_after: Interval::from_secs(180),
            fill_percent: 80,
            oldest_event: Interval::from_secs(600),
            clock_skew: Interval::from_secs(10),
            disk_percent: 90,
            losses_for: Interval::from_secs(900),
            after: Interval::from_secs(60),
            level: AlertLevel::Warn,
            notify: BTreeMap::new(),
            heartbeat_url: None,
            heartbeat_every: Interval::from_secs(60),
        }
    }
}

/// The same, checked.
#[derive(Debug, Clone, PartialEq)]
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
    fn default() -> Self {
        AlertsFile::default().thresholds()
    }
}

impl AlertsFile {
    pub(super) fn check(
        &self,
        at: Node<'_>,
        problems: &mut Problems,
    ) -> (Thresholds, AlertsConfig) {
        for (key, percent) in
            [("fillPercent", self.fill_percent), ("diskPercent", self.disk_percent)]
        {
            if !(1..=100).contains(&percent) {
                let text = format!("expected a number from 1 to 100, found {percent}");
                problems.error(&at.get(key).unwrap_or(at), text);
            }
        }
        let every = self.heartbeat_every.as_duration();
        if every < MIN_HEARTBEAT {
            let text = "expected at least 1s";
            problems.error(&at.get("heartbeatEvery").unwrap_or(at), text);
        }
        let is_url = |url: &Secret| {
            let url = url.expose().parse::<http::Uri>();
            url.is_ok_and(|url| {
                matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some()
            })
        };
        if self.heartbeat_url.as_ref().is_some_and(|url| !url.is_empty() && !is_url(url)) {
            let text = "expected an http or https URL with a host";
            problems.error(&at.get("heartbeatUrl").unwrap_or(at), text);
        }
        let notify = at.get("notify").unwrap_or(at);
        if self.notify.len() > MAX_NOTIFY {
            problems.error(&notify, format!("expected at most {MAX_NOTIFY} services"));
        }
        let target = |(name, config): (&String, &TargetConfig)| {
            Target::build(name, config, &notify.get(name).unwrap_or(notify), problems)
        };
        let targets = self.notify.iter().filter_map(target).collect();
        (self.thresholds(), self.told(targets))
    }

    fn told(&self, notify: Vec<Target>) -> AlertsConfig {
        AlertsConfig {
            after: self.after.into(),
            least: match self.level {
                AlertLevel::Warn => Level::Warn,
                AlertLevel::Bad => Level::Bad,
            },
            notify,
            heartbeat_url: self.heartbeat_url.clone().filter(|url| !url.is_empty()),
            heartbeat_every: self.heartbeat_every.into(),
        }
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
