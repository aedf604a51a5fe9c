//! What the keys of a test file may hold: from nodes to values, or a flaw that says what was expected.

use std::time::Duration;

use rf_core::config::{ByteSize, Interval};
use serde::de::DeserializeOwned;

use super::tree::{Entry, Flaw, Node, Tree};

/// An object whose keys are all known.
pub(super) struct Fields<'a> {
    start: usize,
    entries: &'a [Entry],
}

impl<'a> Fields<'a> {
    /// `what` names the object in messages.
    pub(super) fn of(node: &'a Node, what: &str, known: &[&str]) -> Result<Self, Flaw> {
        let entries = entries(node, what)?;
        for (index, entry) in entries.iter().enumerate() {
            let key = &entry.key;
            if !known.contains(&key.as_str()) {
                let known = known.join(", ");
                return Err(at_key(entry, format!("{what}: no key `{key}`; known: {known}")));
            }
            if entries.iter().take(index).any(|before| before.key == *key) {
                return Err(at_key(entry, format!("{what}: the key `{key}` occurs twice")));
            }
        }
        Ok(Self { start: node.span.start, entries })
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    pub(super) fn required(&self, key: &str) -> Result<&'a Node, Flaw> {
        let missing =
            || Flaw { offset: self.start, message: format!("the key `{key}` is missing") };
        self.get(key).ok_or_else(missing)
    }

    /// Reads the value of a key, where it is there.
    pub(super) fn read<T>(
        &self,
        key: &str,
        read: impl FnOnce(&'a Node) -> Result<T, Flaw>,
    ) -> Result<Option<T>, Flaw> {
        self.get(key).map(read).transpose()
    }
}

fn at_key(entry: &Entry, message: String) -> Flaw {
    Flaw { offset: entry.key_start, message }
}

pub(super) fn entries<'a>(node: &'a Node, what: &str) -> Result<&'a [Entry], Flaw> {
    match &node.tree {
        Tree::Object(entries) => Ok(entries),
        _ => Err(node.flaw(format!("{what}: expected an object, not {}", node.kind()))),
    }
}

pub(super) fn items<'a>(node: &'a Node, what: &str) -> Result<&'a [Node], Flaw> {
    match &node.tree {
        Tree::List(items) => Ok(items),
        _ => Err(node.flaw(format!("{what}: expected a list, not {}", node.kind()))),
    }
}

pub(super) fn text(node: &Node) -> Result<&str, Flaw> {
    match &node.tree {
        Tree::Text(text) => Ok(text),
        _ => Err(node.flaw(format!("expected a text, not {}", node.kind()))),
    }
}

pub(super) fn boolean(node: &Node) -> Result<bool, Flaw> {
    match &node.tree {
        Tree::Bool(yes) => Ok(*yes),
        _ => Err(node.flaw(format!("expected true or false, not {}", node.kind()))),
    }
}

/// Texts by name, in the order of the file.
pub(super) fn texts(node: &Node, what: &str) -> Result<Vec<(String, String)>, Flaw> {
    let pair = |entry: &Entry| Ok((entry.key.clone(), text(&entry.value)?.to_owned()));
    entries(node, what)?.iter().map(pair).collect()
}

pub(super) fn duration(node: &Node) -> Result<Duration, Flaw> {
    decode::<Interval>(node).map(Duration::from)
}

pub(super) fn size(node: &Node) -> Result<usize, Flaw> {
    decode::<ByteSize>(node).map(ByteSize::as_usize)
}

pub(super) fn count(node: &Node) -> Result<usize, Flaw> {
    decode(node)
}

fn decode<T: DeserializeOwned>(node: &Node) -> Result<T, Flaw> {
    serde_json::from_value(node.to_json()).map_err(|error| node.flaw(error.to_string()))
}

/// Microseconds since 1970 of a time such as `2026-11-24T00:00:00Z`.
pub(super) fn time_us(node: &Node) -> Result<i64, Flaw> {
    let time = text(node)?.parse::<jiff::Timestamp>();
    let expected = "expected a time such as \"2026-11-24T00:00:00Z\"";
    time.map(jiff::Timestamp::as_microsecond)
        .map_err(|error| node.flaw(format!("{expected}: {error}")))
}
