//! `params` of an `alert` sink, and the rules that they make.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use rf_core::config::{ByteSize, Interval, Node, Problems};
use schemars::JsonSchema;
use serde::Deserialize;

use super::watcher::{MAX_WINDOW, Rule};
use crate::settings::{Port, at};
use crate::sink::table::defaults::localhost;

/// `params` of an `alert` sink; the keys are spelled as in the original.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) struct AlertSinkConfig {
    /// Path of the SQLite database; relative paths begin in `dataDir`.
    pub(crate) database: PathBuf,
    /// Name of the sink that notifications go to; empty: none are sent.
    #[serde(default)]
    pub(crate) notification_sink: String,
    /// By table: its script and its rules. A table without an entry has the defaults.
    #[serde(default)]
    pub(crate) scripts: BTreeMap<String, AlertTableConfig>,
    /// Rows that were not written for so many seconds are removed; 0: never.
    #[serde(default)]
    pub(crate) row_ttl_sec: u64,
    /// The database's file may grow to this; then writing pauses, and events wait in the sink's queue. None: no bound.
    #[serde(default)]
    pub(crate) max_bytes: Option<ByteSize>,
    /// Port of a listener of the sink's own for its queries; none: the player's server only.
    #[serde(default)]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub(super) exposed_port: Option<Port>,
    /// Address of that listener.
    #[serde(default = "localhost")]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub(crate) listen_addr: String,
}

/// What is watched in one table.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AlertTableConfig {
    /// Path of a Lua script with `extractStatus(json)`; none: the body's `status`.
    #[serde(default)]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub(crate) script_path: Option<PathBuf>,
    /// An event must come at least so often; none: it need not.
    #[serde(default)]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub(crate) heartbeat_interval: Option<Interval>,
    /// How much later than that it may come.
    #[serde(default)]
    pub(crate) heartbeat_grace: Interval,
    /// So many bad events raise the alarm.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 64))]
    pub(crate) consecutive_bad: u32,
    /// Among the last so many; none: in a row.
    #[serde(default)]
    #[schemars(range(min = 1, max = 64))]
    pub(crate) out_of: Option<u32>,
    /// An alarm is told again so often; none: it is told once.
    #[serde(default)]
    pub(crate) reminder_interval: Option<Interval>,
    /// Nothing is told until this time, in any form of a timestamp; none: everything is.
    #[serde(default)]
    pub(crate) silenced_until: Option<String>,
}

impl Default for AlertTableConfig {
    fn default() -> Self {
        Self {
            script_path: None,
            heartbeat_interval: None,
            heartbeat_grace: Interval::default(),
            consecutive_bad: three(),
            out_of: None,
            reminder_interval: None,
            silenced_until: None,
        }
    }
}

fn three() -> u32 {
    3
}

impl AlertTableConfig {
    /// The rule of this table.
    pub(super) fn rule(&self) -> Rule {
        let micros = |time: Interval| {
            i64::try_from(Duration::from(time).as_micros()).unwrap_or(i64::MAX / 4)
        };
        let bad = self.consecutive_bad.clamp(1, MAX_WINDOW);
        let heartbeat = self.heartbeat_interval.filter(|every| !every.as_duration().is_zero());
        let reminder = self.reminder_interval.filter(|every| !every.as_duration().is_zero());
        Rule {
            bad,
            of: self.out_of.unwrap_or(bad).clamp(bad, MAX_WINDOW),
            heartbeat: heartbeat
                .map(|every| micros(every).saturating_add(micros(self.heartbeat_grace))),
            reminder: reminder.map(micros),
        }
    }

    /// Reports what the types do not say.
    pub(super) fn check(&self, node: &Node<'_>, problems: &mut Problems) {
        if self.out_of.is_some_and(|of| of < self.consecutive_bad) {
            problems.error(
                &at(node, "outOf"),
                format!("expected at least consecutiveBad ({})", self.consecutive_bad),
            );
        }
        if self.silenced_until.as_deref().is_some_and(|text| silence(text).is_none()) {
            let expected = crate::sink::table::timestamp::EXPECTED;
            problems.error(&at(node, "silencedUntil"), format!("expected {expected}"));
        }
    }

    /// The end of the silence that the file asks for, microseconds since 1970.
    pub(super) fn silenced_until_us(&self) -> Option<i64> {
        self.silenced_until.as_deref().and_then(silence)
    }
}

fn silence(text: &str) -> Option<i64> {
    crate::sink::table::timestamp::parse(text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn keys_make_the_rule_of_a_table() {
        const MINUTE: i64 = 60_000_000;
        let usual = Rule { bad: 3, of: 3, heartbeat: None, reminder: None };
        let check = |keys: Value, expected: Rule| {
            let config: AlertTableConfig = serde_json::from_value(keys.clone()).unwrap();
            assert_eq!(config.rule(), expected, "{keys}");
        };
        check(json!({}), usual);
        check(json!({ "consecutiveBad": 4 }), Rule { bad: 4, of: 4, ..usual });
        check(json!({ "consecutiveBad": 2, "outOf": 5 }), Rule { bad: 2, of: 5, ..usual });
        let every = |minutes: i64| Rule { heartbeat: Some(minutes * MINUTE), ..usual };
        check(json!({ "heartbeatInterval": "5m" }), every(5));
        check(json!({ "heartbeatInterval": "5m", "heartbeatGrace": "1m" }), every(6));
        let reminder = Some(6 * 60 * MINUTE);
        check(json!({ "reminderInterval": "6h" }), Rule { reminder, ..usual });
        let off = json!({ "heartbeatInterval": 0, "heartbeatGrace": "1m", "reminderInterval": 0 });
        check(off, usual);
    }
}
