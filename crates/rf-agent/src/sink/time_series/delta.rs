//! Rows of a delta: how far a value moved in an interval.
//!
//! Invariant, in whatever order points arrive: `previous_value` is the `current_value` of the series' row before, or, in
//! its first row, the first value; `delta` is the difference. So the deltas of a span add up to how far the value moved.

use rusqlite::{Connection, OptionalExtension, params};

use super::point::Point;
use crate::sink::table::failure::WriteError;
use crate::sink::table::identifier::Identifier;

/// A row, as far as it is needed to move it on.
#[derive(Debug, Clone, Copy)]
struct Row {
    previous: f64,
    current: f64,
    at_us: i64,
    /// The time of `previous` where it is a value of this very row, because there is none before it.
    first_us: Option<i64>,
}

pub(super) fn add(
    conn: &Connection,
    table: &Identifier,
    timestamp: i64,
    at_us: i64,
    point: &Point,
) -> Result<(), WriteError> {
    let (serie, env, value) = (&point.serie, &point.env, point.value.number());
    let row = match read(conn, table, timestamp, point)? {
        Some(row) => row.with(value, at_us),
        None => {
            let before: Option<f64> = conn
                .prepare_cached(&format!(
                    "SELECT current_value FROM {table} WHERE serie_name = ?1 AND env_name = ?2 AND timestamp < ?3 ORDER BY timestamp DESC LIMIT 1"
                ))?
                .query_row(params![serie, env, timestamp], |row| row.get(0))
                .optional()?;
            Row {
                previous: before.unwrap_or(value),
                current: value,
                at_us,
                first_us: before.is_none().then_some(at_us),
            }
        }
    };
    conn.prepare_cached(&format!(
        "INSERT INTO {table} (timestamp, serie_name, env_name, metadata, previous_value, current_value, delta, _rpf_at_us, _rpf_first_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6 - ?5, ?7, ?8) ON CONFLICT (timestamp, serie_name, env_name) DO UPDATE SET previous_value = ?5, current_value = ?6, delta = ?6 - ?5, _rpf_at_us = ?7, _rpf_first_us = ?8, metadata = coalesce(excluded.metadata, metadata)"
    ))?
    .execute(params![timestamp, serie, env, point.metadata, row.previous, row.current, row.at_us, row.first_us])?;
    // The row after this one began where this one ends.
    conn.prepare_cached(&format!(
        "UPDATE {table} SET previous_value = ?4, delta = current_value - ?4, _rpf_first_us = NULL WHERE serie_name = ?1 AND env_name = ?2 AND timestamp = (SELECT min(timestamp) FROM {table} WHERE serie_name = ?1 AND env_name = ?2 AND timestamp > ?3)"
    ))?
    .execute(params![serie, env, timestamp, row.current])?;
    Ok(())
}

fn read(
    conn: &Connection,
    table: &Identifier,
    timestamp: i64,
    point: &Point,
) -> rusqlite::Result<Option<Row>> {
    let sql = format!(
        "SELECT previous_value, current_value, coalesce(_rpf_at_us, 0), _rpf_first_us FROM {table} WHERE timestamp = ?1 AND serie_name = ?2 AND env_name = ?3"
    );
    conn.prepare_cached(&sql)?
        .query_row(params![timestamp, point.serie, point.env], |row| {
            Ok(Row {
                previous: row.get(0)?,
                current: row.get(1)?,
                at_us: row.get(2)?,
                first_us: row.get(3)?,
            })
        })
        .optional()
}

impl Row {
    fn with(mut self, value: f64, at_us: i64) -> Self {
        if at_us >= self.at_us {
            self.current = value;
            self.at_us = at_us;
        }
        if self.first_us.is_some_and(|first| at_us < first) {
            self.previous = value;
            self.first_us = Some(at_us);
        }
        self
    }
}
