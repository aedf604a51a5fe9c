//! The keys of a script in the files of proxy and player.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rf_core::config::{ByteSize, Interval, Node, Problems};
use rf_script::{GrokPatterns, Limits, OnError, ScriptOptions, Vm, read_script};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{DEFAULT_TIMER, ScriptPlan, missing};
use crate::settings::at;

/// `scriptLimits`: past one of them the call fails, and only that event with it.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScriptLimitsConfig {
    /// Memory of the script's VM.
    #[serde(default = "memory_bytes")]
    pub memory_bytes: ByteSize,
    /// Milliseconds for one call of a hook; loading, `init` and `TransformBatch` have 20 times as much.
    #[serde(default = "call_time_ms")]
    #[schemars(range(min = 1, max = 60000))]
    pub call_time_ms: u64,
    /// Events that one call may emit.
    #[serde(default = "emitted_events")]
    pub emitted_events: usize,
    /// Content bytes that one call may emit.
    #[serde(default = "emitted_bytes")]
    pub emitted_bytes: ByteSize,
    /// Lines that one call may log; more are not written.
    #[serde(default = "log_lines")]
    pub log_lines: usize,
}

fn memory_bytes() -> ByteSize {
    ByteSize::mib(64)
}

fn call_time_ms() -> u64 {
    100
}

fn emitted_events() -> usize {
    10_000
}

fn emitted_bytes() -> ByteSize {
    ByteSize::mib(32)
}

fn log_lines() -> usize {
    100
}

impl Default for ScriptLimitsConfig {
    fn default() -> Self {
        Self {
            memory_bytes: memory_bytes(),
            call_time_ms: call_time_ms(),
            emitted_events: emitted_events(),
            emitted_bytes: emitted_bytes(),
            log_lines: log_lines(),
        }
    }
}

impl From<ScriptLimitsConfig> for Limits {
    fn from(config: ScriptLimitsConfig) -> Self {
        Self {
            memory_bytes: config.memory_bytes.as_usize(),
            call_time: Duration::from_millis(config.call_time_ms),
            emitted_events: config.emitted_events,
            emitted_bytes: config.emitted_bytes.as_usize(),
            log_lines: config.log_lines,
        }
    }
}

/// `onError`: what becomes of an event whose script failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnErrorConfig {
    /// It is kept as a dead letter with the reason.
    #[default]
    DeadLetter,
    /// It goes on as it came, as if there were no script.
    Pass,
    /// It is discarded and counted.
    Drop,
}

impl From<OnErrorConfig> for OnError {
    fn from(config: OnErrorConfig) -> Self {
        match config {
            OnErrorConfig::DeadLetter => Self::DeadLetter,
            OnErrorConfig::Pass => Self::Pass,
            OnErrorConfig::Drop => Self::Drop,
        }
    }
}

/// `grokPatterns`: a folder of files with lines `NAME pattern`, or an object of names and patterns.
#[derive(Debug, Clone, Default)]
pub enum GrokPatternsConfig {
    /// The stock patterns alone.
    #[default]
    None,
    /// Files of this folder.
    Folder(PathBuf),
    /// Written in the file.
    Map(BTreeMap<String, String>),
}

impl GrokPatternsConfig {
    fn load(&self) -> Result<GrokPatterns, String> {
        match self {
            Self::None => Ok(GrokPatterns::default()),
            Self::Folder(folder) => GrokPatterns::from_folder(folder),
            Self::Map(patterns) => GrokPatterns::from_map(patterns.clone()),
        }
    }
}

impl<'de> Deserialize<'de> for GrokPatternsConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PatternsVisitor)
    }
}

struct PatternsVisitor;

impl<'de> Visitor<'de> for PatternsVisitor {
    type Value = GrokPatternsConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a folder of pattern files, or an object of names and patterns")
    }

    fn visit_str<E: Error>(self, folder: &str) -> Result<GrokPatternsConfig, E> {
        Ok(if folder.is_empty() {
            GrokPatternsConfig::None
        } else {
            GrokPatternsConfig::Folder(folder.into())
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<GrokPatternsConfig, A::Error> {
        let mut patterns = BTreeMap::new();
        while let Some((name, pattern)) = map.next_entry()? {
            patterns.insert(name, pattern);
        }
        Ok(GrokPatternsConfig::Map(patterns))
    }
}

impl JsonSchema for GrokPatternsConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GrokPatterns".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "object"],
            "description": "a folder of pattern files, or an object of names and patterns",
        })
    }
}

/// Reports a script whose failed events have nowhere to pass to.
pub(crate) fn check_pass(
    script: Option<&ScriptPlan>,
    no_routes: bool,
    node: &Node<'_>,
    problems: &mut Problems,
) {
    if no_routes && script.is_some_and(|script| script.options.on_error == OnError::Pass) {
        let message = "`pass` sends a failed event on unchanged: expected the sinks to send it to (targetSink or sinks)";
        problems.error(&at(node, "onError"), message);
    }
}

/// What a component's keys say about its script.
pub(crate) struct ScriptKeys<'a> {
    pub(crate) path: &'a str,
    pub(crate) limits: ScriptLimitsConfig,
    pub(crate) on_error: OnErrorConfig,
    pub(crate) unsafe_scripts: bool,
    pub(crate) grok_patterns: &'a GrokPatternsConfig,
}

/// The function that a component calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Of a source.
    Process,
    /// Of a sink.
    TransformBatch,
}

impl Hook {
    /// Looks for the function in a script that was loaded.
    ///
    /// # Errors
    /// That the script does not have it.
    pub(super) fn check(self, path: &Path, vm: &Vm) -> Result<(), String> {
        let lacking = match (self, vm.has_process(), vm.has_transform_batch()) {
            (Self::Process, true, _) | (Self::TransformBatch, _, true) => return Ok(()),
            (Self::Process, ..) => "Process(content, emit): a source calls it with each event",
            (Self::TransformBatch, ..) => {
                "TransformBatch(messages, request): a sink calls it with each batch"
            }
        };
        Err(format!("{}: the script has no function {lacking}", path.display()))
    }
}

impl ScriptKeys<'_> {
    /// The script of a source that runs its timer every `interval`.
    pub(crate) fn check_source(
        &self,
        sinks: &[String],
        interval: Option<Interval>,
        node: &Node<'_>,
        problems: &mut Problems,
    ) -> Option<ScriptPlan> {
        let options = self.check(Hook::Process, sinks, node, problems)?;
        let timer = interval.map_or(DEFAULT_TIMER, Duration::from);
        if timer.is_zero() {
            problems.error(&at(node, "hookInterval"), "expected a time above zero");
            return None;
        }
        Some(ScriptPlan { options, timer })
    }

    /// Loads the script as a start would, so that `check` finds what a start would find. `None`: there is no script, or it
    /// has a problem.
    pub(crate) fn check(
        &self,
        hook: Hook,
        sinks: &[String],
        node: &Node<'_>,
        problems: &mut Problems,
    ) -> Option<Arc<ScriptOptions>> {
        if self.path.is_empty() {
            return None;
        }
        let patterns = self.grok_patterns.load();
        let patterns =
            patterns.map_err(|reason| problems.error(&at(node, "grokPatterns"), reason)).ok()?;
        let mut options = ScriptOptions::new(Path::new(self.path), sinks.to_vec());
        options.limits = self.limits.into();
        options.on_error = self.on_error.into();
        options.unsafe_scripts = self.unsafe_scripts;
        options.grok_patterns = Arc::new(patterns);
        let options = Arc::new(options);
        let script_at = at(node, "transformScript");
        let loaded = read_script(&options.path).and_then(|text| {
            let vm = Vm::from_text(Arc::clone(&options), BTreeMap::new(), &text)?;
            Ok((vm, text))
        });
        let (vm, text) =
            loaded.map_err(|error| problems.error(&script_at, error.to_string())).ok()?;
        for warning in missing::warnings(&options.path, &text, Some(self.unsafe_scripts)) {
            problems.warn(&script_at, warning);
        }
        hook.check(&options.path, &vm)
            .map_err(|message| problems.error(&script_at, message))
            .ok()?;
        Some(options)
    }
}
