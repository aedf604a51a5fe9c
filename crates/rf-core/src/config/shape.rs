//! Reads a JSON Schema: the part of it that schemars writes for our types.
//!
//! Not read, for our types have none: tuples, flattened structs, patterns, conditions. What is not read is left for
//! serde to judge.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::byte_size::{ByteSize, InvalidByteSize};
use super::document::quoted;
use super::interval::Interval;

/// As many references are followed one after the other; more than one in a row is hardly ever there.
const MAX_REF_HOPS: usize = 16;

/// The greatest numbers of the types for which schemars names a format but no maximum.
const FORMAT_MAXIMA: [(&str, i128); 2] =
    [("uint32", u32::MAX as i128), ("int32", i32::MAX as i128)];

/// What a schema says about one value, references followed.
#[derive(Clone, Copy)]
pub(super) struct Shape<'s> {
    root: &'s Value,
    body: &'s Value,
    write_only: bool,
}

/// A key that an object may have.
pub(super) struct Property<'s> {
    pub(super) name: &'s str,
    pub(super) aliases: Vec<&'s str>,
    pub(super) shape: Shape<'s>,
    /// Whether an empty text or a zero means "not set": a key of the original, whose decoder cannot tell them apart.
    pub(super) zero_is_unset: bool,
    /// Whether the values to choose from are taken without regard to case.
    pub(super) any_case: bool,
}

/// What an object may hold beside its properties.
pub(super) enum Additional<'s> {
    Nothing,
    Anything,
    Each(Shape<'s>),
}

impl<'s> Shape<'s> {
    pub(super) fn new(root: &'s Value) -> Shape<'s> {
        Shape { root, body: root, write_only: false }.child(root)
    }

    /// The shape of something within; what is within a secret is secret.
    fn child(&self, schema: &'s Value) -> Shape<'s> {
        let mut shape = Shape { body: schema, ..*self };
        for _ in 0..MAX_REF_HOPS {
            shape.write_only |= shape.flag("writeOnly");
            let reference = shape.text("$ref").and_then(|reference| reference.strip_prefix('#'));
            match reference.and_then(|pointer| self.root.pointer(pointer)) {
                Some(target) => shape.body = target,
                None => break,
            }
        }
        shape
    }

    pub(super) fn is_write_only(&self) -> bool {
        self.write_only
    }

    /// Whether the schema says things that are not read here.
    pub(super) fn is_opaque(&self) -> bool {
        let has = |key| self.body.get(key).is_some();
        has("allOf") || has("prefixItems") || (has("properties") && (has("anyOf") || has("oneOf")))
    }

    /// The alternatives of this shape, nested ones too; the shape itself when it has none.
    pub(super) fn alternatives(&self) -> Vec<Shape<'s>> {
        match self.body.get("anyOf").or_else(|| self.body.get("oneOf")).and_then(Value::as_array) {
            Some(schemas) => {
                schemas.iter().flat_map(|schema| self.child(schema).alternatives()).collect()
            }
            None => vec![*self],
        }
    }

    /// Whether a value of this JSON Schema type fits; a shape that names no type takes all.
    pub(super) fn admits(&self, type_name: &str) -> bool {
        let types = self.types();
        types.is_empty() || types.contains(&type_name)
    }

    /// Whether null may stand there.
    pub(super) fn admits_null(&self) -> bool {
        self.is_opaque() || self.alternatives().iter().any(|shape| shape.admits("null"))
    }

    /// Whether the shape takes values of all types.
    pub(super) fn is_untyped(&self) -> bool {
        self.types().is_empty()
    }

    /// The number as this shape takes it: where only whole ones fit, `5.0` and `1e3` are whole.
    pub(super) fn number(&self, number: &Number) -> Option<Number> {
        if self.admits("number") {
            return Some(number.clone());
        }
        whole(number).filter(|_| self.admits("integer"))
    }

    /// The values to choose from.
    pub(super) fn allowed(&self) -> Option<Vec<&'s Value>> {
        match (self.body.get("const"), self.body.get("enum").and_then(Value::as_array)) {
            (Some(only), _) => Some(vec![only]),
            (None, Some(values)) => Some(values.iter().collect()),
            (None, None) => None,
        }
    }

    /// The one of the values to choose from that differs from a text in case alone.
    pub(super) fn allowed_in_any_case(&self, text: &str) -> Option<&'s str> {
        let shapes = self.alternatives();
        let mut allowed =
            shapes.iter().filter_map(Shape::allowed).flatten().filter_map(Value::as_str);
        allowed.find(|allowed| allowed.eq_ignore_ascii_case(text))
    }

    /// Whether a text says as much as a key that is not there: it is empty, or an interval of no length.
    pub(super) fn is_zero_text(&self, text: &str) -> bool {
        let is_interval =
            || self.alternatives().iter().any(|shape| shape.text("format") == Some("interval"));
        let is_zero = |interval: Interval| interval.as_duration().is_zero();
        text.is_empty() || (is_interval() && text.parse::<Interval>().is_ok_and(is_zero))
    }

    pub(super) fn properties(&self) -> Vec<Property<'s>> {
        let Some(properties) = self.body.get("properties").and_then(Value::as_object) else {
            return Vec::new();
        };
        let property = |(name, schema): (&'s String, &'s Value)| {
            let aliases = schema.get("x-aliases").and_then(Value::as_array);
            let aliases = aliases.into_iter().flatten().filter_map(Value::as_str).collect();
            let has = |flag| schema.get(flag).and_then(Value::as_bool).unwrap_or(false);
            Property {
                name,
                aliases,
                shape: self.child(schema),
                zero_is_unset: has("x-zero-is-unset"),
                any_case: has("x-any-case"),
            }
        };
        properties.iter().map(property).collect()
    }

    pub(super) fn additional(&self) -> Additional<'s> {
        match self.body.get("additionalProperties") {
            Some(Value::Bool(false)) => Additional::Nothing,
            Some(Value::Bool(true)) => Additional::Anything,
            Some(schema) => Additional::Each(self.child(schema)),
            None if self.body.get("properties").is_some() => Additional::Nothing,
            None => Additional::Anything,
        }
    }

    pub(super) fn required(&self) -> impl Iterator<Item = &'s str> + use<'s> {
        self.body
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
    }

    pub(super) fn items(&self) -> Option<Shape<'s>> {
        self.body.get("items").map(|schema| self.child(schema))
    }

    /// A limit of a length, such as `minLength`.
    pub(super) fn limit(&self, key: &str) -> Option<usize> {
        self.body.get(key).and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok())
    }

    pub(super) fn in_range(&self, number: &Number) -> bool {
        let (minimum, maximum) = self.range();
        minimum.is_none_or(|minimum| compare(number, &minimum) != Ordering::Less)
            && maximum.is_none_or(|maximum| compare(number, &maximum) != Ordering::Greater)
    }

    /// Whether a value keeps a format of ours; other formats are serde's to judge.
    pub(super) fn keeps_format(&self, value: &Value) -> bool {
        match self.text("format") {
            _ if value.is_null() => true,
            Some("interval") => serde_json::from_value::<Interval>(value.clone()).is_ok(),
            Some("byte-size") => serde_json::from_value::<ByteSize>(value.clone()).is_ok(),
            _ => true,
        }
    }

    /// Whether a value would keep the format if it were smaller.
    pub(super) fn exceeds_format(&self, value: &Value) -> bool {
        let size = value.as_str().map(str::parse::<ByteSize>);
        self.text("format") == Some("byte-size") && size == Some(Err(InvalidByteSize::TooLarge))
    }

    /// What was expected, with the range, as in "a whole number from 1 to 65535".
    pub(super) fn expected_range(&self) -> String {
        let expected = expected(&[*self]);
        match self.range() {
            _ if self.text("title").is_some() => expected,
            (Some(minimum), Some(maximum)) => format!("{expected} from {minimum} to {maximum}"),
            (Some(minimum), None) => format!("{expected} of at least {minimum}"),
            (None, Some(maximum)) => format!("{expected} of at most {maximum}"),
            (None, None) => expected,
        }
    }

    fn range(&self) -> (Option<Number>, Option<Number>) {
        let bound = |key| self.body.get(key).and_then(Value::as_number).cloned();
        let of_format = || {
            let format = self.text("format")?;
            let (_, maximum) = FORMAT_MAXIMA.iter().find(|(name, _)| *name == format)?;
            Number::from_i128(*maximum)
        };
        (bound("minimum"), bound("maximum").or_else(of_format))
    }

    fn types(&self) -> Vec<&'s str> {
        match self.body.get("type") {
            Some(Value::String(only)) => vec![only],
            Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    fn text(&self, key: &str) -> Option<&'s str> {
        self.body.get(key).and_then(Value::as_str)
    }

    fn flag(&self, key: &str) -> bool {
        self.body.get(key).and_then(Value::as_bool).unwrap_or(false)
    }
}

/// What any of the shapes takes, in words: `a string or a whole number`, `one of "block", "reject"`.
///
/// That a value may also be left out (null) goes without saying.
pub(super) fn expected<'s>(shapes: &[Shape<'s>]) -> String {
    let mut allowed = Vec::new();
    let mut nouns: Vec<&'s str> = Vec::new();
    for shape in shapes {
        if let Some(title) = shape.text("title") {
            nouns.push(title);
        } else if let Some(values) = shape.allowed() {
            allowed.extend(values.into_iter().filter(|value| !value.is_null()).map(shown));
        } else {
            nouns.extend(shape.types().into_iter().filter_map(noun));
        }
    }
    let one_of = match allowed.as_slice() {
        [] => None,
        [only] => Some(only.clone()),
        many => Some(format!("one of {}", many.join(", "))),
    };
    let mut words: Vec<&str> = one_of.iter().map(String::as_str).collect();
    for noun in nouns {
        if !words.contains(&noun) {
            words.push(noun);
        }
    }
    if words.is_empty() { "null".to_owned() } else { words.join(" or ") }
}

fn noun(type_name: &str) -> Option<&str> {
    match type_name {
        "boolean" => Some("true or false"),
        "integer" => Some("a whole number"),
        "number" => Some("a number"),
        "string" => Some("a string"),
        "array" => Some("a list"),
        "object" => Some("an object"),
        _ => None,
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), quoted)
}

fn whole(number: &Number) -> Option<Number> {
    if !number.is_f64() {
        return Some(number.clone());
    }
    let value = number.as_f64().filter(|value| value.fract() == 0.0)?;
    let digits = format!("{value:.0}");
    digits
        .parse::<u64>()
        .map(Number::from)
        .or_else(|_| digits.parse::<i64>().map(Number::from))
        .ok()
}

fn compare(left: &Number, right: &Number) -> Ordering {
    match (left.as_i128(), right.as_i128()) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => left.as_f64().partial_cmp(&right.as_f64()).unwrap_or(Ordering::Equal),
    }
}
