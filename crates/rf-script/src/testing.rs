//! Script tests: files beside scripts that say what goes in and what is to come out.
//!
//! Beside `nginx.lua` lies `nginx.test.json`: JSON with comments and trailing commas.
//!
//! ```json5
//! {
//!   "sinks": ["errors", "access"], // the names that `emit` takes; without this key it takes any
//!   "limits": { "callTime": "100ms", "memoryBytes": "64MiB" }, // also emittedEvents, emittedBytes, logLines
//!   "env": { "DD_API_KEY": "abc" }, // all that `os.getenv` knows: the machine's variables are hidden
//!   "grokPatterns": { "ORDER": "[A-Z]{2}-[0-9]+" }, // or a folder of files, from here on
//!   "unsafeScripts": false,
//!   "tests": [
//!     {
//!       "name": "an error goes to its sink",
//!       "clock": "2026-11-24T00:00:00Z", // default: 2026-01-01T00:00:00Z; stands still but for ticks
//!       "kv": { "seen": 1 }, // what `kv_get` answers at first
//!       "steps": [
//!         { "input": "a line", "emits": [{ "sink": "errors", "content": { "line": "a line" } }] },
//!         { "input": { "a": 1 }, "event": "http", "request": { "path": "/x", "headers": { "X-A": "b" } }, "dropped": "why" },
//!         { "tick": "5s", "emits": [] },
//!         { "batch": ["a", "b"], "messages": ["A", "B"], "path": "/x", "headers": { "k": "v" } },
//!         { "body": { "code": 502 }, "status": "HTTP 502" },
//!       ],
//!     },
//!   ],
//! }
//! ```
//!
//! A step has one of `input` (calls `Process`), `tick` (moves the clock on, calls `TimerHandler`), `batch` (calls
//! `TransformBatch`) and `body` (calls `extractStatus`). What a step does not name is not expected: no `emits`, none; no
//! `messages`, the batch as it was; no `status`, the empty one. A content that is a text must be that text; an object or a
//! list is compared as JSON, whatever the order of its keys. `failed` is a part of the reason, the other words are the whole
//! of it.
//!
//! The steps of a test share a VM. After a step that a limit of time or memory has cut short there is a new one, which knows
//! what `kv_set` remembered: so do agents go on.
//!
//! Reading order: [`run_file`], then `file` (with `tree` and `read`), `lua`, `event`, `happening`, `diff`, `update`.

mod diff;
mod event;
mod file;
mod happening;
mod lua;
mod read;
#[cfg(test)]
mod tests;
mod tree;
mod update;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

pub use self::event::{EventKind, HttpRequest};
use self::file::{Act, PatternsKey, Step, Test, TestFile};
use self::happening::Happening;
use self::tree::{Flaw, place};
pub use self::update::{Updated, update_file};
use crate::clock::{FakeClock, ScriptClock};
use crate::grok::GrokPatterns;
use crate::options::ScriptOptions;
use crate::outcome::End;
use crate::session::Session;
use crate::vm::{Vm, lua_text};

/// A test file, and a script, may be so large.
const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;
/// What the names of test files end with.
const ENDING: &str = ".test.json";

/// What came of a test file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Tests that passed.
    pub passed: usize,
    /// Steps that went otherwise than expected.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Tests that did not pass.
    pub fn failed(&self) -> usize {
        self.failures.iter().map(|failure| failure.index).collect::<BTreeSet<_>>().len()
    }
}

/// A step that went otherwise than expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The test's place in the file, from 0: names may stand twice.
    pub index: usize,
    /// The test's name.
    pub test: String,
    /// The step, from 1; 0 when the script could not be loaded.
    pub step: usize,
    /// Where the step, or the test, stands in the file.
    pub line: usize,
    /// Lines that begin with `-` (expected), `+` (got) or a blank (both).
    pub diff: String,
}

/// A test file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestFileError {
    /// The file.
    pub path: PathBuf,
    /// Line and column in characters, from 1, where there is such a place.
    pub place: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for TestFileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for TestFileError {}

/// Runs every test of a file.
///
/// # Errors
/// When the file or its script cannot be read, or the file is not a test file.
pub fn run_file(test_file: &Path) -> Result<Report, TestFileError> {
    let loaded = Loaded::read(test_file)?;
    let mut report = Report::default();
    for (index, test) in loaded.file.tests.iter().enumerate() {
        let before = report.failures.len();
        let fail = |step: usize, offset: usize, diff: String| Failure {
            index,
            test: test.name.clone(),
            step,
            line: place(&loaded.text, offset).0,
            diff,
        };
        match loaded.observe(test) {
            Err(reason) => report.failures.push(fail(0, test.start, format!("+ {reason}\n"))),
            Ok(observed) => {
                for (number, (step, observed)) in test.steps.iter().zip(&observed).enumerate() {
                    if let Some(diff) = difference(step, observed) {
                        report.failures.push(fail(number + 1, step.span.start, diff));
                    }
                }
            }
        }
        report.passed += usize::from(report.failures.len() == before);
    }
    Ok(report)
}

/// The test file of a script, if there is one.
pub fn test_file_of(script: &Path) -> Option<PathBuf> {
    let name = script.file_name()?.to_str()?.strip_suffix(".lua")?;
    let file = script.with_file_name(format!("{name}{ENDING}"));
    file.is_file().then_some(file)
}

/// Whether a file is a test file, by its name.
pub fn is_test_file(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(ENDING))
}

/// How a step went otherwise than expected.
fn difference(step: &Step, observed: &Happening) -> Option<String> {
    let (expected, got) = (step.expected.lines(), observed.lines());
    (expected != got).then(|| diff::diff(&expected, &got))
}

/// A test file with its script.
struct Loaded {
    text: String,
    file: TestFile,
    patterns: Arc<GrokPatterns>,
    script: PathBuf,
    script_text: Vec<u8>,
}

impl Loaded {
    fn read(path: &Path) -> Result<Self, TestFileError> {
        let error = |message: String| TestFileError { path: path.to_owned(), place: None, message };
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(stem) = name.strip_suffix(ENDING) else {
            return Err(error(format!("expected a name that ends in {ENDING}")));
        };
        let bytes = read_bounded(path).map_err(&error)?;
        let text = String::from_utf8(bytes).map_err(|bad| error(format!("not UTF-8: {bad}")))?;
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        let file = file::parse(&text).map_err(|Flaw { offset, message }| TestFileError {
            path: path.to_owned(),
            place: Some(place(&text, offset)),
            message,
        })?;
        let patterns = match &file.grok_patterns {
            None => Ok(GrokPatterns::default()),
            Some(PatternsKey::Map(map)) => GrokPatterns::from_map(map.iter().cloned()),
            Some(PatternsKey::Folder(folder)) => {
                GrokPatterns::from_folder(&path.with_file_name(folder))
            }
        };
        let patterns =
            Arc::new(patterns.map_err(|reason| error(format!("grokPatterns: {reason}")))?);
        let script = path.with_file_name(format!("{stem}.lua"));
        let read = read_bounded(&script);
        let script_text =
            read.map_err(|reason| error(format!("the script {stem}.lua beside it: {reason}")))?;
        Ok(Self { text, file, patterns, script, script_text })
    }

    /// What each step of a test leads to, told in the manner of what is expected.
    ///
    /// # Errors
    /// When the script cannot be loaded, in words.
    fn observe(&self, test: &Test) -> Result<Vec<Happening>, String> {
        let clock = Arc::new(FakeClock::new(test.clock_us));
        let sinks = self.file.sinks.clone();
        let mut options =
            ScriptOptions::new(&self.script, sinks.as_deref().unwrap_or_default().to_vec());
        options.any_sink = sinks.is_none();
        options.limits = self.file.limits;
        options.unsafe_scripts = self.file.unsafe_scripts;
        options.grok_patterns = Arc::clone(&self.patterns);
        options.clock = Arc::<FakeClock>::clone(&clock);
        let options = Arc::new(options);
        let kv = remembered(&options, &test.kv).map_err(|reason| format!("kv: {reason}"))?;
        // In the script's first line, so that its lines keep their numbers.
        let text =
            [lua::environment(&self.file.env).as_bytes(), lua_text(&self.script_text)].concat();
        let mut session = Session::new(options, kv, text)
            .map_err(|error| format!("the script cannot be loaded: {error}"))?;
        let steps = test.steps.iter().zip(1..);
        let observe = |(step, number): (&Step, u64)| {
            let observed = take_step(&mut session, &clock, &step.act, number);
            observed.in_the_manner_of(&step.expected)
        };
        Ok(steps.map(observe).collect())
    }
}

fn take_step(session: &mut Session, clock: &FakeClock, act: &Act, number: u64) -> Happening {
    let called = match act {
        Act::Input { text, kind, request } => {
            let now_us = u64::try_from(clock.now_us()).unwrap_or_default();
            let event = kind.wrap(text, request, now_us, number);
            session.process(&event).map(|outcome| Happening::of_call(session, outcome))
        }
        Act::Tick(by_us) => {
            clock.advance(*by_us);
            if !session.vm().has_timer() {
                return Happening::failed("the script has no function TimerHandler");
            }
            session.timer().map(|outcome| Happening::of_call(session, outcome))
        }
        Act::Batch(_) if !session.vm().has_transform_batch() => {
            return Happening::failed("the script has no function TransformBatch");
        }
        Act::Batch(messages) => session.transform_batch(messages).map(Happening::of_batch),
        Act::Body(body) => session.extract_status(body).map(Happening::of_status),
    };
    called.unwrap_or_else(|error| {
        Happening::failed(&format!("the script cannot be reloaded: {error}"))
    })
}

/// What a script that sets these values remembers. How values are kept is the business of `kv_set` alone.
fn remembered(
    options: &Arc<ScriptOptions>,
    values: &[(String, Value)],
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    if values.is_empty() {
        return Ok(BTreeMap::new());
    }
    let text = lua::setter(values);
    let vm = Vm::from_text(Arc::clone(options), BTreeMap::new(), text.as_bytes());
    let outcome = vm.map_err(|error| error.to_string())?.process(b"");
    match outcome.end {
        End::Failed(reason) => Err(reason),
        _ => Ok(outcome.kv.into_iter().filter_map(|set| Some((set.key, set.value?))).collect()),
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let limit = u64::try_from(MAX_FILE_BYTES + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(format!("longer than {MAX_FILE_BYTES} bytes"));
    }
    Ok(bytes)
}
