//! How rows are written: as one JSON array, a JSON object a line, or CSV.

use std::str::FromStr;

use rusqlite::types::ValueRef;

use super::api_error::ApiError;
use super::schema::{Column, Kind};
use super::value::{write_json, write_real};

/// What `format` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// An array of objects.
    #[default]
    Json,
    /// An object a line.
    Ndjson,
    /// Comma-separated values with a head line (RFC 4180).
    Csv,
}

impl FromStr for Format {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        match text {
            "json" => Ok(Self::Json),
            "ndjson" => Ok(Self::Ndjson),
            "csv" => Ok(Self::Csv),
            _ => Err(ApiError::BadRequest("format: expected json, ndjson or csv".to_owned())),
        }
    }
}

impl Format {
    /// For `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }

    /// The format that the pairs of a query string ask for.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] for an unknown one.
    pub(crate) fn of(pairs: &[(String, String)]) -> Result<Self, ApiError> {
        let asked = pairs.iter().rev().find(|(name, text)| name == "format" && !text.is_empty());
        asked.map_or(Ok(Self::default()), |(_, text)| text.parse())
    }
}

/// Writes rows of the same columns, one after the other.
pub(crate) struct Encoder {
    format: Format,
    columns: Vec<(Vec<u8>, Kind)>,
    rows: u64,
}

impl Encoder {
    /// For rows of these columns.
    pub(crate) fn new<'a>(format: Format, columns: impl Iterator<Item = &'a Column>) -> Self {
        let columns = columns.map(|column| {
            let name = column.name.as_str();
            let mut key = Vec::new();
            match format {
                Format::Csv => write_csv(&mut key, name),
                Format::Json | Format::Ndjson => {
                    serde_json::to_writer(&mut key, name).expect("writing to memory cannot fail");
                }
            }
            (key, column.kind)
        });
        Self { format, columns: columns.collect(), rows: 0 }
    }

    /// What stands before the first row.
    pub(crate) fn begin(&self, out: &mut Vec<u8>) {
        match self.format {
            Format::Json => out.push(b'['),
            Format::Ndjson => {}
            Format::Csv => {
                separated(out, &self.columns, |out, (name, _)| out.extend_from_slice(name));
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// One row.
    pub(crate) fn row<'a>(&mut self, out: &mut Vec<u8>, value: impl Fn(usize) -> ValueRef<'a>) {
        let is_csv = self.format == Format::Csv;
        if self.format == Format::Json && self.rows > 0 {
            out.push(b',');
        }
        self.rows += 1;
        if !is_csv {
            out.push(b'{');
        }
        for (place, (key, kind)) in self.columns.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            if is_csv {
                write_csv_value(out, value(place), *kind);
            } else {
                out.extend_from_slice(key);
                out.push(b':');
                write_json(out, value(place), *kind);
            }
        }
        match self.format {
            Format::Json => out.push(b'}'),
            Format::Ndjson => out.extend_from_slice(b"}\n"),
            Format::Csv => out.extend_from_slice(b"\r\n"),
        }
    }

    /// What stands behind the last row.
    pub(crate) fn end(&self, out: &mut Vec<u8>) {
        if self.format == Format::Json {
            out.push(b']');
        }
    }
}

fn separated<T>(out: &mut Vec<u8>, items: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
}

fn write_csv_value(out: &mut Vec<u8>, value: ValueRef<'_>, kind: Kind) {
    match value {
        // What JSON has null for is an empty field, too.
        ValueRef::Null => {}
        ValueRef::Real(real) if !real.is_finite() => {}
        ValueRef::Real(real) => write_real(out, real),
        ValueRef::Integer(_) => write_json(out, value, kind),
        ValueRef::Text(text) | ValueRef::Blob(text) => {
            write_csv(out, &String::from_utf8_lossy(text));
        }
    }
}

/// What a formula may begin with: spreadsheets pass over white space, and some take the wide forms for the same signs.
const FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// A text as a CSV field. One that a spreadsheet would run as a formula gets an apostrophe in front: the text came from
/// whoever sent the event.
fn write_csv(out: &mut Vec<u8>, text: &str) {
    let is_formula = text.starts_with(FORMULA) && text.trim().parse::<f64>().is_err();
    let apostrophe = if is_formula { "'" } else { "" };
    if text.contains([',', '"', '\n', '\r']) {
        let quoted = format!("\"{apostrophe}{}\"", text.replace('"', "\"\""));
        out.extend_from_slice(quoted.as_bytes());
    } else {
        out.extend_from_slice(apostrophe.as_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(format: Format, rows: &[[ValueRef<'static>; 3]]) -> String {
        let columns = [
            Column::new("a", Kind::Text),
            Column::new("b", Kind::Real),
            Column::new("c", Kind::Boolean),
        ];
        let mut encoder = Encoder::new(format, columns.iter());
        let mut out = Vec::new();
        encoder.begin(&mut out);
        for row in rows {
            encoder.row(&mut out, |place| row[place]);
        }
        encoder.end(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_in_every_format() {
        let rows = [
            [ValueRef::Text(b"x, \"y\""), ValueRef::Real(1.0), ValueRef::Integer(1)],
            [ValueRef::Null, ValueRef::Real(-0.5), ValueRef::Null],
            [ValueRef::Null, ValueRef::Real(f64::INFINITY), ValueRef::Null],
        ];
        assert_eq!(
            encode(Format::Json, &rows),
            r#"[{"a":"x, \"y\"","b":1,"c":true},{"a":null,"b":-0.5,"c":null},{"a":null,"b":null,"c":null}]"#
        );
        assert_eq!(encode(Format::Json, &[]), "[]");
        assert_eq!(
            encode(Format::Ndjson, &rows),
            "{\"a\":\"x, \\\"y\\\"\",\"b\":1,\"c\":true}\n{\"a\":null,\"b\":-0.5,\"c\":null}\n{\"a\":null,\"b\":null,\"c\":null}\n"
        );
        assert_eq!(
            encode(Format::Csv, &rows),
            "a,b,c\r\n\"x, \"\"y\"\"\",1,true\r\n,-0.5,\r\n,,\r\n"
        );
    }

    #[test]
    fn a_spreadsheet_runs_nothing() {
        let check = |text: &'static str, field: &str| {
            let rows = [[ValueRef::Text(text.as_bytes()), ValueRef::Null, ValueRef::Null]];
            assert_eq!(encode(Format::Csv, &rows), format!("a,b,c\r\n{field},,\r\n"));
        };
        check("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0");
        check("@SUM(1,2)", "\"'@SUM(1,2)\"");
        check("\n=1+1", "\"'\n=1+1\"");
        check("＝1+1", "'＝1+1");
        check("-5.5", "-5.5");
        check("+491234", "+491234");
        check("plain", "plain");
    }
}
