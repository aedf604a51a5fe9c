//! A column's text, as PostgreSQL writes it, becomes JSON.
//!
//! Every type has a text form, also those of extensions and of the user; what is not one of the types below stays that
//! text. The result is what PostgreSQL's own `to_json` makes of the value, but that composite types stay text, and so do
//! instants that RFC 3339 cannot say.

use serde_json::Value;
use tokio_postgres::types::{Kind, Type};

/// Appends the JSON of a column.
pub(super) fn write(out: &mut String, kind: &Type, text: Option<&str>) {
    match text {
        None => out.push_str("null"),
        Some(text) => write_text(out, kind, text),
    }
}

/// Appends a JSON string.
pub(super) fn write_string(out: &mut String, text: &str) {
    out.push_str(&Value::from(text).to_string());
}

fn write_text(out: &mut String, kind: &Type, text: &str) {
    match *kind {
        Type::BOOL if text == "t" => out.push_str("true"),
        Type::BOOL if text == "f" => out.push_str("false"),
        // The digits as they are: no float in between, so that every one of them stays.
        Type::INT2 | Type::INT4 | Type::INT8 | Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC
            if is_number(text) =>
        {
            out.push_str(text);
        }
        // Read whole, since a text that only PostgreSQL takes for JSON would spoil the event.
        Type::JSON | Type::JSONB if serde_json::from_str::<Value>(text).is_ok() => {
            out.push_str(text);
        }
        Type::TIMESTAMP => write_string(out, &date_and_time(text).unwrap_or(text.to_owned())),
        Type::TIMESTAMPTZ => write_string(out, &instant(text).unwrap_or(text.to_owned())),
        _ => match kind.kind() {
            Kind::Domain(base) => write_text(out, base, text),
            Kind::Array(element) => match array(element, text) {
                Some(json) => out.push_str(&json),
                None => write_string(out, text),
            },
            _ => write_string(out, text),
        },
    }
}

/// All but `NaN` and the infinities, which JSON does not have.
fn is_number(text: &str) -> bool {
    text.strip_prefix('-').unwrap_or(text).starts_with(|c: char| c.is_ascii_digit())
}

/// `2026-01-31 12:00:00.5` as RFC 3339 has it, without an offset; `None` for what it cannot say (infinity, years before 1
/// and after 9999).
fn date_and_time(text: &str) -> Option<String> {
    let (date, time) = text.split_once(' ')?;
    let is_plain =
        date.len() == 10 && time.bytes().all(|c| c.is_ascii_digit() || b":.".contains(&c));
    is_plain.then(|| format!("{date}T{time}"))
}

/// `2026-01-31 12:00:00.5+02` as RFC 3339 has it; `None` also for offsets with seconds, from before time zones.
fn instant(text: &str) -> Option<String> {
    let sign = text.rfind(['+', '-'])?;
    let (local, offset) = text.split_at_checked(sign)?;
    let local = date_and_time(local)?;
    match offset.len() {
        _ if !offset.ends_with(|c: char| c.is_ascii_digit()) => None,
        3 => Some(format!("{local}{offset}:00")),
        6 => Some(format!("{local}{offset}")),
        _ => None,
    }
}

/// `{1,NULL,"a b"}`, perhaps nested or with bounds before it; `None` when it is written otherwise.
fn array(element: &Type, text: &str) -> Option<String> {
    let begin = if text.starts_with('[') { text.find('=')? + 1 } else { 0 };
    let (_, body) = text.split_at_checked(begin)?;
    let delimiter = if *element == Type::BOX { ';' } else { ',' };
    let mut out = String::new();
    let mut chars = body.chars().peekable();
    let mut depth = 0_usize;
    while let Some(c) = chars.next() {
        if depth == 0 && c != '{' {
            return None;
        }
        match c {
            '{' => {
                depth += 1;
                out.push('[');
            }
            '}' => {
                depth -= 1;
                out.push(']');
                if depth == 0 {
                    return chars.next().is_none().then_some(out);
                }
            }
            '"' => write_text(&mut out, element, &quoted(&mut chars)?),
            c if c == delimiter => out.push(','),
            c => {
                let mut item = String::from(c);
                while let Some(c) = chars.next_if(|c| *c != delimiter && *c != '}') {
                    item.push(c);
                }
                write(&mut out, element, (item != "NULL").then_some(&item));
            }
        }
    }
    None
}

fn quoted(chars: &mut impl Iterator<Item = char>) -> Option<String> {
    let mut item = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(item),
            '\\' => item.push(chars.next()?),
            c => item.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &Type, text: &str, expected: &str) {
        let mut out = String::new();
        write(&mut out, kind, Some(text));
        assert_eq!(out, expected, "{kind}: {text}");
        serde_json::from_str::<Value>(&out).unwrap_or_else(|error| panic!("{out}: {error}"));
    }

    #[test]
    fn numbers_keep_their_digits_and_the_rest_is_text() {
        check(&Type::INT8, "9223372036854775807", "9223372036854775807");
        check(&Type::INT8, "-9007199254740993", "-9007199254740993");
        check(
            &Type::NUMERIC,
            "12345678901234567890.12345678900",
            "12345678901234567890.12345678900",
        );
        check(&Type::NUMERIC, "NaN", r#""NaN""#);
        check(&Type::FLOAT8, "1e+300", "1e+300");
        check(&Type::FLOAT8, "-Infinity", r#""-Infinity""#);
        check(&Type::MONEY, "$1,000.00", r#""$1,000.00""#);
    }

    #[test]
    fn instants_are_rfc_3339_where_it_can_say_them() {
        for (kind, text, expected) in [
            (Type::TIMESTAMPTZ, "2026-01-31 12:00:00.5+02", r#""2026-01-31T12:00:00.5+02:00""#),
            (Type::TIMESTAMPTZ, "2026-01-31 12:00:00-05:30", r#""2026-01-31T12:00:00-05:30""#),
            (Type::TIMESTAMPTZ, "infinity", r#""infinity""#),
            (
                Type::TIMESTAMPTZ,
                "1800-01-01 00:53:28+00:53:28",
                r#""1800-01-01 00:53:28+00:53:28""#,
            ),
            (Type::TIMESTAMPTZ, "0044-03-15 12:00:00+00 BC", r#""0044-03-15 12:00:00+00 BC""#),
            (Type::TIMESTAMP, "2026-01-31 12:00:00", r#""2026-01-31T12:00:00""#),
            (Type::TIMESTAMP, "12026-01-31 12:00:00", r#""12026-01-31 12:00:00""#),
            (Type::TIMESTAMP, "-infinity", r#""-infinity""#),
            (Type::DATE, "2026-01-31", r#""2026-01-31""#),
        ] {
            check(&kind, text, expected);
        }
    }

    #[test]
    fn arrays_become_lists() {
        check(&Type::INT4_ARRAY, "{}", "[]");
        check(&Type::INT4_ARRAY, "{1,NULL,3}", "[1,null,3]");
        check(&Type::INT4_ARRAY, "{{1,2},{3,4}}", "[[1,2],[3,4]]");
        check(&Type::INT4_ARRAY, "[0:1]={1,2}", "[1,2]");
        check(
            &Type::TEXT_ARRAY,
            r#"{a,"NULL",NULL,"b, \"c\" \\ {d}",""}"#,
            r#"["a","NULL",null,"b, \"c\" \\ {d}",""]"#,
        );
        check(&Type::BOOL_ARRAY, "{t,f}", "[true,false]");
        check(&Type::JSON_ARRAY, r#"{"{\"a\": 1}",2}"#, r#"[{"a": 1},2]"#);
        check(&Type::BOX_ARRAY, "{(1,1),(0,0);(2,2),(1,1)}", r#"["(1,1),(0,0)","(2,2),(1,1)"]"#);
        // Written without braces.
        check(&Type::INT2_VECTOR, "1 2", r#""1 2""#);
    }

    #[test]
    fn json_is_embedded_and_what_no_one_else_can_read_is_text() {
        check(&Type::JSON, "{\"a\": [1,\n2]}", "{\"a\": [1,\n2]}");
        check(&Type::JSONB, "null", "null");
        check(&Type::JSON, r#""\ud800""#, r#""\"\\ud800\"""#);
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        check(&Type::JSON, &deep, &format!("\"{deep}\""));
    }
}
