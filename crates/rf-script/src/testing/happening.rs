//! What a step leads to: the same shape for what is expected and for what was observed, so that they can be compared.

use serde_json::{Map, Value, json};

use crate::batch::{Request, Transformed};
use crate::error::CallError;
use crate::outcome::{End as CallEnd, Outcome};
use crate::session::Session;

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Happening {
    /// Sinks' names and contents.
    pub(super) emits: Vec<(String, Content)>,
    pub(super) messages: Vec<Content>,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    /// Of `extractStatus` alone.
    pub(super) status: Option<String>,
    pub(super) end: End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Text(String),
    Json(Value),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum End {
    #[default]
    Done,
    Dropped(String),
    Dead(String),
    Failed(String),
}

impl Happening {
    pub(super) fn failed(reason: &str) -> Self {
        Self { end: End::Failed(reason.to_owned()), ..Self::default() }
    }

    pub(super) fn status(status: &str) -> Self {
        Self { status: Some(status.to_owned()), ..Self::default() }
    }

    pub(super) fn of_status(result: Result<String, CallError>) -> Self {
        result.map_or_else(|error| Self::failed(&error.to_string()), |status| Self::status(&status))
    }

    pub(super) fn of_call(session: &Session, outcome: Outcome) -> Self {
        let emits = outcome.emits.iter();
        Self {
            emits: emits
                .map(|emit| (session.vm().sink_name(emit.sink), Content::of(&emit.content)))
                .collect(),
            end: match outcome.end {
                CallEnd::Done => End::Done,
                CallEnd::Dropped(reason) => End::Dropped(reason),
                CallEnd::Dead(reason) => End::Dead(reason),
                CallEnd::Failed(reason) => End::Failed(reason),
            },
            ..Self::default()
        }
    }

    pub(super) fn of_batch(result: Result<Transformed, CallError>) -> Self {
        match result {
            Ok(Transformed { messages, request: Request { path, headers }, .. }) => Self {
                messages: messages.iter().map(|message| Content::of(message)).collect(),
                path,
                headers,
                ..Self::default()
            },
            Err(error) => Self::failed(&error.to_string()),
        }
    }

    /// The same, told as the expectation tells it: contents as text or JSON, a reason by the part that is asked for.
    pub(super) fn in_the_manner_of(self, expected: &Self) -> Self {
        let wanted = expected.emits.iter().map(|(_, content)| Some(content));
        let emits = self.emits.into_iter().zip(wanted.chain(std::iter::repeat(None)));
        let emits = emits.map(|((sink, content), wanted)| (sink, content.in_the_manner_of(wanted)));
        let wanted = expected.messages.iter().map(Some).chain(std::iter::repeat(None));
        let messages = self.messages.into_iter().zip(wanted);
        let end = match (self.end, &expected.end) {
            (End::Failed(reason), End::Failed(part)) if reason.contains(part.as_str()) => {
                End::Failed(part.clone())
            }
            (end, _) => end,
        };
        Self {
            emits: emits.collect(),
            messages: messages.map(|(content, wanted)| content.in_the_manner_of(wanted)).collect(),
            end,
            path: self.path,
            headers: self.headers,
            status: self.status,
        }
    }

    /// For people, and to be compared: two happenings are alike when these lines are.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (sink, content) in &self.emits {
            content.write(&format!("emit to {sink}:"), &mut lines);
        }
        for message in &self.messages {
            message.write("message:", &mut lines);
        }
        if !self.path.is_empty() {
            lines.push(format!("path: {}", quoted(&self.path)));
        }
        let headers = self.headers.iter();
        lines.extend(headers.map(|(name, value)| format!("header {name}: {}", quoted(value))));
        lines.extend(self.status.iter().map(|status| format!("status: {}", quoted(status))));
        match &self.end {
            End::Done => {}
            End::Dropped(reason) => lines.push(format!("dropped: {}", quoted(reason))),
            End::Dead(reason) => lines.push(format!("dead: {}", quoted(reason))),
            End::Failed(reason) => lines.push(format!("failed: {}", quoted(reason))),
        }
        if lines.is_empty() {
            lines.push("nothing is emitted".to_owned());
        }
        lines
    }

    /// The keys of a step that expect this.
    pub(super) fn to_keys(&self, is_batch: bool) -> Map<String, Value> {
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), json!(value)));
        let emit = |(sink, content): &(String, Content)| json!({ "sink": sink, "content": content.to_json() });
        let keys = match &self.end {
            End::Dropped(reason) => json!({ "dropped": reason }),
            End::Dead(reason) => json!({ "dead": reason }),
            End::Failed(reason) => json!({ "failed": reason }),
            End::Done if self.status.is_some() => json!({ "status": self.status }),
            End::Done if is_batch => json!({
                "messages": self.messages.iter().map(Content::to_json).collect::<Vec<_>>(),
                "path": self.path,
                "headers": headers.collect::<Map<_, _>>(),
            }),
            End::Done => json!({ "emits": self.emits.iter().map(emit).collect::<Vec<_>>() }),
        };
        let Value::Object(keys) = keys else { return Map::new() };
        // An empty path and no headers need no words.
        let told =
            |key: &str, value: &Value| key == "emits" || key == "messages" || !is_empty(value);
        keys.into_iter().filter(|(key, value)| told(key, value)).collect()
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_str().is_some_and(str::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

impl Content {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self::Text(String::from_utf8_lossy(bytes).into_owned())
    }

    fn in_the_manner_of(self, wanted: Option<&Self>) -> Self {
        let Self::Text(text) = self else { return self };
        let like = match wanted {
            Some(Self::Text(_)) => return Self::Text(text),
            Some(Self::Json(value)) => value,
            None => &Value::Null,
        };
        match serde_json::from_str::<Value>(&text) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => Self::Json(arranged(value, like)),
            _ => Self::Text(text),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => Value::String(text.clone()),
            Self::Json(value) => value.clone(),
        }
    }

    fn write(&self, heading: &str, lines: &mut Vec<String>) {
        match self {
            Self::Text(text) if text.contains('\n') => {
                lines.push(heading.to_owned());
                let pieces = text.split_inclusive('\n');
                lines.extend(pieces.map(|piece| format!("  {}", quoted(piece))));
            }
            Self::Text(text) => lines.push(format!("{heading} {}", quoted(text))),
            Self::Json(value) => {
                lines.push(heading.to_owned());
                let pretty = format!("{value:#}");
                lines.extend(pretty.lines().map(|line| format!("  {line}")));
            }
        }
    }
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// The same JSON with keys in the order of another, as far as they are in both: only what differs is to be seen.
fn arranged(value: Value, like: &Value) -> Value {
    match (value, like) {
        (Value::Object(mut map), Value::Object(like)) => {
            let known = like.iter().filter_map(|(key, like)| {
                Some((key.clone(), arranged(map.shift_remove(key)?, like)))
            });
            let mut sorted: Map<_, _> = known.collect();
            sorted.extend(map);
            Value::Object(sorted)
        }
        (Value::Array(items), Value::Array(like)) => {
            let like = like.iter().chain(std::iter::repeat(&Value::Null));
            items.into_iter().zip(like).map(|(item, like)| arranged(item, like)).collect()
        }
        (value, _) => value,
    }
}
