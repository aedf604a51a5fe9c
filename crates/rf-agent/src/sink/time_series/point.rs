//! A body becomes a point.

use rusqlite::types::Value as Sql;
use serde_json::{Map, Value};

use super::name::{Form, Kind};
use crate::sink::table::call::Body;
use crate::sink::table::failure::WriteError;
use crate::sink::table::identifier::Identifier;
use crate::sink::table::timestamp;

/// Series of events that name none.
const DEFAULT_SERIE: &str = "default";
/// Longest name of a series or an environment, in bytes.
const MAX_NAME_BYTES: usize = 512;

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    /// Microseconds since 1970; `None` where the event does not say: then it is when the point is written.
    pub(super) at_us: Option<i64>,
    pub(super) serie: String,
    /// Empty where the event names none: NULL would make every row of a key one of its own.
    pub(super) env: String,
    pub(super) value: Measured,
    /// The body's other keys, as a JSON object; `None` when there are none.
    pub(super) metadata: Option<String>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Measured {
    Number(f64),
    /// Of a snapshot: any value.
    State(Sql),
}

impl Measured {
    /// The number; a state has none and counts as one.
    pub(super) fn number(&self) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::State(_) => 1.0,
        }
    }
}

/// What a body says of a column: what its own name says, else the last of the other spellings. Null says nothing.
#[derive(Default)]
struct Given {
    value: Option<Value>,
    is_named: bool,
}

impl Given {
    fn take(&mut self, is_named: bool, value: Value) {
        if !value.is_null() && (is_named || !self.is_named) {
            *self = Self { value: Some(value), is_named };
        }
    }
}

impl Point {
    /// Reads a body. Keys are known in any spelling that becomes the same column: `serieName` is `serie_name`.
    ///
    /// # Errors
    /// [`WriteError::Refused`] for a value that is no number, or a time that is none.
    pub(super) fn read(body: Map<String, Value>, kind: Kind) -> Result<Self, WriteError> {
        let [mut serie, mut env, mut time, mut value, mut increment] = <[Given; 5]>::default();
        let mut others = Map::new();
        for (key, given) in body {
            let column = Identifier::column(&key);
            let column = column.as_ref().map_or("", Identifier::as_str);
            let is_named = key == column;
            match column {
                "serie_name" => serie.take(is_named, given),
                "env_name" => env.take(is_named, given),
                "timestamp" => time.take(is_named, given),
                "value" => value.take(is_named, given),
                "increment" if kind == Kind::Counter => increment.take(is_named, given),
                "metadata" if given.is_object() => {
                    let Value::Object(given) = given else { continue };
                    others.extend(given);
                }
                _ => drop(others.insert(key, given)),
            }
        }
        let at_us = timestamp::of_event(time.value.as_ref()).map_err(WriteError::Refused)?;
        let serie = name("serieName", serie.value)?;
        Ok(Self {
            at_us,
            serie: if serie.is_empty() { DEFAULT_SERIE.to_owned() } else { serie },
            env: name("envName", env.value)?,
            value: measured(kind, value.value.or(increment.value))?,
            metadata: (!others.is_empty()).then(|| Value::Object(others).to_string()),
        })
    }
}

impl Body for Point {
    fn to_put(table: &Identifier, body: &[u8]) -> Result<Self, WriteError> {
        let kind = Form::of(table.as_str()).map_err(WriteError::Refused)?.kind;
        Self::read(Map::to_put(table, body)?, kind)
    }

    fn to_delete(_table: &Identifier, _body: &[u8]) -> Result<Self, WriteError> {
        Err(WriteError::Refused(
            "a time series takes POST and PUT: single points cannot be removed".to_owned(),
        ))
    }
}

fn name(key: &str, given: Option<Value>) -> Result<String, WriteError> {
    let name = match given {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
    };
    if name.len() > MAX_NAME_BYTES {
        return Err(WriteError::Refused(format!("{key} has more than {MAX_NAME_BYTES} bytes")));
    }
    Ok(name)
}

fn measured(kind: Kind, given: Option<Value>) -> Result<Measured, WriteError> {
    let missing = matches!(given, None | Some(Value::Null));
    if kind == Kind::Counter && missing {
        return Ok(Measured::Number(1.0));
    }
    if kind == Kind::Snapshot {
        return match given {
            None | Some(Value::Null) => {
                Err(WriteError::Refused("value is missing: expected any value but null".to_owned()))
            }
            Some(Value::Number(number)) => Ok(Measured::State(match number.as_i64() {
                Some(whole) => Sql::Integer(whole),
                None => Sql::Real(number.as_f64().unwrap_or_default()),
            })),
            Some(Value::String(text)) => Ok(Measured::State(Sql::Text(text))),
            Some(other) => Ok(Measured::State(Sql::Text(other.to_string()))),
        };
    }
    let number = match given {
        None | Some(Value::Null) => return Err(refused("missing")),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::Bool(yes)) => Some(f64::from(u8::from(yes))),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(_) => None,
    };
    let number = number.filter(|number: &f64| number.is_finite());
    number.map(Measured::Number).ok_or_else(|| refused("no number"))
}

fn refused(what: &str) -> WriteError {
    WriteError::Refused(format!("value is {what}: expected a number, as in {{\"value\": 1.5}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, body: &str) -> Result<Point, WriteError> {
        Point::read(serde_json::from_str(body).unwrap(), kind)
    }

    #[test]
    fn bodies_become_points() {
        let stats = r#"{"timestamp":1700000001,"envName":"prod","hostName":"web-1","serieName":"cpu_percent","value":12.5,"id":"cpu_percent1700000001"}"#;
        let expected = Point {
            at_us: Some(1_700_000_001_000_000),
            serie: "cpu_percent".to_owned(),
            env: "prod".to_owned(),
            value: Measured::Number(12.5),
            metadata: Some(r#"{"hostName":"web-1","id":"cpu_percent1700000001"}"#.to_owned()),
        };
        assert_eq!(read(Kind::Gauge, stats).unwrap(), expected);
        let bare =
            read(Kind::Gauge, r#"{"value":"2.5","env_name":null,"metadata":{"a":1}}"#).unwrap();
        assert_eq!((bare.at_us, &*bare.serie, &*bare.env), (None, "default", ""));
        assert_eq!(
            (bare.value, bare.metadata.as_deref()),
            (Measured::Number(2.5), Some(r#"{"a":1}"#))
        );
        let number = |kind, body| read(kind, body).unwrap().value.number();
        assert_eq!(number(Kind::Counter, "{}"), 1.0);
        assert_eq!(number(Kind::Counter, r#"{"increment":4}"#), 4.0);
        assert_eq!(number(Kind::Gauge, r#"{"value":true}"#), 1.0);
        let state = read(Kind::Snapshot, r#"{"value":"down"}"#).unwrap().value;
        assert_eq!(state, Measured::State(Sql::Text("down".to_owned())));
    }

    #[test]
    fn of_several_spellings_the_columns_own_name_counts() {
        let both = r#"{"serieName":"x","serie_name":"own","SerieName":"y","value":1,"Value":2,"env_name":null,"envName":"e","EnvName":"last"}"#;
        let point = read(Kind::Gauge, both).unwrap();
        assert_eq!((&*point.serie, &*point.env), ("own", "last"));
        assert_eq!((point.value, point.metadata), (Measured::Number(1.0), None));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for body in [
            "{}",
            r#"{"value":null}"#,
            r#"{"value":"much"}"#,
            r#"{"value":"NaN"}"#,
            r#"{"value":[1]}"#,
        ] {
            for kind in [Kind::Gauge, Kind::Rollup, Kind::Delta] {
                assert!(read(kind, body).is_err(), "{body}");
            }
        }
        assert!(read(Kind::Gauge, r#"{"value":1,"timestamp":"late"}"#).is_err());
        let missing = read(Kind::Snapshot, "{}").unwrap_err().to_string();
        assert_eq!(missing, "value is missing: expected any value but null");
        assert!(read(Kind::Counter, r#"{"value":"much"}"#).is_err());
    }
}
