//! The JSON of a test file, every value with its place.

use std::ops::Range;

use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, ast, parse_to_ast};
use serde_json::{Map, Number, Value};

/// Something wrong at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    /// Where, in bytes.
    pub(super) offset: usize,
    pub(super) message: String,
}

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) tree: Tree,
}

#[derive(Debug)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Object(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_start: usize,
    pub(super) value: Node,
}

impl Node {
    pub(super) fn flaw(&self, message: impl Into<String>) -> Flaw {
        Flaw { offset: self.span.start, message: message.into() }
    }

    /// The value without its places.
    pub(super) fn to_json(&self) -> Value {
        match &self.tree {
            Tree::Null => Value::Null,
            Tree::Bool(yes) => Value::Bool(*yes),
            Tree::Number(number) => Value::Number(number.clone()),
            Tree::Text(text) => Value::String(text.clone()),
            Tree::List(items) => items.iter().map(Node::to_json).collect(),
            Tree::Object(entries) => {
                let pair = |entry: &Entry| (entry.key.clone(), entry.value.to_json());
                Value::Object(entries.iter().map(pair).collect::<Map<_, _>>())
            }
        }
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match &self.tree {
            Tree::Null => "null",
            Tree::Bool(_) => "true or false",
            Tree::Number(_) => "a number",
            Tree::Text(_) => "a text",
            Tree::List(_) => "a list",
            Tree::Object(_) => "an object",
        }
    }
}

/// Reads JSON with comments, trailing commas and keys without quotes.
pub(super) fn parse(text: &str) -> Result<Node, Flaw> {
    let options = ParseOptions {
        // A forgotten comma is a slip, and numbers go on to scripts as they stand.
        allow_missing_commas: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        ..ParseOptions::default()
    };
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options).map_err(|error| {
        let message = error.kind().to_string();
        let mut chars = message.chars();
        let message =
            chars.next().map(|first| first.to_lowercase().chain(chars).collect::<String>());
        Flaw { offset: error.range().start, message: message.unwrap_or_default() }
    })?;
    let empty = || Flaw { offset: 0, message: "the file is empty: expected an object".to_owned() };
    node(&parsed.value.ok_or_else(empty)?)
}

fn node(value: &ast::Value<'_>) -> Result<Node, Flaw> {
    let range = value.range();
    let span = range.start..range.end;
    let tree = match value {
        ast::Value::NullKeyword(_) => Tree::Null,
        ast::Value::BooleanLit(literal) => Tree::Bool(literal.value),
        ast::Value::StringLit(literal) => Tree::Text(literal.value.clone().into_owned()),
        ast::Value::NumberLit(literal) => {
            let number = serde_json::from_str(literal.value);
            let bad = |error| Flaw { offset: range.start, message: format!("number: {error}") };
            Tree::Number(number.map_err(bad)?)
        }
        ast::Value::Array(list) => {
            Tree::List(list.elements.iter().map(node).collect::<Result<_, _>>()?)
        }
        ast::Value::Object(object) => {
            let entry = |property: &ast::ObjectProp<'_>| {
                Ok(Entry {
                    key: property.name.as_str().to_owned(),
                    key_start: property.name.range().start,
                    value: node(&property.value)?,
                })
            };
            Tree::Object(object.properties.iter().map(entry).collect::<Result<_, _>>()?)
        }
    };
    Ok(Node { span, tree })
}

/// Line and column of a byte, both from 1; columns count characters.
pub(super) fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}
