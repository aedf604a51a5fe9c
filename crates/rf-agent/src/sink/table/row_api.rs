//! What tables of rows are asked besides: one row by its id, and how many there were when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use rf_core::config::Interval;
use rusqlite::types::{Value as Sql, ValueRef};

use super::answer::{self, Prepared, RowWriter};
use super::api::{self, Pairs, json_response};
use super::api_error::ApiError;
use super::format::{Encoder, Format};
use super::query::no_conditions;
use super::reader::{QueryError, Reader, Session};
use super::row_table::{ID, TIMESTAMP};
use super::schema::{Column, Kind, Table};
use super::timestamp;
use super::value::write_json;
use crate::server::refused::InPath;

/// The endpoints, for messages.
pub(crate) const PATHS: &str = "rpf-db/TABLE, query-table/TABLE, find/TABLE/ID, list, columns/TABLE, all-columns/, distinct-values/TABLE/COLUMN, time-analytics/?table=TABLE";
/// Values of `status` that are counted in one bucket.
const MAX_STATUSES: usize = 10_000;
/// Bytes of these values, as JSON: they are in memory while their bucket is counted.
const MAX_STATUS_BYTES: usize = 16 << 20;
/// What `time-analytics` may be asked.
const PARAMETERS: &str = "table, start_time, stop_time, range_time, format";
/// Length of a bucket of `time-analytics` where the request says nothing.
const DEFAULT_RANGE: Duration = Duration::from_secs(3600);

/// The endpoints of tables of rows: those of every table, `find` and `time-analytics`.
pub(crate) fn router(reader: Arc<Reader>) -> Router {
    Router::new()
        .route("/find/{table}/{id}", get(find))
        .route("/time-analytics", get(time_analytics))
        .route("/time-analytics/", get(time_analytics))
        .with_state(Arc::clone(&reader))
        .merge(api::router(reader))
}

async fn find(
    State(reader): State<Arc<Reader>>,
    InPath((table, id)): InPath<(String, String)>,
) -> Result<Response, ApiError> {
    let json = reader.run(move |session| {
        let table = session.table(&table)?;
        table.known_column(ID)?;
        let columns: Vec<String> =
            table.columns.iter().map(|column| column.name.to_string()).collect();
        let sql = format!("SELECT {} FROM {} WHERE id = ?1", columns.join(", "), table.name);
        let mut statement = session.conn.prepare(&sql)?;
        let mut rows = statement.query([&id])?;
        let Some(row) = rows.next()? else {
            let name = table.name.as_str();
            return Err(ApiError::NotFound(format!("no row with this id in table `{name}`")).into());
        };
        let values: Vec<_> =
            (0..columns.len()).map(|place| row.get_ref(place)).collect::<Result<_, _>>()?;
        let mut json = Vec::new();
        Encoder::new(Format::Json, table.columns.iter()).row(&mut json, |place| values[place]);
        Ok(json)
    });
    Ok(json_response(json.await?))
}

/// What `time-analytics` was asked.
struct Span {
    table: String,
    start: i64,
    stop: i64,
    bucket: i64,
    format: Format,
    /// Parameters that have no meaning here.
    others: Vec<String>,
}

impl Span {
    fn read(pairs: &[(String, String)]) -> Result<Self, ApiError> {
        let mut span = Self {
            table: String::new(),
            start: i64::MIN,
            stop: i64::MAX,
            bucket: 0,
            format: Format::of(pairs)?,
            others: Vec::new(),
        };
        let mut range = DEFAULT_RANGE;
        for (name, text) in pairs {
            match name.as_str() {
                "table" => span.table.clone_from(text),
                "start_time" if !text.is_empty() => span.start = seconds(name, text)?,
                "stop_time" if !text.is_empty() => span.stop = seconds(name, text)?,
                "range_time" if !text.is_empty() => {
                    let parsed = match text.parse::<f64>() {
                        Ok(seconds) => Interval::from_secs_f64(seconds),
                        Err(_no_number) => text.parse::<Interval>(),
                    };
                    range = parsed.map(Duration::from).map_err(|invalid| {
                        ApiError::BadRequest(format!("range_time: {invalid}"))
                    })?;
                }
                // What is empty is not asked for; the format is known by now.
                "start_time" | "stop_time" | "range_time" | "format" => {}
                _ => span.others.push(name.clone()),
            }
        }
        if span.table.is_empty() {
            let missing = "table is missing: expected time-analytics/?table=TABLE";
            return Err(ApiError::BadRequest(missing.to_owned()));
        }
        span.bucket = i64::try_from(range.as_secs()).unwrap_or(i64::MAX).max(1);
        Ok(span)
    }
}

fn seconds(name: &str, text: &str) -> Result<i64, ApiError> {
    let time = timestamp::parse(text)
        .ok_or_else(|| ApiError::BadRequest(format!("{name}: expected {}", timestamp::EXPECTED)))?;
    Ok(time.div_euclid(1_000_000))
}

async fn time_analytics(
    State(reader): State<Arc<Reader>>,
    Query(pairs): Pairs,
) -> Result<Response, ApiError> {
    let span = Span::read(&pairs)?;
    answer::rows(&reader, span.format, move |session| {
        let table = session.table(&span.table)?;
        no_conditions(&table, &span.others, PARAMETERS)?;
        table.known_column(TIMESTAMP)?;
        let status = table.column("status").map(|(_, column)| column.clone());
        let mut columns = vec![Column::new("time_bucket", Kind::Integer)];
        columns.extend(status.clone());
        columns.push(Column::new("count", Kind::Integer));
        let rows = move |session: &Session<'_>, writer: &mut RowWriter| {
            count(session, &table, status.as_ref(), &span, writer)
        };
        Ok(Prepared { columns, rows })
    })
    .await
}

/// The times from ?1 to ?2 with their status, in order.
pub(crate) fn times_of(table: &Table, status: Option<&Column>) -> String {
    let status = status.map_or_else(|| "NULL".to_owned(), |status| status.name.to_string());
    format!(
        "SELECT {TIMESTAMP}, {status} FROM {} WHERE {TIMESTAMP} >= ?1 AND {TIMESTAMP} <= ?2 ORDER BY {TIMESTAMP}",
        table.name
    )
}

/// Counts along the index on `timestamp` (and `status`), which gives the buckets one after the other: the table itself is
/// not read.
fn count(
    session: &Session<'_>,
    table: &Table,
    status: Option<&Column>,
    span: &Span,
    writer: &mut RowWriter,
) -> Result<(), QueryError> {
    let mut statement = session.conn.prepare(&times_of(table, status))?;
    let mut rows = statement.query([span.start, span.stop])?;
    let mut bucket = Bucket { start: 0, counts: BTreeMap::new(), bytes: 0 };
    let mut spelled = Vec::new();
    while let Some(row) = rows.next()? {
        let time = match row.get_ref(0)? {
            ValueRef::Integer(time) => time,
            #[expect(clippy::cast_possible_truncation, reason = "saturates, as a time should")]
            ValueRef::Real(time) => time.floor() as i64,
            _ => continue,
        };
        let start = time.div_euclid(span.bucket).saturating_mul(span.bucket);
        if start != bucket.start {
            bucket.write(status.is_some(), writer)?;
            bucket.start = start;
        }
        let value = row.get_ref(1)?;
        spelled.clear();
        write_json(&mut spelled, value, Kind::Any);
        if let Some((_, count)) = bucket.counts.get_mut(&spelled) {
            *count += 1;
        } else if bucket.counts.len() < MAX_STATUSES && bucket.bytes < MAX_STATUS_BYTES {
            bucket.bytes += spelled.len();
            bucket.counts.insert(spelled.clone(), (row.get(1)?, 1));
        } else {
            let reason = format!(
                "more than {MAX_STATUSES} values of status in a bucket, or {MAX_STATUS_BYTES} bytes of them"
            );
            return Err(ApiError::BadRequest(reason).into());
        }
    }
    bucket.write(status.is_some(), writer)
}

/// Counts of one bucket, by the status as JSON.
struct Bucket {
    start: i64,
    counts: BTreeMap<Vec<u8>, (Sql, i64)>,
    /// Of the values.
    bytes: usize,
}

impl Bucket {
    /// Writes the counts and forgets them.
    fn write(&mut self, with_status: bool, writer: &mut RowWriter) -> Result<(), QueryError> {
        self.bytes = 0;
        for (status, count) in std::mem::take(&mut self.counts).into_values() {
            let (start, status) = (ValueRef::Integer(self.start), ValueRef::from(&status));
            let count = ValueRef::Integer(count);
            if with_status {
                let row = [start, status, count];
                writer.row(|place| row[place])?;
            } else {
                let row = [start, count];
                writer.row(|place| row[place])?;
            }
        }
        Ok(())
    }
}
