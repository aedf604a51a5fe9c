//! Values on their way between JSON and SQLite.

use std::io::Write;

use rusqlite::types::{Value as Sql, ValueRef};
use serde_json::Value;

use super::schema::Kind;

/// Beyond this a float does not hold every integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The kind of a column whose first value this is; `None` for null, which says nothing.
pub(crate) fn kind_of(value: &Value) -> Option<Kind> {
    match value {
        Value::Null => None,
        Value::Bool(_) => Some(Kind::Boolean),
        Value::Number(number) if number.is_i64() => Some(Kind::Integer),
        Value::Number(_) => Some(Kind::Real),
        Value::String(_) | Value::Array(_) | Value::Object(_) => Some(Kind::Text),
    }
}

/// A value for a column of this kind; objects and lists as their JSON text.
pub(crate) fn to_sql(value: Value, kind: Kind) -> Sql {
    match value {
        Value::Null => Sql::Null,
        Value::Bool(yes) if kind == Kind::Text => Sql::Text(yes.to_string()),
        Value::Bool(yes) => Sql::Integer(yes.into()),
        Value::Number(number) if kind == Kind::Text => Sql::Text(number.to_string()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Sql::Integer(whole),
            (None, Some(real)) => Sql::Real(real),
            (None, None) => Sql::Text(number.to_string()),
        },
        Value::String(text) => Sql::Text(text),
        nested => Sql::Text(nested.to_string()),
    }
}

/// Writes a stored value as JSON.
pub(crate) fn write_json(out: &mut Vec<u8>, value: ValueRef<'_>, kind: Kind) {
    match value {
        ValueRef::Null => out.extend_from_slice(b"null"),
        ValueRef::Integer(0) if kind == Kind::Boolean => out.extend_from_slice(b"false"),
        ValueRef::Integer(1) if kind == Kind::Boolean => out.extend_from_slice(b"true"),
        ValueRef::Integer(whole) => {
            write!(out, "{whole}").expect("writing to memory cannot fail");
        }
        ValueRef::Real(real) => write_real(out, real),
        ValueRef::Text(text) | ValueRef::Blob(text) => {
            serde_json::to_writer(out, &String::from_utf8_lossy(text))
                .expect("writing to memory cannot fail");
        }
    }
}

/// A whole number without a fraction, as the original wrote it; JSON has neither infinity nor NaN.
pub(crate) fn write_real(out: &mut Vec<u8>, real: f64) {
    if real.fract() == 0.0 && real.abs() < EXACT {
        write!(out, "{real:.0}").expect("writing to memory cannot fail");
    } else if real.is_finite() {
        serde_json::to_writer(out, &real).expect("writing to memory cannot fail");
    } else {
        out.extend_from_slice(b"null");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were() {
        for text in [
            "null",
            "true",
            "false",
            "0",
            "-7",
            "9223372036854775807",
            "9007199254740993",
            "1.5",
            "-2.5e-9",
            "1e300",
            "\"a \\\"b\\\" \\n\"",
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            let kind = kind_of(&value).unwrap_or(Kind::Any);
            let stored = to_sql(value.clone(), kind);
            let mut out = Vec::new();
            write_json(&mut out, ValueRef::from(&stored), kind);
            assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), value, "{text}");
        }
        let nested: Value = serde_json::from_str(r#"{"a":[1,{"b":null}]}"#).unwrap();
        assert_eq!(to_sql(nested, Kind::Text), Sql::Text(r#"{"a":[1,{"b":null}]}"#.to_owned()));
    }

    #[test]
    fn a_real_that_is_whole_is_written_so() {
        let check = |real: f64, expected: &str| {
            let mut out = Vec::new();
            write_real(&mut out, real);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(5.0, "5");
        check(-0.25, "-0.25");
        check(f64::INFINITY, "null");
        check(f64::NAN, "null");
    }
}
