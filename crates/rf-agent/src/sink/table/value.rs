//! Values on their way between JSON and SQLite.

use std::io::Write;

use rusqlite::types::{ToSqlOutput, Value as Sql, ValueRef};
use serde_json::Value;

use super::schema::Kind;

/// Beyond this a float does not hold every integer.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// What SQLite passes over around a number.
const SPACES: [char; 6] = [' ', '\t', '\n', '\x0b', '\x0c', '\r'];

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
pub(crate) fn to_sql(value: &Value, kind: Kind) -> ToSqlOutput<'_> {
    match value {
        Value::Null => ToSqlOutput::Borrowed(ValueRef::Null),
        Value::Bool(yes) if kind == Kind::Text => yes.to_string().into(),
        Value::Bool(yes) => i64::from(*yes).into(),
        Value::Number(number) if kind == Kind::Text => number.to_string().into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(real)) => real.into(),
            (None, None) => number.to_string().into(),
        },
        Value::String(text) if holds_numbers(kind) && is_beyond(text) => text.as_bytes().into(),
        Value::String(text) => text.as_str().into(),
        nested => nested.to_string().into(),
    }
}

/// Whether a text is a number to SQLite: it makes one of it in a column, or beside a column, that holds numbers.
pub(crate) fn is_number(text: &str) -> bool {
    let text = text.trim_matches(SPACES);
    // Of what Rust reads besides, such as `inf`, SQLite makes none.
    text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
        && text.parse::<f64>().is_ok()
}

/// The number that such a text is.
pub(crate) fn number(text: &str) -> Sql {
    let text = text.trim_matches(SPACES);
    text.parse().map_or_else(|_not_whole| Sql::Real(text.parse().unwrap_or(f64::NAN)), Sql::Integer)
}

/// Whether a text is a number beyond all: such a one as `12e456`, which may be half of a hash. A column of numbers would make
/// infinity of it, so it is stored as bytes.
pub(crate) fn is_beyond(text: &str) -> bool {
    is_number(text) && matches!(number(text), Sql::Real(real) if real.is_infinite())
}

fn holds_numbers(kind: Kind) -> bool {
    matches!(kind, Kind::Integer | Kind::Real | Kind::Boolean)
}

/// Whether a column of this kind makes a number of a text that is written otherwise: 7 of `007`.
pub(crate) fn is_changed(text: &str, kind: Kind) -> bool {
    if !holds_numbers(kind) || !is_number(text) || is_beyond(text) {
        return false;
    }
    let whole: Option<i64> = text.parse().ok().filter(|_| kind != Kind::Real);
    let mut written = Vec::new();
    if let Some(whole) = whole {
        write_json(&mut written, ValueRef::Integer(whole), Kind::Integer);
    } else {
        let real: f64 = text.trim_matches(SPACES).parse().unwrap_or(f64::NAN);
        // SQLite knows no zero below zero.
        write_real(&mut written, real + 0.0);
    }
    written != text.as_bytes()
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

    fn as_stored<'a>(value: &'a ToSqlOutput<'_>) -> ValueRef<'a> {
        match value {
            ToSqlOutput::Borrowed(value) => *value,
            ToSqlOutput::Owned(value) => value.into(),
            other => panic!("{other:?}"),
        }
    }

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
            let stored = to_sql(&value, kind);
            let mut out = Vec::new();
            write_json(&mut out, as_stored(&stored), kind);
            assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), value, "{text}");
        }
        let nested: Value = serde_json::from_str(r#"{"a":[1,{"b":null}]}"#).unwrap();
        let text = ValueRef::Text(br#"{"a":[1,{"b":null}]}"#);
        assert_eq!(as_stored(&to_sql(&nested, Kind::Text)), text);
    }

    /// By what SQLite makes of each.
    #[test]
    fn texts_that_numbers_are_made_of_are_known() {
        let texts = "7|007|-0|+5|1e5|1E5|1.5|1.50|.5|5.| 7 |\t7\n|\x0b7|1e400|9007199254740993|\
            123456789012345678901234567890|0x10|inf|nan|1e|e5|.|| |+|1-2|12 34|+49 123|7a|\u{a0}7";
        for (declared, kind) in
            [("INTEGER", Kind::Integer), ("REAL", Kind::Real), ("BOOLEAN", Kind::Boolean)]
        {
            let conn = rusqlite::Connection::open_in_memory().unwrap();
            conn.execute_batch(&format!("CREATE TABLE t (a {declared})")).unwrap();
            for text in texts.split('|') {
                conn.execute("DELETE FROM t", []).unwrap();
                let sent = Value::String(text.to_owned());
                conn.execute("INSERT INTO t VALUES (?1)", [to_sql(&sent, kind)]).unwrap();
                let stored: Sql = conn.query_row("SELECT a FROM t", [], |row| row.get(0)).unwrap();
                let is_beyond = stored == Sql::Blob(text.into());
                assert_eq!(is_beyond, text == "1e400", "{text:?}: {stored:?}");
                if is_beyond {
                    assert!(is_number(text) && !is_changed(text, kind));
                    continue;
                }
                let is_text = stored == Sql::Text(text.to_owned());
                assert_eq!(is_number(text), !is_text, "{text:?}: {stored:?}");
                let mut shown = Vec::new();
                write_json(&mut shown, ValueRef::from(&stored), Kind::Any);
                let is_same = is_text || shown == text.as_bytes();
                assert_eq!(is_changed(text, kind), !is_same, "{text:?}: {stored:?}");
            }
        }
        assert!(!is_changed("007", Kind::Text) && !is_changed("007", Kind::Any));
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
