//! Texts of a configuration with fields of the event (`{header.Host}`), and for paths of files with times (`%Y`).
//!
//! Promise of [`plain_name`]: what an event says never leaves the folder that the literal text of a path names. A value
//! becomes one part of one name: everything but letters, digits, `-`, `_` and `.` is replaced, and a dot at its start too.

use jiff::Timestamp;
use rf_core::json;
use serde_json::Value;

/// Longest value of a field in a name; file systems take 255 bytes for all of it.
const MAX_VALUE_BYTES: usize = 80;
/// Stands for a field that the event does not have.
const MISSING: &str = "none";
/// Of `strftime`, in UTC.
const TIMES: &str = "YmdHM";

/// A checked text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// Such as `%Y`.
    Time(String),
    Field(Field),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    Method,
    Path,
    Ip,
    Header(String),
    Param(String),
    /// Keys into a JSON body.
    Body(Vec<String>),
}

impl Template {
    /// A text with fields; `{{` is a brace.
    pub(super) fn of_fields(text: &str) -> Result<Self, String> {
        Self::parse(text, |_after_percent| Ok(None))
    }

    /// A text with fields and times; `%%` is a percent sign.
    pub(super) fn with_times(text: &str) -> Result<Self, String> {
        Self::parse(text, |unit| match unit {
            Some('%') => Ok(Some(Part::Literal("%".to_owned()))),
            Some(unit) if TIMES.contains(unit) => Ok(Some(Part::Time(format!("%{unit}")))),
            _ => Err("expected %Y, %m, %d, %H, %M or %% after a %".to_owned()),
        })
    }

    /// `percent` says what a percent sign with the character behind it stands for; `None`: for itself.
    fn parse(
        text: &str,
        percent: impl Fn(Option<char>) -> Result<Option<Part>, String>,
    ) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let part = match c {
                '%' => match percent(chars.peek().copied())? {
                    Some(part) => {
                        chars.next();
                        part
                    }
                    None => Part::Literal(c.to_string()),
                },
                '{' if chars.peek() == Some(&'{') => {
                    chars.next();
                    Part::Literal(c.to_string())
                }
                '{' => Part::Field(Field::parse(&name_of_field(&mut chars)?)?),
                other => Part::Literal(other.to_string()),
            };
            match (parts.last_mut(), part) {
                (Some(Part::Literal(before)), Part::Literal(text)) => before.push_str(&text),
                (_, part) => parts.push(part),
            }
        }
        Ok(Self { parts })
    }

    /// The text, where no event has a say in it.
    pub(super) fn fixed(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The text for an event that happened then; each value goes through `shape`.
    pub(super) fn render(
        &self,
        event: &Value,
        at: Timestamp,
        shape: impl Fn(String) -> String,
    ) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Time(format) => text.push_str(&at.strftime(format).to_string()),
                Part::Field(field) => text.push_str(&shape(field.value(event))),
            }
        }
        text
    }
}

/// What stands up to the closing brace, which is passed over.
fn name_of_field(chars: &mut impl Iterator<Item = char>) -> Result<String, String> {
    let mut name = String::new();
    for c in chars {
        if c == '}' {
            return Ok(name);
        }
        name.push(c);
    }
    Err(format!("`{{{name}` lacks its closing brace"))
}

impl Field {
    fn parse(name: &str) -> Result<Self, String> {
        Ok(match name.split_once('.') {
            None if name == "method" => Self::Method,
            None if name == "path" => Self::Path,
            None if name == "ip" => Self::Ip,
            Some(("header", name)) if !name.is_empty() => Self::Header(name.to_owned()),
            Some(("param", name)) if !name.is_empty() => Self::Param(name.to_owned()),
            Some(("body", keys)) if !keys.is_empty() => {
                Self::Body(keys.split('.').map(str::to_owned).collect())
            }
            _ => {
                return Err(format!(
                    "no field `{name}`; known: method, path, ip, header.NAME, param.NAME, body.KEY"
                ));
            }
        })
    }

    fn value(&self, event: &Value) -> String {
        match self {
            Self::Method => text(&event["method"]),
            Self::Path => text(&event["path"]),
            Self::Ip => without_port(&text(&event["ip"])).to_owned(),
            Self::Header(name) => {
                let headers = event["headers"].as_object();
                let found = headers.and_then(|headers| {
                    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
                });
                found.map(|(_, value)| text(value)).unwrap_or_default()
            }
            Self::Param(name) => text(&event["params"][name]),
            Self::Body(keys) => {
                let body = match &event["body"] {
                    Value::String(body) => json::from_slice(body.as_bytes()).unwrap_or_default(),
                    other => other.clone(),
                };
                text(keys.iter().fold(&body, |value, key| &value[key]))
            }
        }
    }
}

/// A text or number; of a list the first one.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.first().map(text).unwrap_or_default(),
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Null | Value::Object(_) => String::new(),
    }
}

fn without_port(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_matches(['[', ']'])
}

/// A part of a file's name that is a name and nothing else.
pub(crate) fn plain_name(value: &str) -> String {
    let mut name = String::new();
    for c in value.trim_start_matches('/').chars() {
        let is_plain =
            c.is_alphanumeric() || matches!(c, '-' | '_') || (c == '.' && !name.is_empty());
        let c = if is_plain { c } else { '_' };
        if name.len() + c.len_utf8() > MAX_VALUE_BYTES {
            break;
        }
        name.push(c);
    }
    if name.is_empty() { MISSING.to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn render(template: &str, event: &Value) -> String {
        let at = Timestamp::from_second(1_769_850_845).unwrap();
        Template::with_times(template).unwrap().render(event, at, |value| plain_name(&value))
    }

    #[test]
    fn times_and_fields_are_filled_in() {
        let event = json!({
            "ip": "[::1]:443", "method": "POST", "path": "/a/b",
            "headers": {"Host": ["shop.example.com"], "X-N": 5}, "params": {"q": ["x y"]},
            "body": r#"{"tenant":{"id":7},"text":"cut \ud83d"}"#,
        });
        let check = |template: &str, expected: &str| assert_eq!(render(template, &event), expected);
        check("e/%Y-%m-%d/%H%M.log", "e/2026-01-31/0914.log");
        check("100%%/x", "100%/x");
        check("{header.host}/{method}-{path}", "shop.example.com/POST-a_b");
        check("{ip}.{param.q}.{header.x-n}", "__1.x_y.5");
        check("{body.tenant.id}/{body.tenant.name}/{param.none}", "7/none/none");
    }

    #[test]
    fn what_is_no_template_is_said_so() {
        let check = |template: &str, expected: &str| {
            let reason = Template::with_times(template).unwrap_err();
            assert!(reason.contains(expected), "{template}: {reason}");
        };
        check("a%q", "expected %Y");
        check("a%", "expected %Y");
        check("{host}", "no field `host`; known: method");
        check("{header.}", "no field `header.`");
        check("in/{header.Host.ndjson", "`{header.Host.ndjson` lacks its closing brace");
    }

    #[test]
    fn without_times_a_percent_sign_is_one_and_braces_can_be_doubled() {
        let check = |template: &str, expected: &str| {
            let event = json!({ "method": "PUT", "path": "/a/b" });
            let template = Template::of_fields(template).unwrap();
            let rendered = template.render(&event, Timestamp::UNIX_EPOCH, |value| value);
            assert_eq!(rendered, expected);
        };
        check("100%25 {method} {path}", "100%25 PUT /a/b");
        check("{{\"m\": \"{method}\"}", "{\"m\": \"PUT\"}");
        check("", "");
    }

    proptest! {
        #[test]
        fn no_event_leaves_its_folder(a in ".{0,40}", b in "[./\\\\\0-9a-z]{0,12}") {
            let event = json!({"path": b, "headers": {"a": [a], "b": b}, "body": {"k": b}});
            for template in ["in/{header.a}/x", "in/{path}{header.b}/x", "in/.{body.k}/x", "in/x.{path}"] {
                let path = render(template, &event);
                let parts: Vec<&str> = path.split('/').collect();
                prop_assert_eq!(parts.len(), template.split('/').count());
                prop_assert_eq!(parts[0], "in");
                prop_assert!(parts.iter().all(|part| !part.is_empty() && *part != "." && *part != ".."));
                prop_assert!(!path.contains('\0'));
            }
        }
    }
}
