//! `/metrics`: the agent's own figures, with the names and labels that its relays give them.

use rf_core::clock::unix_ms;
use rf_core::metrics::{Agent, Form, Kind, Text, Value, agents};

use super::sight::Sight;

/// The whole text.
pub(super) fn metrics(sight: &Sight, form: Form) -> String {
    let info = sight.node_info();
    let role = sight.role.as_str();
    let mut text = Text::new(form);
    text.family("replayforge_build_info", Kind::Gauge, "The agent's version; always 1.");
    let labels = [("role", role), ("version", info.version.as_str())];
    text.sample("replayforge_build_info", &labels, 1);
    let name = "replayforge_start_time_seconds";
    text.family(name, Kind::Gauge, "When the agent was started, in seconds since 1970.");
    text.sample(name, &[], Value::of_ms(info.started_at_ms));
    let node = format!("{}/{role}", sight.host_name);
    let labels = [("node", node.as_str()), ("env", &sight.env_name), ("role", role)];
    agents(&mut text, &[Agent { labels, info: &info, skew_ms: 0, now_ms: unix_ms() }]);
    text.finish()
}
