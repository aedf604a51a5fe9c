//! The tree of a parsed file: every value with its place and its key path.

use std::fmt;

use serde_json::{Map, Number};

use super::position::Position;
use super::problem::{Problem, Severity};

/// As much of a string is quoted in a problem.
const MAX_SHOWN_CHARS: usize = 60;

/// What is printed in the place of a value that must not be seen.
pub(super) const HIDDEN: &str = "***";

/// A parsed file.
///
/// It has no `Debug`, for it holds the secrets of the file.
pub struct Document {
    name: String,
    /// The values in the order of the text; the first is the outermost. A child knows its parent by index, so that
    /// a [`Node`] is small and a key path is made only when a problem is told.
    slots: Vec<Slot>,
}

/// A value and where it is.
pub(super) struct Slot {
    pub(super) parent: usize,
    pub(super) step: Step,
    pub(super) at: Position,
    pub(super) value: Value,
    /// Whether the text came, at least in part, from the environment or from a file.
    pub(super) expanded: bool,
}

/// How one comes from a parent to its child.
pub(super) enum Step {
    Root,
    Key { name: String, at: Position },
    Index(usize),
}

/// A value; children are indexes into the slots.
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<usize>),
    Object(Vec<usize>),
    /// A value that could not be made out; that has been reported already.
    Broken,
}

impl Document {
    /// Invariant: `slots` is not empty, and every index in it is within it.
    pub(super) fn new(name: String, slots: Vec<Slot>) -> Document {
        Document { name, slots }
    }

    /// The outermost value.
    pub fn root(&self) -> Node<'_> {
        self.node(0)
    }

    pub(super) fn slots_mut(&mut self) -> &mut [Slot] {
        &mut self.slots
    }

    pub(super) fn node(&self, index: usize) -> Node<'_> {
        Node { document: self, index, absent: None }
    }

    /// The strings that came from outside the file, which no problem may quote.
    pub(super) fn expanded_texts(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().filter(|slot| slot.expanded).filter_map(|slot| match &slot.value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }
}

/// Stands for an object that a file leaves out.
static NOTHING: Value = Value::Object(Vec::new());

/// A value of a [`Document`], at a key path such as `sinks[0].config.maxPayloadBytes`.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    document: &'a Document,
    index: usize,
    /// A key of the value at `index` that is missing or null: this node is an empty object in its place.
    absent: Option<&'static str>,
}

impl<'a> Node<'a> {
    /// The value of a key of this object.
    ///
    /// An exact match wins; else a key that differs in case alone, as the original read its files.
    pub fn get(&self, key: &str) -> Option<Node<'a>> {
        let keys = || self.children().filter_map(|child| Some((child.name()?, child)));
        let exact = keys().find(|(name, _)| *name == key);
        let found =
            exact.or_else(|| keys().filter(|(name, _)| name.eq_ignore_ascii_case(key)).last());
        found.map(|(_, child)| child)
    }

    /// The object under a key of this one. Where the key is missing or null an empty object stands for it, as for the
    /// original: who decodes it takes the defaults, and tells what is required at its place.
    ///
    /// One level only: an object that stands for a missing one has none within it, for their path could not be told.
    pub fn object(&self, key: &'static str) -> Node<'a> {
        debug_assert!(self.absent.is_none(), "{key} of a missing object: one level only");
        let found = self.get(key).filter(|child| !matches!(child.value(), Value::Null));
        found.unwrap_or(Node { absent: Some(key), ..*self })
    }

    /// The values of this list; none when it is not a list.
    pub fn items(&self) -> Vec<Node<'a>> {
        match self.value() {
            Value::List(_) => self.children().collect(),
            _ => Vec::new(),
        }
    }

    /// The keys and values of this object in the order of the file; none when it is not an object.
    pub fn entries(&self) -> Vec<(String, Node<'a>)> {
        self.children().filter_map(|child| Some((child.name()?.to_owned(), child))).collect()
    }

    /// The text of this string; `None` when it is not a string.
    pub fn as_str(&self) -> Option<&'a str> {
        match self.value() {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The key path; empty for the outermost value.
    pub fn path(&self) -> String {
        let mut steps: Vec<PathStep<'_>> = self.absent.map(PathStep::Key).into_iter().collect();
        let mut slot = self.slot();
        loop {
            match &slot.step {
                Step::Root => break,
                Step::Key { name, .. } => steps.push(PathStep::Key(name)),
                Step::Index(index) => steps.push(PathStep::Index(*index)),
            }
            slot = &self.document.slots[slot.parent];
        }
        steps.iter().rev().fold(String::new(), |path, step| step.join(&path))
    }

    /// The value as a problem may quote it: a text in quotes and cut, a list or an object by its kind, `***` when
    /// it came from the environment or from a file.
    ///
    /// Not for keys that hold secrets: only [`Node::decode`] knows these, from the schema.
    pub fn shown(&self) -> String {
        if self.is_expanded() {
            return HIDDEN.to_owned();
        }
        match self.value() {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(number) => number.to_string(),
            Value::String(text) => quoted(text),
            Value::List(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            Value::Broken => "a broken value".to_owned(),
        }
    }

    /// The value as `serde_json` has it, with everything expanded.
    pub(super) fn to_json(self) -> serde_json::Value {
        match self.value() {
            Value::Null | Value::Broken => serde_json::Value::Null,
            Value::Bool(value) => serde_json::Value::Bool(*value),
            Value::Number(number) => serde_json::Value::Number(number.clone()),
            Value::String(text) => serde_json::Value::String(text.clone()),
            Value::List(_) => self.children().map(Node::to_json).collect(),
            Value::Object(_) => {
                let entries = self.entries().into_iter().map(|(key, child)| (key, child.to_json()));
                serde_json::Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }

    pub(super) fn value(&self) -> &'a Value {
        if self.absent.is_some() { &NOTHING } else { &self.slot().value }
    }

    pub(super) fn document(&self) -> &'a Document {
        self.document
    }

    pub(super) fn is_root(&self) -> bool {
        self.index == 0 && self.absent.is_none()
    }

    pub(super) fn is_expanded(&self) -> bool {
        self.absent.is_none() && self.slot().expanded
    }

    /// Whether this value, or one within it, could not be made out.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.value(), Value::Broken) || self.children().any(|child| child.is_broken())
    }

    pub(super) fn children(&self) -> impl Iterator<Item = Node<'a>> + use<'a> {
        let document = self.document;
        let indexes: &'a [usize] = match self.value() {
            Value::List(children) | Value::Object(children) => children,
            _ => &[],
        };
        indexes.iter().map(move |index| document.node(*index))
    }

    /// The key under which this value stands in its object.
    pub(super) fn name(&self) -> Option<&'a str> {
        if self.absent.is_some() {
            return self.absent;
        }
        match &self.slot().step {
            Step::Key { name, .. } => Some(name),
            Step::Root | Step::Index(_) => None,
        }
    }

    /// The path of a key of this object, which need not exist.
    pub(super) fn path_of(&self, key: &str) -> String {
        PathStep::Key(key).join(&self.path())
    }

    pub(super) fn problem(&self, severity: Severity, message: String) -> Problem {
        self.problem_at(self.slot().at, severity, message)
    }

    /// A problem of the key rather than of its value.
    pub(super) fn key_problem(&self, severity: Severity, message: String) -> Problem {
        let at = match &self.slot().step {
            Step::Key { at, .. } => *at,
            Step::Root | Step::Index(_) => self.slot().at,
        };
        self.problem_at(at, severity, message)
    }

    fn problem_at(&self, at: Position, severity: Severity, message: String) -> Problem {
        let file = self.document.name.clone();
        Problem { severity, file, line: at.line, column: at.column, key: self.path(), message }
    }

    fn slot(&self) -> &'a Slot {
        &self.document.slots[self.index]
    }
}

/// A string in quotes as problems show it: escaped, so that it stays on its line, and cut.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", text.split_at(end).0),
    }
}

enum PathStep<'a> {
    Key(&'a str),
    Index(usize),
}

impl PathStep<'_> {
    fn join(&self, path: &str) -> String {
        match self {
            PathStep::Index(index) => format!("{path}[{index}]"),
            PathStep::Key(key) if !is_plain(key) => format!("{path}[{}]", quoted(key)),
            PathStep::Key(key) if path.is_empty() => (*key).to_owned(),
            PathStep::Key(key) => format!("{path}.{key}"),
        }
    }
}

fn is_plain(key: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$');
    !key.is_empty() && key.chars().count() <= MAX_SHOWN_CHARS && key.chars().all(allowed)
}

impl fmt::Debug for Node<'_> {
    /// The place, not the value, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({}:{})", self.document.name, self.path())
    }
}
