//! Holds a value against a JSON Schema: against the rules that the schemas of our files are written in.

use serde_json::{Map, Value};

/// What a validator says of the value; nothing when it fits.
pub(crate) fn complaints(schema: &Value, value: &Value) -> Vec<String> {
    Validator { root: schema }.check(schema, value, "")
}

struct Validator<'s> {
    /// Where references start.
    root: &'s Value,
}

impl Validator<'_> {
    fn check(&self, schema: &Value, value: &Value, at: &str) -> Vec<String> {
        if *schema == Value::Bool(false) {
            return vec![format!("{at}: nothing may stand here")];
        }
        let Some(rules) = schema.as_object() else { return Vec::new() };
        let mut told = broken_rules(rules, value, at);
        told.extend(self.check_children(rules, value, at));
        told.extend(self.check_others(rules, value, at));
        told
    }

    fn check_children(&self, rules: &Map<String, Value>, value: &Value, at: &str) -> Vec<String> {
        let mut told = Vec::new();
        let properties = rules.get("properties");
        for (key, child) in value.as_object().into_iter().flatten() {
            let known = properties.and_then(|properties| properties.get(key));
            if let Some(schema) = known.or_else(|| rules.get("additionalProperties")) {
                told.extend(self.check(schema, child, &format!("{at}.{key}")));
            }
        }
        if let Some(schema) = rules.get("items") {
            for (index, child) in value.as_array().into_iter().flatten().enumerate() {
                told.extend(self.check(schema, child, &format!("{at}[{index}]")));
            }
        }
        told
    }

    /// Schemas that are about the same value.
    fn check_others(&self, rules: &Map<String, Value>, value: &Value, at: &str) -> Vec<String> {
        let mut told = Vec::new();
        if let Some(reference) = rules.get("$ref").and_then(Value::as_str) {
            let target = reference.strip_prefix('#').and_then(|path| self.root.pointer(path));
            told.extend(self.check(target.expect("references are local"), value, at));
        }
        let list = |key: &str| rules.get(key).and_then(Value::as_array).into_iter().flatten();
        for schema in list("allOf") {
            told.extend(self.check(schema, value, at));
        }
        for (key, most) in [("anyOf", usize::MAX), ("oneOf", 1)] {
            let tried: Vec<_> = list(key).map(|schema| self.check(schema, value, at)).collect();
            let fitting = tried.iter().filter(|told| told.is_empty()).count();
            if !tried.is_empty() && !(1..=most).contains(&fitting) {
                told.push(format!("{at}: {fitting} of {key} fit: {tried:?}"));
            }
        }
        if let (Some(condition), Some(then)) = (rules.get("if"), rules.get("then"))
            && self.check(condition, value, at).is_empty()
        {
            told.extend(self.check(then, value, at));
        }
        told
    }
}

fn broken_rules(rules: &Map<String, Value>, value: &Value, at: &str) -> Vec<String> {
    let broken = rules.iter().filter(|(rule, wanted)| !keeps(rule, wanted, value));
    broken.map(|(rule, wanted)| format!("{at}: {rule} {wanted}, found {value}")).collect()
}

fn keeps(rule: &str, wanted: &Value, value: &Value) -> bool {
    match rule {
        "type" => match wanted {
            Value::Array(types) => types.iter().any(|name| is_of_type(value, name)),
            name => is_of_type(value, name),
        },
        "const" => value == wanted,
        "enum" => wanted.as_array().is_some_and(|all| all.contains(value)),
        "minimum" => value.as_f64().is_none_or(|number| Some(number) >= wanted.as_f64()),
        "maximum" => value.as_f64().is_none_or(|number| Some(number) <= wanted.as_f64()),
        "required" => value.as_object().is_none_or(|object| {
            let mut names = wanted.as_array().into_iter().flatten().filter_map(Value::as_str);
            names.all(|name| object.contains_key(name))
        }),
        "pattern" => {
            assert_eq!(wanted, r"\$", "the one pattern that this knows");
            value.as_str().is_none_or(|text| text.contains('$'))
        }
        _ => true,
    }
}

fn is_of_type(value: &Value, name: &Value) -> bool {
    match name.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => false,
    }
}
