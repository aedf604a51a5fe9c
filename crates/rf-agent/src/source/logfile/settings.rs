//! The keys of `params`, and what they come to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use glob::Pattern;
use regex::Regex;
use rf_core::config::{ByteSize, Interval, Node, Problems, schema_of};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;

use super::encoding::Encoding;
use super::event::EventTemplate;
use super::multiline::{Multiline, Rule};
use super::run::LogfileSource;
use crate::settings::{at, not_zero, regex_reason};
use crate::source::{Source, SourceContext};

/// How often is looked for new files, and for news that the kernel did not tell, where the file says nothing.
const DEFAULT_POLL: Duration = Duration::from_secs(1);
const MIN_POLL: Duration = Duration::from_millis(10);
/// A longer line can be of no use, and each file's reading needs so much memory.
const MAX_LINE_BYTES: u64 = 16 * 1024 * 1024;
const MIN_LINE_BYTES: u64 = 16;

/// `params` of a `logfile` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LogfileSourceConfig {
    /// A file, as its path stands.
    #[serde(default)]
    pub(crate) file_path: String,
    /// Files, or patterns with `*`, `?`, `[..]` and `**`; looked for again and again.
    #[serde(default)]
    pub(crate) file_paths: Vec<String>,
    /// Patterns of files that are not read; one without a slash is about the file's name.
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
    /// Where a file begins that was never seen and is there at the start. One that appears later is read whole.
    #[serde(default)]
    pub(crate) start_at: StartAt,
    /// The file is known again by its first so many lines; 0: by its first 1 KiB.
    #[serde(default)]
    pub(crate) fingerprint_lines: usize,
    /// A file whose every line is stored is emptied after so long; 0: never.
    #[serde(default)]
    pub(crate) remove_after_secs: Interval,
    /// `path` of the events.
    #[serde(default = "slash")]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub(crate) http_path: String,
    /// Lines that belong together; none: each line is an event.
    #[serde(default)]
    pub(crate) multiline: Option<MultilineConfig>,
    /// A longer line is cut, marked and counted.
    #[serde(default = "default_max_line")]
    pub(crate) max_line_bytes: ByteSize,
    /// How the bytes are read; what is not text in it becomes U+FFFD.
    #[serde(default)]
    pub(crate) encoding: Encoding,
    /// A last line without its end is sent when nothing was added for so long; 0: never.
    #[serde(default = "default_partial_timeout")]
    pub(crate) partial_line_timeout: Interval,
}

/// `startAt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum StartAt {
    /// With its first line.
    #[default]
    Beginning,
    /// With what is added.
    End,
}

/// `multiline`: exactly one of the three patterns.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MultilineConfig {
    /// A line that matches begins an event; others belong to the one before.
    #[serde(default)]
    pub(crate) start: String,
    /// A line that matches belongs to the one before; others begin an event.
    #[serde(default, rename = "continue")]
    pub(crate) continues: String,
    /// A line that matches ends an event.
    #[serde(default)]
    pub(crate) end: String,
    /// Most lines of an event; the next one begins another.
    #[serde(default = "default_max_lines")]
    pub(crate) max_lines: usize,
    /// An event whose end is not certain is sent when nothing was added for so long.
    #[serde(default = "default_multiline_timeout")]
    pub(crate) timeout: Interval,
}

fn slash() -> String {
    "/".to_owned()
}

fn default_max_line() -> ByteSize {
    ByteSize::mib(1)
}

fn default_partial_timeout() -> Interval {
    Interval::from_secs(5)
}

fn default_max_lines() -> usize {
    500
}

fn default_multiline_timeout() -> Interval {
    Interval::from_secs(1)
}

/// JSON Schema of [`LogfileSourceConfig`].
pub(in crate::source) fn schema() -> Schema {
    schema_of::<LogfileSourceConfig>()
}

/// What the source works with.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) id: String,
    /// Files as they stand.
    pub(super) literals: Vec<PathBuf>,
    pub(super) patterns: Vec<Pattern>,
    pub(super) exclude: Vec<Pattern>,
    pub(super) start_at: StartAt,
    pub(super) fingerprint_lines: usize,
    pub(super) remove_after: Option<Duration>,
    pub(super) template: EventTemplate,
    pub(super) multiline: Option<Multiline>,
    pub(super) max_line: usize,
    pub(super) encoding: Encoding,
    pub(super) partial_timeout: Option<Duration>,
    pub(super) poll: Duration,
}

/// Checks the configuration and makes the source.
pub(in crate::source) fn build(
    context: &SourceContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Box<dyn Source>> {
    let config: LogfileSourceConfig = params.decode(problems)?;
    let settings = check(context, &config, params, problems)?;
    Some(Box::new(LogfileSource::new(settings)))
}

pub(super) fn check(
    context: &SourceContext<'_>,
    config: &LogfileSourceConfig,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Settings> {
    let before = problems.error_count();
    if config.file_path.is_empty() && config.file_paths.is_empty() {
        problems
            .error(params, "expected filePath, a file, or filePaths, a list of files and patterns");
    }
    check_paths(config, params, problems);
    let line = config.max_line_bytes.bytes();
    if !(MIN_LINE_BYTES..=MAX_LINE_BYTES).contains(&line) {
        let told = format!("expected {MIN_LINE_BYTES} to {MAX_LINE_BYTES} bytes");
        problems.error(&at(params, "maxLineBytes"), told);
    }
    let (literals, globs): (Vec<_>, Vec<_>) =
        config.file_paths.iter().enumerate().partition(|(_, path)| Pattern::escape(path) == **path);
    let literals = literals.into_iter().map(|(_, path)| path).chain(Some(&config.file_path));
    let literals = literals.filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    let nothing = |time: Interval| Some(Duration::from(time)).filter(|time| !time.is_zero());
    let settings = Settings {
        id: context.id.to_owned(),
        literals,
        patterns: patterns(globs, &at(params, "filePaths"), problems),
        exclude: patterns(config.exclude.iter().enumerate(), &at(params, "exclude"), problems),
        start_at: config.start_at,
        fingerprint_lines: config.fingerprint_lines,
        remove_after: nothing(config.remove_after_secs),
        template: EventTemplate::new(&config.http_path),
        multiline: multiline(config, params, problems),
        max_line: config.max_line_bytes.as_usize(),
        encoding: config.encoding,
        partial_timeout: nothing(config.partial_line_timeout),
        poll: context.hook_interval.unwrap_or(DEFAULT_POLL).max(MIN_POLL),
    };
    (problems.error_count() == before).then_some(settings)
}

/// Reports paths that are folders, of which no line can be read, and a pattern in the key that takes none.
fn check_paths(config: &LogfileSourceConfig, params: &Node<'_>, problems: &mut Problems) {
    let node = at(params, "filePath");
    let path = &config.file_path;
    if path.contains(['*', '?']) && !Path::new(path).exists() {
        let told = "a literal path, in which `*` and `?` have no meaning; patterns belong in filePaths, a list";
        problems.warn(&node, told);
    }
    let is_folder = |node: &Node<'_>| node.as_str().is_some_and(|path| Path::new(path).is_dir());
    let mut paths = at(params, "filePaths").items();
    paths.push(node);
    paths.retain(is_folder);
    for node in &paths {
        let told = format!(
            "expected a file, {} is a folder; filePaths takes patterns such as \"/var/log/*.log\"",
            node.shown()
        );
        problems.error(node, told);
    }
}

/// Patterns of a list, each with its place in it, where one that is none is reported.
fn patterns<'a>(
    texts: impl IntoIterator<Item = (usize, &'a String)>,
    list: &Node<'_>,
    problems: &mut Problems,
) -> Vec<Pattern> {
    let places = list.items();
    let mut patterns = Vec::new();
    for (index, text) in texts {
        match Pattern::new(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                let place = places.get(index).unwrap_or(list);
                problems.error(place, format!("{} is not a pattern: {error}", place.shown()));
            }
        }
    }
    patterns
}

/// `None`: no such key, or a problem.
fn multiline(
    config: &LogfileSourceConfig,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Multiline> {
    let config = config.multiline.as_ref()?;
    let node = at(params, "multiline");
    if config.max_lines == 0 {
        problems.error(&at(&node, "maxLines"), "expected more than zero");
    }
    not_zero(&node, &[("timeout", config.timeout)], problems);
    let given: Vec<(&str, Rule, &String)> = [
        ("start", Rule::Start, &config.start),
        ("continue", Rule::Continue, &config.continues),
        ("end", Rule::End, &config.end),
    ]
    .into_iter()
    .filter(|(_, _, pattern)| !pattern.is_empty())
    .collect();
    let [(key, rule, pattern)] = given.as_slice() else {
        problems.error(
            &node,
            "expected exactly one of start, continue and end, with a regular expression",
        );
        return None;
    };
    let pattern = Regex::new(pattern)
        .map_err(|error| {
            let reason = regex_reason(&error);
            problems.error(&at(&node, key), format!("not a regular expression: {reason}"));
        })
        .ok()?;
    let (max_lines, timeout) = (config.max_lines, config.timeout.into());
    Some(Multiline { rule: *rule, pattern, max_lines, timeout })
}
