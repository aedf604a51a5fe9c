//! Holds a value against a schema: tells every problem at its place, and gives back the value as serde wants it.
//!
//! On the way keys get the case (and the name, for an alias) that the schema gives them, unknown keys are told and
//! left out, a null is taken for "not set" as the original did (and where the schema says so an empty text or a zero,
//! which the original could not tell from it), and a text that came from outside becomes a number or a boolean where one
//! is expected.

use serde_json::{Map, Number, Value};

use super::document::{self, HIDDEN, Node};
use super::nearest::{did_you_mean, nearest};
use super::problem::{Problems, Severity};
use super::shape::{Additional, Property, Shape, expected};

/// As many known keys are named when none of them is like the unknown one.
const MAX_KEYS_NAMED: usize = 12;

/// A key that editors put at the top of a file to find the schema.
const SCHEMA_KEY: &str = "$schema";

/// The key for what the schema of a file cannot say: it depends on the type of a source or sink.
const PARAMS: &str = "params";

/// One walk over a value and its schema.
pub(super) struct Checker<'p> {
    problems: &'p mut Problems,
    /// The texts of secrets that were met: serde's own messages must not quote them.
    pub(super) secrets: Vec<String>,
    /// Whether a value was met that could not be made out, which has been told already.
    pub(super) broken: bool,
}

impl<'p> Checker<'p> {
    pub(super) fn new(problems: &'p mut Problems) -> Checker<'p> {
        Checker { problems, secrets: Vec::new(), broken: false }
    }

    /// Checks one value and all within it. The result is only of use when no errors were told and nothing is broken.
    pub(super) fn check(&mut self, node: Node<'_>, shape: Shape<'_>) -> Value {
        if shape.is_opaque() || matches!(node.value(), document::Value::Broken) {
            return self.unchecked(node, shape);
        }
        match shape.alternatives().as_slice() {
            [only] => self.check_one(node, *only),
            several => self.check_several(node, several),
        }
    }

    fn check_one(&mut self, node: Node<'_>, shape: Shape<'_>) -> Value {
        if shape.is_write_only() {
            self.remember(node);
        }
        match node.value() {
            document::Value::Object(_) if shape.admits("object") => self.check_object(node, shape),
            document::Value::List(_) if shape.admits("array") => self.check_list(node, shape),
            _ => match coerced(node, shape) {
                Some(value) => self.check_scalar(node, shape, value),
                None => self.mismatch(node, &[shape]),
            },
        }
    }

    fn check_scalar(&mut self, node: Node<'_>, shape: Shape<'_>, value: Value) -> Value {
        if shape.exceeds_format(&value) {
            let message = format!("too large, found {}", found(node, &[shape]));
            self.problems.error(&node, message);
            return Value::Null;
        }
        if shape.allowed().is_some_and(|allowed| !allowed.contains(&&value))
            || !shape.keeps_format(&value)
        {
            return self.mismatch(node, &[shape]);
        }
        if let Some(number) = value.as_number()
            && !shape.in_range(number)
        {
            let message =
                format!("expected {}, found {}", shape.expected_range(), found(node, &[shape]));
            self.problems.error(&node, message);
        }
        if let Some(text) = value.as_str() {
            self.check_length(
                node,
                shape,
                text.chars().count(),
                ["minLength", "maxLength", "character"],
            );
        }
        value
    }

    fn check_length(
        &mut self,
        node: Node<'_>,
        shape: Shape<'_>,
        len: usize,
        [min, max, unit]: [&str; 3],
    ) {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        match (shape.limit(min), shape.limit(max)) {
            (Some(1), _) if len == 0 => self.problems.error(&node, "must not be empty"),
            (Some(min), _) if len < min => {
                self.problems
                    .error(&node, format!("expected at least {min} {unit}{}", plural(min)));
            }
            (_, Some(max)) if len > max => {
                self.problems.error(&node, format!("expected at most {max} {unit}{}", plural(max)));
            }
            _ => {}
        }
    }

    fn check_list(&mut self, node: Node<'_>, shape: Shape<'_>) -> Value {
        let Some(items) = shape.items() else { return self.unchecked(node, shape) };
        let value: Vec<Value> = node.children().map(|child| self.check(child, items)).collect();
        self.check_length(node, shape, value.len(), ["minItems", "maxItems", "item"]);
        Value::Array(value)
    }

    fn check_object(&mut self, node: Node<'_>, shape: Shape<'_>) -> Value {
        let properties = shape.properties();
        let additional = shape.additional();
        let mut value = Map::new();
        for (child, key) in node.children().zip(match_keys(node, &properties)) {
            let name = child.name().unwrap_or_default();
            match (key, &additional) {
                (Key::Of(property), _) if is_unset(child, property) => {}
                (Key::Of(property), _) => {
                    value.insert(property.name.to_owned(), self.check_property(child, property));
                }
                (Key::Shadowed(by), _) => {
                    let message = format!("ignored: `{by}` is there too and means the same");
                    self.problems.push(child.key_problem(Severity::Warning, message));
                }
                (Key::Unknown, Additional::Each(shape)) => {
                    value.insert(name.to_owned(), self.check(child, *shape));
                }
                (Key::Unknown, Additional::Anything) => {
                    value.insert(name.to_owned(), self.unchecked(child, shape));
                }
                (Key::Unknown, Additional::Nothing) if node.is_root() && name == SCHEMA_KEY => {}
                (Key::Unknown, Additional::Nothing) => {
                    let message = unknown_key(name, &properties);
                    self.problems.push(child.key_problem(Severity::Warning, message));
                }
            }
        }
        for name in shape.required().filter(|name| !value.contains_key(*name)) {
            let wanted = properties.iter().find(|property| property.name == name);
            let wanted = wanted.map_or_else(
                || "a value".to_owned(),
                |property| expected(&property.shape.alternatives()),
            );
            self.missing(node, name, &wanted);
        }
        Value::Object(value)
    }

    fn check_property(&mut self, node: Node<'_>, property: &Property<'_>) -> Value {
        let chosen = node.as_str().filter(|_| property.any_case);
        match chosen.and_then(|text| property.shape.allowed_in_any_case(text)) {
            Some(allowed) => allowed.into(),
            None => self.check(node, property.shape),
        }
    }

    /// Finds the alternative that is meant, by the type of the value and the tag, else by the fewest problems.
    fn check_several(&mut self, node: Node<'_>, shapes: &[Shape<'_>]) -> Value {
        let mut fitting: Vec<Shape<'_>> =
            shapes.iter().copied().filter(|shape| fits_type(node, *shape)).collect();
        if let Some((tag, names)) = tag_of(&fitting) {
            match self.tagged(node, tag, &names) {
                Some(index) => fitting = vec![fitting[index]],
                None => return Value::Null,
            }
        }
        match fitting.as_slice() {
            [] => self.mismatch(node, shapes),
            [only] => self.check_one(node, *only),
            several => self.check_best(node, several),
        }
    }

    fn check_best(&mut self, node: Node<'_>, shapes: &[Shape<'_>]) -> Value {
        let trials = shapes.iter().map(|shape| {
            let mut problems = Problems::new();
            let mut checker = Checker::new(&mut problems);
            let value = checker.check_one(node, *shape);
            let Checker { secrets, broken, .. } = checker;
            self.secrets.extend(secrets);
            self.broken |= broken;
            (problems, value)
        });
        let best =
            trials.min_by_key(|(problems, _)| (problems.error_count(), problems.warning_count()));
        let (problems, value) = best.unwrap_or_default();
        self.problems.append(problems);
        value
    }

    /// Which of the tag's names stands in the object; tells a missing or unknown one.
    fn tagged(&mut self, node: Node<'_>, tag: &str, names: &[Shape<'_>]) -> Option<usize> {
        let Some(child) = node.get(tag) else {
            self.missing(node, tag, &expected(names));
            return None;
        };
        if child.is_broken() {
            self.broken = true;
            return None;
        }
        let index = names
            .iter()
            .position(|name| name.allowed().is_some_and(|only| only == [&child.to_json()]));
        if index.is_none() {
            self.mismatch(child, names);
        }
        index
    }

    /// A value that the schema says nothing about, or nothing that is read here.
    fn unchecked(&mut self, node: Node<'_>, shape: Shape<'_>) -> Value {
        self.broken |= node.is_broken();
        if shape.is_write_only() {
            self.remember(node);
        }
        node.to_json()
    }

    fn mismatch(&mut self, node: Node<'_>, shapes: &[Shape<'_>]) -> Value {
        let found = found(node, shapes);
        let names: Vec<&str> =
            shapes.iter().filter_map(Shape::allowed).flatten().filter_map(Value::as_str).collect();
        let text = node.as_str().filter(|_| found != HIDDEN);
        let hint = text.map(|text| did_you_mean(text, names)).unwrap_or_default();
        self.problems.error(&node, format!("expected {}, found {found}{hint}", expected(shapes)));
        Value::Null
    }

    fn missing(&mut self, node: Node<'_>, key: &str, expected: &str) {
        let mut problem = node.problem(Severity::Error, format!("missing, expected {expected}"));
        problem.key = node.path_of(key);
        self.problems.push(problem);
    }

    fn remember(&mut self, node: Node<'_>) {
        match node.value() {
            document::Value::String(text) => self.secrets.push(text.clone()),
            document::Value::Number(number) => self.secrets.push(number.to_string()),
            _ => node.children().for_each(|child| self.remember(child)),
        }
    }
}

/// The property that a key of an object stands for.
#[derive(Clone, Copy)]
enum Key<'a> {
    Of(&'a Property<'a>),
    /// Another key of the same object stands for the same property, and better.
    Shadowed(&'a str),
    Unknown,
}

/// How well a key names a property, the best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    Exact,
    Alias,
    /// The original matched keys without regard to case.
    Case,
}

/// Matches each key of an object: of several for one property the likest wins, of equals the last.
fn match_keys<'a>(node: Node<'a>, properties: &'a [Property<'a>]) -> Vec<Key<'a>> {
    let mut keys: Vec<Key<'a>> = Vec::new();
    let mut best: Vec<Option<(Likeness, usize, &str)>> = properties.iter().map(|_| None).collect();
    for (index, child) in node.children().enumerate() {
        let name = child.name().unwrap_or_default();
        let likenesses = properties
            .iter()
            .enumerate()
            .filter_map(|(i, property)| Some((likeness(name, property)?, i)));
        let Some((likeness, i)) = likenesses.min() else {
            keys.push(Key::Unknown);
            continue;
        };
        match best[i] {
            Some((other, _, winner)) if other < likeness => keys.push(Key::Shadowed(winner)),
            other => {
                if let Some((_, loser, _)) = other {
                    keys[loser] = Key::Shadowed(name);
                }
                best[i] = Some((likeness, index, name));
                keys.push(Key::Of(&properties[i]));
            }
        }
    }
    keys
}

fn likeness(name: &str, property: &Property<'_>) -> Option<Likeness> {
    if name == property.name {
        Some(Likeness::Exact)
    } else if property.aliases.contains(&name) {
        Some(Likeness::Alias)
    } else {
        let mut names = property.aliases.iter().chain([&property.name]);
        names.any(|known| known.eq_ignore_ascii_case(name)).then_some(Likeness::Case)
    }
}

fn unknown_key(name: &str, properties: &[Property<'_>]) -> String {
    let known = || properties.iter().map(|property| property.name);
    let unknown = format!("unknown key `{}`", name.escape_debug());
    if let Some(place) = place_of(name, properties) {
        return format!("{unknown}; it belongs in `{place}`");
    }
    if let Some(meant) = nearest(name, known()) {
        return format!("{unknown}; did you mean `{meant}`?");
    }
    let of_type = if known().any(|name| name == PARAMS) {
        format!("; the keys of a type belong in `{PARAMS}`")
    } else {
        String::new()
    };
    let unknown = format!("{unknown}{of_type}");
    let listed: Vec<String> =
        known().take(MAX_KEYS_NAMED).map(|name| format!("`{name}`")).collect();
    match listed.as_slice() {
        [] => format!("{unknown}; no key is known here"),
        names if properties.len() > names.len() => {
            format!("{unknown}; known here: {} and others", names.join(", "))
        }
        names => format!("{unknown}; known here: {}", names.join(", ")),
    }
}

/// The object beside it that has a key of this name.
fn place_of<'s>(name: &str, properties: &[Property<'s>]) -> Option<&'s str> {
    let has = |shape: &Shape<'_>| shape.properties().iter().any(|inner| inner.name == name);
    let holds = |property: &&Property<'_>| property.shape.alternatives().iter().any(has);
    properties.iter().find(holds).map(|property| property.name)
}

/// The value as problems show it.
fn found(node: Node<'_>, shapes: &[Shape<'_>]) -> String {
    let secret = shapes.iter().any(Shape::is_write_only);
    match node.value() {
        document::Value::Bool(_) | document::Value::Number(_) | document::Value::String(_)
            if secret =>
        {
            HIDDEN.to_owned()
        }
        _ => node.shown(),
    }
}

/// Whether the value of a key says as little as a key that is not there.
fn is_unset(node: Node<'_>, property: &Property<'_>) -> bool {
    let shape = property.shape;
    if matches!(node.value(), document::Value::Null) {
        return !shape.admits_null();
    }
    if !property.zero_is_unset {
        return false;
    }
    // In the type that is wanted, so that a variable's "0" is a number where one is expected.
    match shape.alternatives().iter().find_map(|shape| coerced(node, *shape)) {
        Some(Value::Number(number)) => number.as_f64() == Some(0.0),
        Some(Value::String(text)) => shape.is_zero_text(&text),
        _ => false,
    }
}

/// The key that tells tagged objects apart, with its shape in each of them.
fn tag_of<'s>(shapes: &[Shape<'s>]) -> Option<(&'s str, Vec<Shape<'s>>)> {
    let (first, others) = shapes.split_first().filter(|(_, others)| !others.is_empty())?;
    let only_value = |shape: &Shape<'s>| shape.allowed().is_some_and(|allowed| allowed.len() == 1);
    first.properties().into_iter().filter(|property| only_value(&property.shape)).find_map(|tag| {
        let in_other = |shape: &Shape<'s>| {
            let same = shape.properties().into_iter().find(|property| property.name == tag.name)?;
            only_value(&same.shape).then_some(same.shape)
        };
        let names: Option<Vec<Shape<'s>>> = others.iter().map(in_other).collect();
        Some((tag.name, [vec![tag.shape], names?].concat()))
    })
}

fn fits_type(node: Node<'_>, shape: Shape<'_>) -> bool {
    match node.value() {
        document::Value::Object(_) => shape.admits("object"),
        document::Value::List(_) => shape.admits("array"),
        _ => coerced(node, shape)
            .is_some_and(|value| shape.allowed().is_none_or(|allowed| allowed.contains(&&value))),
    }
}

/// The value in a type that the shape takes, when there is one.
fn coerced(node: Node<'_>, shape: Shape<'_>) -> Option<Value> {
    match node.value() {
        document::Value::Null => shape.admits("null").then_some(Value::Null),
        document::Value::Bool(value) => shape.admits("boolean").then_some(Value::Bool(*value)),
        document::Value::Number(number) => shape.number(number).map(Value::Number),
        document::Value::String(text) => {
            let other = if node.is_expanded() { from_text(text.trim(), shape) } else { None };
            other.or_else(|| shape.admits("string").then(|| Value::String(text.clone())))
        }
        document::Value::List(_) | document::Value::Object(_) | document::Value::Broken => None,
    }
}

/// A variable is always a text; where a number or a boolean is wanted, it is read as one.
fn from_text(text: &str, shape: Shape<'_>) -> Option<Value> {
    if shape.is_untyped() {
        return None;
    }
    if shape.admits("boolean")
        && let Ok(value) = text.parse()
    {
        return Some(Value::Bool(value));
    }
    let number: Number = serde_json::from_str(text).ok()?;
    shape.number(&number).map(Value::Number)
}
