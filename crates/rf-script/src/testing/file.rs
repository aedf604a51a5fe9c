//! A test file: what is to be done and what is expected.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use super::event::{EventKind, HttpRequest};
use super::happening::{Content, End, Happening};
use super::read::{Fields, boolean, count, duration, entries, items, size, text, texts, time_us};
use super::tree::{self, Entry, Flaw, Node, Tree};
use crate::options::Limits;

/// 2026-01-01T00:00:00Z.
const DEFAULT_CLOCK_US: i64 = 1_767_225_600_000_000;
/// Time for one call where the file says nothing: more than agents give by default, for a machine that runs tests is a busy
/// one, and a test that fails now and then is worse than none.
const DEFAULT_CALL_TIME: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct TestFile {
    /// `None`: any name.
    pub(super) sinks: Option<Vec<String>>,
    pub(super) limits: Limits,
    pub(super) env: Vec<(String, String)>,
    pub(super) grok_patterns: Option<PatternsKey>,
    pub(super) unsafe_scripts: bool,
    pub(super) tests: Vec<Test>,
}

/// Grok patterns beside the stock ones.
#[derive(Debug)]
pub(super) enum PatternsKey {
    /// Names and patterns.
    Map(Vec<(String, String)>),
    /// A folder of files, from the folder of the test file on.
    Folder(String),
}

#[derive(Debug)]
pub(super) struct Test {
    pub(super) start: usize,
    pub(super) name: String,
    pub(super) clock_us: i64,
    /// Texts, numbers, truth values, objects and lists.
    pub(super) kv: Vec<(String, serde_json::Value)>,
    pub(super) steps: Vec<Step>,
}

#[derive(Debug)]
pub(super) struct Step {
    /// The step's object in the text.
    pub(super) span: Range<usize>,
    /// The keys that say what is done, as they stand there.
    pub(super) told: serde_json::Map<String, serde_json::Value>,
    pub(super) act: Act,
    pub(super) expected: Happening,
}

#[derive(Debug)]
pub(super) enum Act {
    Input {
        text: Vec<u8>,
        kind: EventKind,
        request: HttpRequest,
    },
    /// Microseconds.
    Tick(i64),
    Batch(Vec<Bytes>),
    /// A body for `extractStatus`.
    Body(Vec<u8>),
}

/// Keys of a step that say what is done, by kind; all others say what is expected.
const INPUT: [&str; 3] = ["input", "event", "request"];
const TICK: [&str; 1] = ["tick"];
const BATCH: [&str; 1] = ["batch"];
const BODY: [&str; 1] = ["body"];
const OF_CALL: [&str; 4] = ["emits", "dropped", "dead", "failed"];
const OF_BATCH: [&str; 4] = ["messages", "path", "headers", "failed"];
const OF_BODY: [&str; 2] = ["status", "failed"];
const KEYS: [&str; 6] = ["sinks", "limits", "env", "grokPatterns", "unsafeScripts", "tests"];

pub(super) fn parse(source: &str) -> Result<TestFile, Flaw> {
    let root = tree::parse(source)?;
    let fields = Fields::of(&root, "test file", &KEYS)?;
    let sinks = fields.read("sinks", |node| {
        items(node, "sinks")?.iter().map(|name| Ok(text(name)?.to_owned())).collect()
    })?;
    let tests = fields.required("tests")?;
    Ok(TestFile {
        sinks,
        limits: fields.read("limits", limits)?.unwrap_or_else(default_limits),
        env: fields.read("env", |node| texts(node, "env"))?.unwrap_or_default(),
        grok_patterns: fields.read("grokPatterns", grok_patterns)?,
        unsafe_scripts: fields.read("unsafeScripts", boolean)?.unwrap_or_default(),
        tests: at_least_one(tests, "tests")?.iter().map(test).collect::<Result<_, _>>()?,
    })
}

fn grok_patterns(node: &Node) -> Result<PatternsKey, Flaw> {
    match &node.tree {
        Tree::Text(folder) => Ok(PatternsKey::Folder(folder.clone())),
        _ => Ok(PatternsKey::Map(texts(node, "grokPatterns")?)),
    }
}

fn at_least_one<'a>(node: &'a Node, what: &str) -> Result<&'a [Node], Flaw> {
    let items = items(node, what)?;
    if items.is_empty() {
        return Err(node.flaw(format!("{what}: expected at least one")));
    }
    Ok(items)
}

fn default_limits() -> Limits {
    Limits { call_time: DEFAULT_CALL_TIME, ..Limits::default() }
}

fn limits(node: &Node) -> Result<Limits, Flaw> {
    let known = ["memoryBytes", "callTime", "emittedEvents", "emittedBytes", "logLines"];
    let fields = Fields::of(node, "limits", &known)?;
    let default = default_limits();
    Ok(Limits {
        memory_bytes: fields.read("memoryBytes", size)?.unwrap_or(default.memory_bytes),
        call_time: fields.read("callTime", duration)?.unwrap_or(default.call_time),
        emitted_events: fields.read("emittedEvents", count)?.unwrap_or(default.emitted_events),
        emitted_bytes: fields.read("emittedBytes", size)?.unwrap_or(default.emitted_bytes),
        log_lines: fields.read("logLines", count)?.unwrap_or(default.log_lines),
    })
}

fn test(node: &Node) -> Result<Test, Flaw> {
    let fields = Fields::of(node, "test", &["name", "clock", "kv", "steps"])?;
    let kv = |entry: &Entry| match entry.value.tree {
        Tree::Null => {
            Err(entry.value.flaw("kv: a key that does not exist has no value: leave it out"))
        }
        _ => Ok((entry.key.clone(), entry.value.to_json())),
    };
    let kv = fields.read("kv", |node| entries(node, "kv")?.iter().map(kv).collect())?;
    let steps = at_least_one(fields.required("steps")?, "steps")?;
    Ok(Test {
        start: node.span.start,
        name: text(fields.required("name")?)?.to_owned(),
        clock_us: fields.read("clock", time_us)?.unwrap_or(DEFAULT_CLOCK_US),
        kv: kv.unwrap_or_default(),
        steps: steps.iter().map(step).collect::<Result<_, _>>()?,
    })
}

fn step(node: &Node) -> Result<Step, Flaw> {
    let has = |name: &str| {
        let entries = entries(node, "step").unwrap_or_default();
        entries.iter().any(|entry| entry.key == name)
    };
    entries(node, "step")?;
    let kinds: [(&[&str], &[&str]); 4] =
        [(&INPUT, &OF_CALL), (&TICK, &OF_CALL), (&BATCH, &OF_BATCH), (&BODY, &OF_BODY)];
    let mut named = kinds.into_iter().filter(|(doing, _)| has(doing[0]));
    let (Some((doing, expecting)), None) = (named.next(), named.next()) else {
        return Err(node.flaw("step: expected one of `input`, `tick`, `batch` and `body`"));
    };
    let known = [doing, expecting].concat();
    let fields = Fields::of(node, &format!("step with `{}`", doing.join("`, `")), &known)?;
    let act = if has("input") {
        input(&fields)?
    } else if has("tick") {
        let by = duration(fields.required("tick")?)?.as_micros();
        Act::Tick(i64::try_from(by).unwrap_or(i64::MAX))
    } else if has("body") {
        Act::Body(sent(fields.required("body")?)?)
    } else {
        let messages = items(fields.required("batch")?, "batch")?;
        let messages = messages.iter().map(|node| Ok(Bytes::from(sent(node)?)));
        Act::Batch(messages.collect::<Result<_, _>>()?)
    };
    let expected = match &act {
        Act::Batch(messages) => expected_batch(&fields, messages)?,
        Act::Body(_) => expected_status(&fields)?,
        _ => expected_call(node, &fields)?,
    };
    let told = doing.iter().filter_map(|key| Some(((*key).to_owned(), fields.get(key)?.to_json())));
    Ok(Step { span: node.span.clone(), told: told.collect(), act, expected })
}

fn input(fields: &Fields<'_>) -> Result<Act, Flaw> {
    let kind = fields.read("event", |node| {
        let expected = || node.flaw("event: expected raw, http or logline");
        EventKind::named(text(node)?).ok_or_else(expected)
    })?;
    let kind = kind.unwrap_or(EventKind::Raw);
    let text = sent(fields.required("input")?)?;
    let request = fields.read("request", |node| {
        if kind != EventKind::Http {
            return Err(node.flaw("request: expected only beside \"event\": \"http\""));
        }
        request(node, HttpRequest::with_body(&text))
    })?;
    let request = request.unwrap_or_else(|| HttpRequest::with_body(&text));
    Ok(Act::Input { text, kind, request })
}

fn request(node: &Node, default: HttpRequest) -> Result<HttpRequest, Flaw> {
    let fields = Fields::of(node, "request", &["method", "path", "headers"])?;
    let own = |node| text(node).map(str::to_owned);
    Ok(HttpRequest {
        method: fields.read("method", own)?.unwrap_or(default.method),
        path: fields.read("path", own)?.unwrap_or(default.path),
        headers: fields.read("headers", request_headers)?.unwrap_or(default.headers),
    })
}

fn request_headers(node: &Node) -> Result<Vec<(String, String)>, Flaw> {
    let mut headers = Vec::new();
    for entry in entries(node, "headers")? {
        let values = match &entry.value.tree {
            Tree::List(values) => values.as_slice(),
            _ => std::slice::from_ref(&entry.value),
        };
        for value in values {
            headers.push((entry.key.clone(), text(value)?.to_owned()));
        }
    }
    Ok(headers)
}

/// What is sent for a value: a text as it is, the rest as its compact JSON.
fn sent(node: &Node) -> Result<Vec<u8>, Flaw> {
    match content(node)? {
        Content::Text(text) => Ok(text.into_bytes()),
        Content::Json(value) => Ok(value.to_string().into_bytes()),
    }
}

fn content(node: &Node) -> Result<Content, Flaw> {
    match &node.tree {
        Tree::Text(text) => Ok(Content::Text(text.clone())),
        Tree::List(_) | Tree::Object(_) => Ok(Content::Json(node.to_json())),
        _ => Err(node.flaw(format!("expected a text, an object or a list, not {}", node.kind()))),
    }
}

fn expected_call(step: &Node, fields: &Fields<'_>) -> Result<Happening, Flaw> {
    let emit = |node: &Node| {
        let fields = Fields::of(node, "emits", &["sink", "content"])?;
        Ok((text(fields.required("sink")?)?.to_owned(), content(fields.required("content")?)?))
    };
    let emits = fields.read("emits", |node| items(node, "emits")?.iter().map(emit).collect());
    let emits: Vec<_> = emits?.unwrap_or_default();
    let ends: [(&str, fn(String) -> End); 3] =
        [("dropped", End::Dropped), ("dead", End::Dead), ("failed", End::Failed)];
    let mut end = End::Done;
    for (key, make) in ends {
        if let Some(reason) = fields.read(key, text)? {
            if end != End::Done {
                let message = "step: expected one of `dropped`, `dead` and `failed` at the most";
                return Err(step.flaw(message));
            }
            end = make(reason.to_owned());
        }
    }
    if end != End::Done && !emits.is_empty() {
        let message = "step: nothing is emitted by an event that is dropped, dead or failed";
        return Err(step.flaw(message));
    }
    Ok(Happening { emits, end, ..Happening::default() })
}

fn expected_status(fields: &Fields<'_>) -> Result<Happening, Flaw> {
    if let Some(reason) = fields.read("failed", text)? {
        return Ok(Happening::failed(reason));
    }
    Ok(Happening::status(fields.read("status", text)?.unwrap_or_default()))
}

fn expected_batch(fields: &Fields<'_>, batch: &[Bytes]) -> Result<Happening, Flaw> {
    if let Some(reason) = fields.read("failed", text)? {
        return Ok(Happening::failed(reason));
    }
    let unchanged = || batch.iter().map(|message| Content::of(message)).collect();
    let messages = fields.read("messages", |node| {
        items(node, "messages")?.iter().map(content).collect::<Result<Vec<_>, _>>()
    })?;
    let mut headers = fields.read("headers", |node| texts(node, "headers"))?.unwrap_or_default();
    headers.sort();
    Ok(Happening {
        messages: messages.unwrap_or_else(unchanged),
        path: fields.read("path", text)?.unwrap_or_default().to_owned(),
        headers,
        ..Happening::default()
    })
}
