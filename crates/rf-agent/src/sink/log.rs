//! `log` sink: events as lines of the program's own log, or of a file of its own.
//!
//! In the program's log they are lines like all others: below `LOG_LEVEL` they are not shown, repeats are muted, a flood is
//! counted. A file of its own gets every event, exactly once, and is bounded: it is a [`super::file`] sink of lines.

#[cfg(test)]
pub(super) mod contract;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use rf_core::config::{ByteSize, Node, Problems, schema_of};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;

use super::file::{Compress, FileFormat, FileSinkConfig, Fsync, Keys};
use super::{Shape, Sink, SinkBatch, SinkContext, SinkError, Writes};

/// As much of an event is shown in the program's log.
const MAX_SHOWN_BYTES: usize = 4096;

/// `params` of a `log` sink.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LogSinkConfig {
    /// Level of the lines.
    #[serde(default)]
    #[schemars(extend("x-zero-is-unset" = true, "x-any-case" = true))]
    pub(crate) log_level: LogLevel,
    /// A file of its own, relative to `dataDir`; empty: the program's log.
    #[serde(default)]
    pub(crate) log_file_path: String,
    /// The file is finished when it would grow above this; default 10 MiB.
    #[serde(default)]
    pub(crate) max_file_bytes: Option<ByteSize>,
    /// Bytes of all its files: the oldest are removed; default 100 MiB.
    #[serde(default)]
    pub(crate) max_total_bytes: Option<ByteSize>,
}

/// `logLevel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum LogLevel {
    /// Finest.
    Trace,
    /// For looking closely.
    Debug,
    /// What happens.
    #[default]
    Info,
    /// What should not.
    Warn,
    /// What must not.
    Error,
}

impl LogLevel {
    /// In capitals, as lines show it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// JSON Schema of [`LogSinkConfig`].
pub(super) fn schema() -> Schema {
    schema_of::<LogSinkConfig>()
}

/// Checks the configuration and makes the sink.
pub(super) fn build(
    context: &SinkContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn Sink>> {
    let config: LogSinkConfig = params.decode(problems)?;
    if config.log_file_path.is_empty() {
        return Some(Arc::new(LogSink {
            name: context.name.to_owned(),
            level: config.log_level,
            shape: Shape::of(Writes::Singles { concurrency: 1 }),
        }));
    }
    let file = FileSinkConfig {
        path: config.log_file_path.replace('%', "%%").replace('{', "{{"),
        format: FileFormat::LogLine(config.log_level),
        rotate_bytes: config.max_file_bytes.unwrap_or(ByteSize::mib(10)),
        rotate_after: None,
        compress: Compress::None,
        max_total_bytes: Some(config.max_total_bytes.unwrap_or(ByteSize::mib(100))),
        fsync: Fsync::Rotation,
    };
    let keys = Keys { path: "logFilePath", rotate_bytes: "maxFileBytes" };
    super::file::of_config(context, file, &keys, params, problems)
}

struct LogSink {
    name: String,
    level: LogLevel,
    shape: Shape,
}

impl Sink for LogSink {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        for event in batch.events.iter() {
            let shown = event.content.get(..MAX_SHOWN_BYTES).unwrap_or(&event.content);
            let content = String::from_utf8_lossy(shown);
            let sink = self.name.as_str();
            match self.level {
                LogLevel::Trace => tracing::trace!(sink, %content, "event"),
                LogLevel::Debug => tracing::debug!(sink, %content, "event"),
                LogLevel::Info => tracing::info!(sink, %content, "event"),
                LogLevel::Warn => tracing::warn!(sink, %content, "event"),
                LogLevel::Error => tracing::error!(sink, %content, "event"),
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rf_core::config::{Problems, parse};

    use super::{LogLevel, LogSinkConfig, SinkContext, build};

    #[test]
    fn what_is_wrong_is_told_at_its_own_keys() {
        let check = |params: &str, expected: &str| {
            let mut problems = Problems::new();
            let document = parse("player.json", params, &|_| None, &mut problems).expect("JSON5");
            let data_dir = Path::new(".");
            let context = SinkContext { name: "log", data_dir, sinks: &["log"] };
            assert!(build(&context, &document.root(), &mut problems).is_none(), "{params}");
            assert!(problems.to_string().contains(expected), "{params}: {problems}");
        };
        check("{ logFilePath: 'in/' }", "logFilePath: expected the path of a file");
        check("{ logFilePath: 'x', maxFileBytes: 0 }", "maxFileBytes: expected a size above zero");
        check(
            "{ logFilePath: 'x', maxTotalBytes: '1MiB' }",
            "maxTotalBytes: expected at least maxFileBytes (10485760 bytes)",
        );
        check(
            "{ logFilePath: 'x', maxFileBytes: '200MiB' }",
            "maxTotalBytes is 100MiB by default and must be at least maxFileBytes (209715200",
        );
    }

    #[test]
    fn files_may_be_without_a_limit() {
        let params = "{ logFilePath: 'x', maxTotalBytes: 0 }";
        let mut problems = Problems::new();
        let document = parse("player.json", params, &|_| None, &mut problems).expect("JSON5");
        let context = SinkContext { name: "log", data_dir: Path::new("."), sinks: &["log"] };
        let built = build(&context, &document.root(), &mut problems);
        assert!(built.is_some() && problems.is_ok(), "{problems}");
    }

    #[test]
    fn levels_go_without_regard_to_case_and_none_is_info() {
        for (params, expected) in [
            ("{ logLevel: 'warn' }", LogLevel::Warn),
            ("{ logLevel: 'WARN' }", LogLevel::Warn),
            ("{ LogLevel: 'Error' }", LogLevel::Error),
            ("{ logLevel: '' }", LogLevel::Info),
            ("{ logLevel: null, logFilePath: null }", LogLevel::Info),
            ("{}", LogLevel::Info),
        ] {
            let mut problems = Problems::new();
            let document = parse("player.json", params, &|_| None, &mut problems).expect("JSON5");
            let config: Option<LogSinkConfig> = document.root().decode(&mut problems);
            let level = config.map(|config| config.log_level);
            assert_eq!(level, Some(expected), "{params}: {problems}");
        }
    }
}
