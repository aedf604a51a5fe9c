//! A query string becomes one SELECT with bound values.
//!
//! Invariant: what reaches SQL as text is an [`Identifier`] of the table's own schema, or a constant of this file.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension};

use super::api::CACHE_BUSTER;
use super::api_error::ApiError;
use super::contains::CONTAINS;
use super::format::Format;
use super::identifier::Identifier;
use super::row_table::NUMBER;
use super::schema::{Column, Kind, Table};
use super::value::{is_beyond, is_number, number};

/// Rows of an answer where the request says nothing, as in the original.
const DEFAULT_LIMIT: u32 = 10_000;
/// Rows of an answer at the most; more are asked for with `after`.
pub(crate) const MAX_LIMIT: u32 = 100_000;
/// Conditions of a request at the most.
const MAX_CONDITIONS: usize = 50;
/// Values of an `_in` at the most.
const MAX_VALUES: usize = 500;
/// Longest text of a `_contains`, in bytes.
const MAX_CONTAINED_BYTES: usize = 50_000;

/// What may stand behind a column's name, and the comparison that it asks for.
const SUFFIXES: [(&str, Test); 9] = [
    ("_contains", Test::Contains),
    ("_gte", Test::Compare(">=")),
    ("_lte", Test::Compare("<=")),
    ("_gt", Test::Compare(">")),
    ("_lt", Test::Compare("<")),
    ("_ne", Test::Differs),
    ("_eq", Test::Compare("=")),
    ("_in", Test::In),
    ("_null", Test::Null),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Compare(&'static str),
    Differs,
    Contains,
    In,
    Null,
}

/// A request for rows, held against the table.
#[derive(Debug)]
pub(crate) struct RowQuery {
    conditions: Vec<String>,
    values: Vec<Sql>,
    order: Identifier,
    descending: bool,
    after: Option<i64>,
    limit: u32,
    /// How the answer is written.
    pub(crate) format: Format,
}

impl RowQuery {
    /// Reads the pairs of a query string.
    ///
    /// # Errors
    /// [`ApiError`]: an unknown column, or a value that makes no sense.
    pub(crate) fn read(pairs: &[(String, String)], table: &Table) -> Result<Self, ApiError> {
        let mut query = Self {
            conditions: Vec::new(),
            values: Vec::new(),
            order: key(table),
            descending: false,
            after: None,
            limit: DEFAULT_LIMIT,
            format: Format::Json,
        };
        for (name, value) in pairs {
            match name.as_str() {
                // A field of a form that nobody has filled in.
                "order" | "limit" | "after" | "format" if value.is_empty() => {}
                "order" => query.order_by(value, table)?,
                "limit" => query.limit = limit(value, MAX_LIMIT)?,
                "after" => {
                    query.after = Some(value.parse().map_err(|_not_a_number| {
                        ApiError::BadRequest(format!(
                            "after: expected the {NUMBER} of the last row that you have"
                        ))
                    })?);
                }
                "format" => query.format = value.parse()?,
                CACHE_BUSTER if table.column(CACHE_BUSTER).is_none() => {}
                _ => query.filter(name, value, table)?,
            }
        }
        if query.after.is_some() && table.is_view {
            return Err(ApiError::BadRequest("after: a view has no row numbers".to_owned()));
        }
        Ok(query)
    }

    fn order_by(&mut self, text: &str, table: &Table) -> Result<(), ApiError> {
        let (name, direction) = text.rsplit_once(':').unwrap_or((text, "asc"));
        self.descending = match direction.to_ascii_lowercase().as_str() {
            "asc" => false,
            "desc" => true,
            _ => {
                return Err(ApiError::BadRequest(
                    "order: expected COLUMN, COLUMN:asc or COLUMN:desc".to_owned(),
                ));
            }
        };
        // Rows are answered with a number also where the table has no column of that name.
        let has_number = table.is_view || table.column(NUMBER).is_some();
        self.order = if !has_number && name.eq_ignore_ascii_case(NUMBER) {
            key(table)
        } else {
            table.known_column(name)?.name.clone()
        };
        Ok(())
    }

    fn filter(&mut self, name: &str, text: &str, table: &Table) -> Result<(), ApiError> {
        if self.conditions.len() == MAX_CONDITIONS {
            return Err(ApiError::BadRequest(format!("more than {MAX_CONDITIONS} conditions")));
        }
        let Some((column, test)) = asked(table, name) else {
            return Err(table
                .known_column(name)
                .err()
                .unwrap_or_else(|| ApiError::BadRequest("a condition cannot be read".to_owned())));
        };
        if matches!(test, Test::Compare(sign) if sign != "=") {
            if text.is_empty() && column.kind != Kind::Text {
                // A field of a form that nobody has filled in.
                return Ok(());
            }
            check_comparable(name, column, text)?;
        }
        let condition = self.condition(column, test, text)?;
        // To SQLite any text, of which the empty one is the least, is greater than any number.
        let name = &column.name;
        let is_number = is_any_number(column, text);
        self.conditions.push(match (test, column.kind) {
            (Test::Compare(">" | ">="), Kind::Integer | Kind::Real | Kind::Boolean) => {
                format!("{condition} AND {name} < ''")
            }
            (Test::Compare(">" | ">="), _) if is_number => format!("{condition} AND {name} < ''"),
            (Test::Compare("<" | "<="), Kind::Any) if !is_number => {
                format!("{condition} AND {name} >= ''")
            }
            _ => condition,
        });
        Ok(())
    }

    fn condition(&mut self, column: &Column, test: Test, text: &str) -> Result<String, ApiError> {
        let name = &column.name;
        Ok(match test {
            Test::Compare("=") => format!("{name} IN ({})", self.bind_equal(column, text)),
            Test::Differs => {
                format!("{name} NOT IN ({}) OR {name} IS NULL", self.bind_equal(column, text))
            }
            Test::Compare(operator) => format!("{name} {operator} {}", self.bind(column, text)),
            Test::Contains => {
                if text.len() > MAX_CONTAINED_BYTES {
                    let name = name.as_str();
                    return Err(ApiError::BadRequest(format!(
                        "{name}_contains: expected at most {MAX_CONTAINED_BYTES} bytes"
                    )));
                }
                let text = self.bind_value(Sql::Text(text.to_owned()));
                // Numbers are looked through as they are written.
                format!("{CONTAINS}(CAST({name} AS TEXT), {text})")
            }
            Test::In => {
                let values: Vec<&str> = text.split(',').collect();
                if values.len() > MAX_VALUES {
                    return Err(ApiError::BadRequest(format!(
                        "{}_in: more than {MAX_VALUES} values",
                        name.as_str()
                    )));
                }
                let places: Vec<String> =
                    values.into_iter().map(|value| self.bind_equal(column, value)).collect();
                format!("{name} IN ({})", places.join(", "))
            }
            Test::Null => match text.to_ascii_lowercase().as_str() {
                "" | "1" | "true" => format!("{name} IS NULL"),
                "0" | "false" => format!("{name} IS NOT NULL"),
                _ => {
                    let name = name.as_str();
                    return Err(ApiError::BadRequest(format!(
                        "{name}_null: expected true or false"
                    )));
                }
            },
        })
    }

    /// Binds a text, and names its place. SQLite makes a number of it where the column holds numbers, but not where it was
    /// declared as nothing, as those of a snapshot's values and what a view computes.
    fn bind(&mut self, column: &Column, text: &str) -> String {
        let value = match (column.kind, text) {
            (Kind::Boolean, "true") => Sql::Integer(1),
            (Kind::Boolean, "false") => Sql::Integer(0),
            _ if is_any_number(column, text) => number(text),
            _ => Sql::Text(text.to_owned()),
        };
        self.bind_value(value)
    }

    /// As [`Self::bind`], for what is to be equal: all that the text may stand for.
    fn bind_equal(&mut self, column: &Column, text: &str) -> String {
        let mut places = vec![self.bind(column, text)];
        if is_any_number(column, text) {
            places.push(self.bind_value(Sql::Text(text.to_owned())));
        }
        if is_beyond(text) && column.kind != Kind::Text {
            places.push(self.bind_value(Sql::Blob(text.into())));
        }
        places.join(", ")
    }

    fn bind_value(&mut self, value: Sql) -> String {
        self.values.push(value);
        format!("?{}", self.values.len())
    }

    /// The statement and its values. Rows behind `after` are found by the value of the row with that number, so that a
    /// page costs the same however far it lies; ties are told apart by the number.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] when the row of `after` is gone, and the order needs it.
    pub(crate) fn statement(
        mut self,
        conn: &Connection,
        table: &Table,
    ) -> Result<(String, Vec<Sql>), super::reader::QueryError> {
        let key = key(table);
        if let Some(after) = self.after {
            let condition = if self.order == key {
                let sign = if self.descending { "<" } else { ">" };
                format!("{key} {sign} {}", self.bind_value(Sql::Integer(after)))
            } else {
                let sql = format!("SELECT {} FROM {} WHERE {key} = ?1", self.order, table.name);
                let at: Option<Sql> =
                    conn.prepare(&sql)?.query_row([after], |row| row.get(0)).optional()?;
                let Some(at) = at else {
                    return Err(ApiError::BadRequest(
                        "after: that row is gone, or was written again: begin again without after"
                            .to_owned(),
                    )
                    .into());
                };
                // Asked only where it matters, since it makes of one stretch of an index two, which must be sorted.
                let has_null = self.descending && self.has_null(conn, table)?;
                self.behind(at, after, &key, has_null)
            };
            self.conditions.push(condition);
        }
        let is_number = |column: &Column| column.name.is(NUMBER);
        let columns: Vec<String> = shown(table)
            .iter()
            .map(|column| {
                if is_number(column) {
                    format!("{key} AS {}", column.name)
                } else {
                    column.name.to_string()
                }
            })
            .collect();
        let filter = if self.conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE ({})", self.conditions.join(") AND ("))
        };
        let direction = if self.descending { "DESC" } else { "ASC" };
        let tie = if self.order == key || table.is_view {
            String::new()
        } else {
            format!(", {key} {direction}")
        };
        let sql = format!(
            "SELECT {} FROM {}{filter} ORDER BY {} {direction}{tie} LIMIT {}",
            columns.join(", "),
            table.name,
            self.order,
            self.limit
        );
        Ok((sql, self.values))
    }

    /// Whether some row has no value in the column that rows are ordered by.
    fn has_null(&self, conn: &Connection, table: &Table) -> rusqlite::Result<bool> {
        let sql =
            format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {} IS NULL)", table.name, self.order);
        conn.query_row(&sql, [], |row| row.get(0))
    }

    /// Rows that come after the one with this value and number: NULL is the least of all values. The condition begins with
    /// a stretch of the column's index, which is read in the order that is wanted, and only as far as the page goes.
    fn behind(&mut self, at: Sql, number: i64, key: &Identifier, has_null: bool) -> String {
        let column = self.order.clone();
        let is_null = at == Sql::Null;
        let number = self.bind_value(Sql::Integer(number));
        if is_null {
            return if self.descending {
                format!("{column} IS NULL AND {key} < {number}")
            } else {
                format!("{column} IS NOT NULL OR {key} > {number}")
            };
        }
        let at = self.bind_value(at);
        let sign = if self.descending { "<" } else { ">" };
        let stretch =
            format!("{column} {sign}= {at} AND ({column} {sign} {at} OR {key} {sign} {number})");
        if has_null { format!("({stretch}) OR {column} IS NULL") } else { stretch }
    }
}

/// The column that a parameter is a condition on, and what is asked of it. A column may be called as another one with a
/// suffix: the whole name wins.
fn asked<'a>(table: &'a Table, name: &str) -> Option<(&'a Column, Test)> {
    let whole = table.column(name).map(|(_, column)| (column, Test::Compare("=")));
    let with_suffix = || {
        SUFFIXES.iter().find_map(|(suffix, test)| {
            let (_, column) = table.column(name.strip_suffix(suffix)?)?;
            Some((column, *test))
        })
    };
    whole.or_else(with_suffix)
}

/// Refuses a condition on `table` where none is taken: the answer would be of all rows. Other parameters that nobody knows
/// are passed over, as the original does.
///
/// # Errors
/// [`ApiError::BadRequest`] that names the `known` parameters.
pub(crate) fn no_conditions<'a>(
    table: &Table,
    names: impl IntoIterator<Item = &'a String>,
    known: &str,
) -> Result<(), ApiError> {
    match names.into_iter().find(|name| asked(table, name).is_some()) {
        Some(name) => Err(ApiError::no_parameter(name, known)),
        None => Ok(()),
    }
}

/// Whether a number is looked for in a column that was declared as nothing: there SQLite makes none of a text.
fn is_any_number(column: &Column, text: &str) -> bool {
    column.kind == Kind::Any && is_number(text)
}

/// More and less are asked of numbers where the column holds some. To be equal is asked of any text: a text that is no number
/// is stored there as it is.
fn check_comparable(name: &str, column: &Column, text: &str) -> Result<(), ApiError> {
    let expected = match column.kind {
        Kind::Integer | Kind::Real => "a number",
        Kind::Boolean if matches!(text, "true" | "false") => return Ok(()),
        Kind::Boolean => "true, false or a number",
        Kind::Text | Kind::Any => return Ok(()),
    };
    if is_number(text) {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!("{name}: expected {expected}")))
}

/// What tells rows apart and orders them where nothing else does: the running number, else SQLite's own; of a view, which
/// has neither, the first column.
fn key(table: &Table) -> Identifier {
    match (table.column(NUMBER), table.columns.first()) {
        (Some((_, number)), _) => number.name.clone(),
        (None, Some(first)) if table.is_view => first.name.clone(),
        (None, _) => Identifier::own(table.row_id().unwrap_or("rowid")),
    }
}

/// What rows are answered with: the table's columns, behind SQLite's number where there is no other for `after`.
pub(crate) fn shown(table: &Table) -> Vec<Column> {
    let has_number = table.is_view || table.column(NUMBER).is_some();
    let number = (!has_number).then(|| Column::new(NUMBER, Kind::Integer));
    number.into_iter().chain(table.columns.iter().cloned()).collect()
}

/// A `limit`: at least 1; past `most` it is `most`.
///
/// # Errors
/// [`ApiError::BadRequest`] for what is no number.
pub(crate) fn limit(text: &str, most: u32) -> Result<u32, ApiError> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(limit) if limit > 0 => Ok(u32::try_from(limit).unwrap_or(most).min(most)),
        // It has more digits than are read.
        Err(_) if is_number => Ok(most),
        _ => Err(ApiError::BadRequest("limit: expected a number from 1 up".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_at_most_what_there_may_be() {
        for (text, rows) in
            [("1", 1), ("100000", 100_000), ("100001", 100_000), ("9999999999999", 100_000)]
        {
            assert_eq!(limit(text, MAX_LIMIT), Ok(rows), "{text}");
        }
        assert_eq!(limit(&"9".repeat(30), MAX_LIMIT), Ok(MAX_LIMIT));
        for text in ["0", "-1", "", "1.5", "all"] {
            assert!(limit(text, MAX_LIMIT).is_err(), "{text}");
        }
    }
}
