//! `schema`: the JSON Schema of a role's file, made from the very types that the file is read into.

use std::mem;

use serde_json::{Map, Value, json};

use super::{complain, print};
use crate::cli::Role;
use crate::config_file;
use crate::running::Exit;

pub(super) fn run(role: Role) -> Exit {
    match serde_json::to_string_pretty(&for_editors(config_file::schema(role))) {
        Ok(text) => print(format!("{text}\n").as_bytes()),
        Err(error) => {
            complain(&error.to_string());
            Exit::Failed
        }
    }
}

/// What a file may hold besides what its types say, because of the way in which it is read: the place of this schema,
/// variables, other names of keys.
fn for_editors(mut schema: Value) -> Value {
    admit(&mut schema);
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        let place =
            json!({ "type": "string", "description": "Where an editor finds this schema." });
        properties.insert("$schema".to_owned(), place);
    }
    schema
}

/// Admits variables and other names here and in all that is within. Conditions (`if`) stay as they are.
fn admit(schema: &mut Value) {
    let Some(rules) = schema.as_object_mut() else { return };
    for (rule, inner) in rules.iter_mut() {
        match (rule.as_str(), inner) {
            ("properties" | "$defs", Value::Object(named)) => named.values_mut().for_each(admit),
            ("anyOf" | "oneOf" | "allOf", Value::Array(several)) => {
                several.iter_mut().for_each(admit);
            }
            ("items" | "additionalProperties" | "then", inner) => admit(inner),
            _ => {}
        }
    }
    if let Some(Value::Object(properties)) = rules.get_mut("properties") {
        list_aliases(properties);
    }
    if wants_no_text(rules) {
        // What is said about the value stays outside, where editors look for it.
        let (notes, own): (Map<String, Value>, Map<String, Value>) =
            mem::take(rules).into_iter().partition(|(rule, _)| is_note(rule));
        *rules = notes;
        let variable = json!({ "type": "string", "pattern": r"\$" });
        rules.insert("anyOf".to_owned(), json!([own, variable]));
    }
}

/// Whether a number or a boolean is wanted, for which a text with a variable may stand.
fn wants_no_text(rules: &Map<String, Value>) -> bool {
    let types: Vec<&str> = match rules.get("type") {
        Some(Value::String(only)) => vec![only],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is_scalar = |name: &&str| matches!(*name, "integer" | "number" | "boolean");
    types.iter().any(is_scalar) && !types.contains(&"string")
}

fn is_note(rule: &str) -> bool {
    matches!(rule, "title" | "description" | "default" | "writeOnly") || rule.starts_with("x-")
}

/// Each other name of a key is a key, too.
fn list_aliases(properties: &mut Map<String, Value>) {
    let mut listed: Vec<(String, Value)> = Vec::new();
    for (name, property) in properties.iter() {
        let aliases = property.get("x-aliases").and_then(Value::as_array).into_iter().flatten();
        for alias in aliases.filter_map(Value::as_str) {
            let mut property = property.clone();
            property["deprecated"] = true.into();
            property["x-alias-of"] = name.as_str().into();
            listed.push((alias.to_owned(), property));
        }
    }
    properties.extend(listed);
}
