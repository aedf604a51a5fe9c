//! `command`: a program's output becomes events, at an interval, by a cron pattern, or as it comes.
//!
//! Promise: one run at a time; a run is over for good (its output is stored, nothing of it still runs) before the next
//! begins. Output is read to its end, so that the program never hangs on a full pipe, and kept within a bound. What the
//! program itself promises is [`crate::child`]'s: it ends with the agent.

#[cfg(test)]
pub(super) mod contract;
mod run;
mod schedule;
mod stream;

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures_util::future::BoxFuture;
use rf_core::config::{ByteSize, Interval, Node, Problems, Secret, schema_of};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use self::run::Runs;
use self::schedule::Schedule;
use self::stream::Stream;
use super::defaults::{default_max_line, root_path};
use super::{Source, SourceContext, SourceError};
use crate::child::{ChildCommand, CommandLine};
use crate::pipeline::Output;
use crate::settings::{at, not_zero};

/// `params` of a `command` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CommandSourceConfig {
    /// Program and arguments as a list; with `shell` a line for `/bin/sh`.
    pub(crate) command: CommandLine,
    /// `command` is a line for the shell.
    #[serde(default)]
    pub(crate) shell: bool,
    /// What becomes an event.
    #[serde(default)]
    pub(crate) mode: Mode,
    /// Pause between the starts of two runs. Not for `stream`.
    #[serde(default)]
    pub(crate) interval_seconds: Option<Interval>,
    /// When it is run, in the time zone of the machine. Not for `stream`.
    #[serde(default)]
    pub(crate) cron: Option<String>,
    /// How long a run may take. Not for `stream`.
    #[serde(default = "default_timeout")]
    pub(crate) timeout: Interval,
    /// The folder that the program starts in; default: the agent's own.
    #[serde(default)]
    pub(crate) working_dir: Option<PathBuf>,
    /// Variables for the program, besides those of the agent.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, Secret>,
    /// Path of the events.
    #[serde(default = "root_path")]
    pub(crate) path: String,
    /// What is kept of a run's standard output, and of its standard error; the rest is cut.
    #[serde(default = "default_max_output")]
    pub(crate) max_output_bytes: ByteSize,
    /// A longer line is cut here.
    #[serde(default = "default_max_line")]
    pub(crate) max_line_bytes: ByteSize,
}

/// `mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Mode {
    /// One event a run.
    #[default]
    Output,
    /// One event a line.
    Lines,
    /// A program that goes on; one event a line, as it comes.
    Stream,
}

fn default_timeout() -> Interval {
    Interval::from_secs(10)
}

fn default_max_output() -> ByteSize {
    ByteSize::mib(1)
}

/// JSON Schema of [`CommandSourceConfig`].
pub(super) fn schema() -> Schema {
    schema_of::<CommandSourceConfig>()
}

/// Checks the configuration and makes the source.
pub(super) fn build(
    context: &SourceContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Box<dyn Source>> {
    let config: CommandSourceConfig = params.decode(problems)?;
    not_zero(params, &[("timeout", config.timeout)], problems);
    let CommandSourceConfig { command, working_dir, env, .. } = config;
    let child =
        ChildCommand { command, working_dir, env }.checked(config.shell, params, problems)?;
    let schedule = Schedule::of(config.interval_seconds, config.cron.as_deref())
        .map_err(|(key, message)| problems.error(&at(params, key), message))
        .ok()?;
    let id = context.id.to_owned();
    match (config.mode, schedule) {
        (Mode::Stream, None) => Some(Box::new(Stream {
            id,
            child,
            path: config.path,
            max_line_bytes: config.max_line_bytes.as_usize(),
        })),
        (Mode::Stream, Some(_)) => {
            problems.error(params, "a stream runs continuously: remove intervalSeconds and cron");
            None
        }
        (_, None) => {
            problems.error(params, "expected intervalSeconds or cron: when to run the command");
            None
        }
        (mode, Some(schedule)) => Some(Box::new(Runs {
            id,
            child,
            schedule,
            is_lines: mode == Mode::Lines,
            timeout: config.timeout.into(),
            path: config.path,
            max_output_bytes: config.max_output_bytes.as_usize(),
            max_line_bytes: config.max_line_bytes.as_usize(),
        })),
    }
}

impl Source for Runs {
    fn run(
        self: Box<Self>,
        out: Output,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            self.go_on(&out, &stop).await;
            Ok(())
        })
    }
}

impl Source for Stream {
    fn run(
        self: Box<Self>,
        out: Output,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            self.go_on(&out, &stop).await;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use rf_core::config::{Problems, parse};
    use serde_json::json;

    use super::build;
    use crate::source::SourceContext;

    fn problems_of(params: &serde_json::Value) -> String {
        let mut problems = Problems::new();
        let document = parse("file", &params.to_string(), &|_| None, &mut problems).expect("JSON");
        let context = SourceContext { id: "c", env_name: "", host_name: "h", hook_interval: None };
        let built = build(&context, &document.root(), &mut problems);
        assert_eq!(built.is_some(), !problems.has_errors(), "{problems}");
        problems.to_string()
    }

    #[test]
    fn what_does_not_fit_together_is_told() {
        let check = |params: serde_json::Value, expected: &str| {
            let told = problems_of(&params);
            assert!(told.contains(expected) && told.is_empty() == expected.is_empty(), "{told}");
        };
        check(json!({ "command": ["df"], "intervalSeconds": 60 }), "");
        check(json!({ "command": "df | wc", "shell": true, "cron": "*/5 * * * *" }), "");
        check(json!({ "command": ["tail", "-F", "x"], "mode": "stream" }), "");
        check(json!({ "command": ["df"] }), "expected intervalSeconds or cron");
        check(json!({ "command": ["df"], "intervalSeconds": 1, "cron": "@daily" }), "only one of");
        check(json!({ "command": ["df"], "intervalSeconds": 0 }), "above zero");
        let cron = |pattern: &str| json!({ "command": ["df"], "cron": pattern });
        check(cron("61 * * * *"), "the minute is wrong: ");
        check(cron("0 0 1 13 *"), "the month is wrong: ");
        check(cron("61 * * * * *"), "the second is wrong: ");
        check(cron("* *"), "expected a cron pattern such as");
        check(json!({ "command": "df", "intervalSeconds": 1 }), "\"shell\": true");
        check(json!({ "command": ["x"], "mode": "stream", "cron": "@daily" }), "runs continuously");
    }
}
