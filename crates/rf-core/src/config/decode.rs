//! From a part of a document to a value of a Rust type.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::check::Checker;
use super::document::{Document, Node};
use super::problem::Problems;
use super::shape::Shape;

/// Stands for a message of serde that quotes something hidden.
const WITHHELD: &str =
    "the value is invalid (the reason is not shown, since it would quote a hidden value)";

/// The JSON Schema of a type as it is read: the one that [`Node::decode`] goes by.
pub fn schema_of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<T>()
}

impl<'a> Node<'a> {
    /// Reads this value and all within it as a `T`.
    ///
    /// Every problem is told, not the first alone: wrong types, missing keys, values out of range, and, as warnings,
    /// unknown keys. `None` when there is an error in this part.
    pub fn decode<T: DeserializeOwned + JsonSchema>(&self, problems: &mut Problems) -> Option<T> {
        let mut schema = schema_of::<T>();
        // The generator's title is the name of the Rust type, which says nothing to a user.
        if schema.get("title").and_then(Value::as_str) == Some(&T::schema_name()) {
            schema.remove("title");
        }
        let (value, secrets) = self.checked(schema.as_value(), problems)?;
        match serde_path_to_error::deserialize(value) {
            Ok(decoded) => Some(decoded),
            Err(error) => {
                let message = told(error.inner().to_string(), &secrets, self.document());
                problems.error(&self.follow(error.path()), message);
                None
            }
        }
    }

    /// The value as the schema wants it, and the secrets in it; `None` when it does not fit.
    fn checked(&self, schema: &Value, problems: &mut Problems) -> Option<(Value, Vec<String>)> {
        let errors_before = problems.error_count();
        let mut checker = Checker::new(problems);
        let value = checker.check(*self, Shape::new(schema));
        let Checker { secrets, broken, .. } = checker;
        (problems.error_count() == errors_before && !broken).then_some((value, secrets))
    }

    /// The place within this value that serde names, or as near to it as can be told.
    fn follow(&self, path: &Path) -> Node<'a> {
        let mut node = *self;
        for segment in path {
            let next = match segment {
                Segment::Map { key } => node.get(key),
                Segment::Seq { index } => node.items().get(*index).copied(),
                Segment::Enum { .. } | Segment::Unknown => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }
}

/// serde's message, unless it quotes a secret or a text that came from outside.
fn told(message: String, secrets: &[String], document: &Document) -> String {
    let mut hidden = secrets.iter().map(String::as_str).chain(document.expanded_texts());
    // serde quotes strings in their escaped form.
    let quotes = |text: &str| {
        !text.is_empty()
            && (message.contains(text) || message.contains(&text.escape_debug().to_string()))
    };
    if hidden.any(quotes) { WITHHELD.to_owned() } else { message }
}
