//! Values of series over time, put together in steps: what a chart draws.

use std::collections::BTreeMap;

use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Connection, OptionalExtension, Statement, params};

use super::bucket::{Aggregate, Bucket, Sample};
use super::name::{Form, Kind, seconds};
use super::series_api;
use crate::sink::table::answer::RowWriter;
use crate::sink::table::api::CACHE_BUSTER;
use crate::sink::table::api_error::ApiError;
use crate::sink::table::identifier::Identifier;
use crate::sink::table::reader::{QueryError, Session};
use crate::sink::table::schema::{Column, Kind as Held, Table};
use crate::sink::table::timestamp;
use crate::sink::table::value::write_json;

/// Points of a series where the request says neither `step` nor `points`: as many as a chart is wide.
const DEFAULT_POINTS: i64 = 500;
/// Points of a series at the most; a longer span needs a longer step.
const MAX_POINTS: i64 = 100_000;
/// Values of a snapshot that are told apart in one step.
const MAX_STATES: usize = 1_000;
/// Rows of a step that a percentile is made of: they are in memory until the step is written.
const MAX_VALUES: usize = 1_000_000;

/// What may be asked.
const PARAMETERS: &str = "serie, env, start, stop, step, points, aggregate, format";

/// What was asked.
pub(super) struct RangeQuery {
    form: Form,
    series: Vec<String>,
    envs: Vec<String>,
    start: i64,
    stop: i64,
    steps: Steps,
    aggregates: Vec<Aggregate>,
}

/// Stretches of time that follow one another: `length` seconds each, one of them from `origin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Steps {
    length: i64,
    origin: i64,
}

impl Steps {
    /// Of this length at the least, made of whole intervals; they begin at multiples of it, whatever the span is: a span that
    /// moves on has the same steps.
    fn of(length: i64, form: Form) -> Self {
        let intervals = length.max(1).saturating_sub(1).div_euclid(form.interval).saturating_add(1);
        Self { length: intervals.saturating_mul(form.interval), origin: 0 }
    }

    /// As short as so many of them allow for the times from `start` to `stop`.
    fn at_most(points: i64, start: i64, stop: i64, form: Form) -> Self {
        let span = stop.saturating_sub(start).max(0);
        let as_many = Self::of((span / points).saturating_add(1), form);
        if as_many.between(start, stop) <= points {
            return as_many;
        }
        // The first one begins before the span, so that there is one more than fit into it.
        match points - 1 {
            0 => {
                let origin = form.floor(start);
                let length = stop.saturating_sub(origin).saturating_add(1);
                Self { origin, ..Self::of(length, form) }
            }
            others => Self::of((span / others).saturating_add(1), form),
        }
    }

    /// The beginning of the one that a time lies in.
    fn start_of(self, time: i64) -> i64 {
        let number = time.saturating_sub(self.origin).div_euclid(self.length);
        number.saturating_mul(self.length).saturating_add(self.origin)
    }

    /// How many have one of these times in them.
    fn between(self, start: i64, stop: i64) -> i64 {
        let between = self.start_of(stop).saturating_sub(self.start_of(start)) / self.length;
        between.saturating_add(1)
    }
}

impl RangeQuery {
    /// Reads the pairs of a query string; a span that is not given is that of the table.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`].
    pub(super) fn read(
        pairs: &[(String, String)],
        form: Form,
        table: &Identifier,
        conn: &Connection,
    ) -> Result<Self, QueryError> {
        let mut query = Self {
            form,
            series: Vec::new(),
            envs: Vec::new(),
            start: 0,
            stop: 0,
            steps: Steps::of(1, form),
            aggregates: Vec::new(),
        };
        let (mut start, mut stop, mut step, mut points) = (None, None, None, DEFAULT_POINTS);
        for (name, text) in pairs {
            match name.as_str() {
                // A field of a form that nobody has filled in.
                "start" | "stop" | "step" | "points" | "aggregate" if text.is_empty() => {}
                "serie" | "serie_name" => query.series.push(text.clone()),
                "env" | "env_name" => query.envs.push(text.clone()),
                "start" => start = Some(time(name, text)?),
                "stop" => stop = Some(time(name, text)?),
                "step" => {
                    step = Some(seconds(text).ok_or_else(|| {
                        bad("step: expected a length of time such as 60s, 5m or 1h")
                    })?);
                }
                "points" => points = self::points(text)?,
                "aggregate" => {
                    for name in text.split(',') {
                        let aggregate = Aggregate::named(name.trim())?;
                        // Twice, it would be two columns of one name.
                        if !query.aggregates.contains(&aggregate) {
                            query.aggregates.push(aggregate);
                        }
                    }
                }
                "format" | CACHE_BUSTER => {}
                other => return Err(ApiError::no_parameter(other, PARAMETERS).into()),
            }
        }
        if query.aggregates.is_empty() {
            query.aggregates.push(Aggregate::default_of(form.kind));
        }
        // Each by itself is a step in an index; both at once would read all of it.
        let ends = format!(
            "SELECT (SELECT min(timestamp) FROM {table}), (SELECT max(timestamp) FROM {table})"
        );
        let (first, last): (Option<i64>, Option<i64>) =
            conn.query_row(&ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        query.start = start.or(first).unwrap_or(0);
        query.stop = stop.or(last).unwrap_or(0);
        query.steps = match step {
            Some(length) => Steps::of(length, form),
            None => Steps::at_most(points, query.start, query.stop, form),
        };
        if query.start <= query.stop && query.steps.between(query.start, query.stop) > MAX_POINTS {
            return Err(
                bad("step is too short for this span: a series has at most 100000 points").into()
            );
        }
        Ok(query)
    }

    /// The columns of the answer: one aggregate is called `value`, several by their names.
    pub(super) fn columns(&self) -> Vec<Column> {
        let mut columns = vec![
            Column::new("timestamp", Held::Integer),
            Column::new("serie_name", Held::Text),
            Column::new("env_name", Held::Text),
        ];
        if self.form.kind == Kind::Snapshot {
            columns.push(Column::new("state", Held::Any));
        }
        match self.aggregates.as_slice() {
            [_one] => columns.push(Column::new("value", Held::Real)),
            several => columns.extend(several.iter().map(|a| Column::new(a.name(), Held::Real))),
        }
        columns
    }
}

fn bad(text: &str) -> ApiError {
    ApiError::BadRequest(text.to_owned())
}

fn time(name: &str, text: &str) -> Result<i64, ApiError> {
    let time = timestamp::parse(text)
        .ok_or_else(|| bad(&format!("{name}: expected {}", timestamp::EXPECTED)))?;
    Ok(time.div_euclid(1_000_000))
}

fn points(text: &str) -> Result<i64, ApiError> {
    let number = text.parse::<i64>().ok().filter(|number| (1..=MAX_POINTS).contains(number));
    number.ok_or_else(|| bad("points: expected a number from 1 to 100000"))
}

/// Writes the asked series one after the other, each along its part of the index.
pub(super) fn write(
    session: &Session<'_>,
    table: &Table,
    query: &RangeQuery,
    writer: &mut RowWriter,
) -> Result<(), QueryError> {
    if columns_of(query.form.kind).iter().any(|column| table.column(column).is_none()) {
        return Err(series_api::columns_missing(table));
    }
    let sql = format!(
        "SELECT timestamp, {} FROM {} WHERE serie_name = ?1 AND env_name = ?2 AND timestamp >= ?3 AND timestamp <= ?4 ORDER BY timestamp",
        columns_of(query.form.kind).join(", "),
        table.name
    );
    let mut statement = session.conn.prepare(&sql)?;
    let mut before = Before::of(session.conn, table, query)?;
    for serie in series_api::asked(session.conn, &table.name, &query.series, &query.envs)? {
        let last = match &mut before {
            Some(before) => before.value(&serie, query.start)?,
            None => None,
        };
        let mut rows = statement.query(params![serie.name, serie.env, query.start, query.stop])?;
        let mut step = Step { start: i64::MIN, buckets: BTreeMap::new(), values: 0, last };
        while let Some(row) = rows.next()? {
            let timestamp: i64 = row.get(0)?;
            let start = query.steps.start_of(timestamp);
            if start != step.start {
                step.write(query, &serie, writer)?;
                step.start = start;
            }
            step.add(query, row)?;
        }
        step.write(query, &serie, writer)?;
    }
    Ok(())
}

/// What is read of a row.
fn columns_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Gauge => &["value"],
        Kind::Counter => &["count"],
        Kind::Rollup => &["min", "max", "avg", "count"],
        Kind::Delta => &["delta", "current_value"],
        Kind::Snapshot => &["count", "value"],
    }
}

/// The newest value of a series before the span: what its first rate is counted from.
struct Before<'a>(Statement<'a>);

impl<'a> Before<'a> {
    /// None where it is not needed.
    fn of(
        conn: &'a Connection,
        table: &Table,
        query: &RangeQuery,
    ) -> Result<Option<Self>, QueryError> {
        if query.form.kind != Kind::Gauge || !query.aggregates.contains(&Aggregate::Rate) {
            return Ok(None);
        }
        let sql = format!(
            "SELECT value FROM {} WHERE serie_name = ?1 AND env_name = ?2 AND timestamp < ?3 ORDER BY timestamp DESC LIMIT 1",
            table.name
        );
        Ok(Some(Self(conn.prepare(&sql)?)))
    }

    fn value(&mut self, serie: &series_api::Serie, start: i64) -> Result<Option<f64>, QueryError> {
        let value = self
            .0
            .query_row(params![serie.name, serie.env, start], |row| Ok(number(row.get_ref(0)?)))
            .optional()?;
        Ok(value)
    }
}

/// The same for what SQLite takes for the same value, as the key of a snapshot's rows does: 0 and -0.0, or a whole number with
/// and without a fraction of zero.
fn spelling(state: &Sql) -> Vec<u8> {
    let mut spelled = Vec::new();
    match state {
        Sql::Real(real) => {
            #[expect(clippy::cast_possible_truncation, reason = "compared with what it was")]
            let whole = *real as i64;
            #[expect(clippy::cast_precision_loss, reason = "compared with what it was")]
            let is_whole = whole as f64 == *real && whole != i64::MAX;
            let value = if is_whole { ValueRef::Integer(whole) } else { ValueRef::Real(*real) };
            write_json(&mut spelled, value, Held::Any);
        }
        other => write_json(&mut spelled, other.into(), Held::Any),
    }
    spelled
}

fn number(value: ValueRef<'_>) -> f64 {
    match value {
        ValueRef::Integer(whole) => {
            #[expect(clippy::cast_precision_loss, reason = "charts are drawn with floats")]
            let real = whole as f64;
            real
        }
        ValueRef::Real(real) => real,
        _ => 0.0,
    }
}

/// One step of one series; a snapshot has a bucket for each of its values.
struct Step {
    start: i64,
    buckets: BTreeMap<Vec<u8>, (Sql, Bucket)>,
    /// How many of its values are kept.
    values: usize,
    /// The value before, for the rate of a gauge.
    last: Option<f64>,
}

impl Step {
    fn add(&mut self, query: &RangeQuery, row: &rusqlite::Row<'_>) -> Result<(), QueryError> {
        let number = |place: usize| row.get_ref(place).map(number);
        let (mut spelled, mut state) = (Vec::new(), Sql::Null);
        let sample = match query.form.kind {
            Kind::Gauge => {
                let value = number(1)?;
                // A value that fell was of a counter that began anew.
                let grown =
                    self.last.map_or(0.0, |last| if value < last { value } else { value - last });
                self.last = Some(value);
                Sample { grown, ..Sample::of(value) }
            }
            Kind::Counter => Sample::of(number(1)?),
            Kind::Rollup => {
                let (avg, count) = (number(3)?, number(4)?);
                Sample {
                    min: number(1)?,
                    max: number(2)?,
                    sum: avg * count,
                    count,
                    last: avg,
                    grown: count,
                }
            }
            Kind::Delta => Sample { last: number(2)?, ..Sample::of(number(1)?) },
            Kind::Snapshot => {
                state = row.get(2)?;
                spelled = spelling(&state);
                Sample::of(number(1)?)
            }
        };
        if self.buckets.len() == MAX_STATES && !self.buckets.contains_key(&spelled) {
            return Err(bad("more than 1000 values of a snapshot in a step").into());
        }
        let keeps_values = query.aggregates.contains(&Aggregate::P95);
        if keeps_values && self.values == MAX_VALUES {
            return Err(bad("p95: more than 1000000 rows in a step: ask for shorter steps").into());
        }
        self.values += usize::from(keeps_values);
        let (_, bucket) = self.buckets.entry(spelled).or_insert_with(|| (state, Bucket::default()));
        bucket.add(&sample, keeps_values);
        Ok(())
    }

    /// Writes the step and forgets it.
    fn write(
        &mut self,
        query: &RangeQuery,
        serie: &series_api::Serie,
        writer: &mut RowWriter,
    ) -> Result<(), QueryError> {
        self.values = 0;
        for (state, mut bucket) in std::mem::take(&mut self.buckets).into_values() {
            let mut row = vec![
                ValueRef::Integer(self.start),
                ValueRef::Text(serie.name.as_bytes()),
                ValueRef::Text(serie.env.as_bytes()),
            ];
            if query.form.kind == Kind::Snapshot {
                row.push(ValueRef::from(&state));
            }
            let length = query.steps.length;
            let values = query.aggregates.iter().map(|aggregate| bucket.value(*aggregate, length));
            row.extend(values.map(ValueRef::Real));
            writer.row(|place| row[place])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn what_a_percentile_keeps_in_memory_has_a_bound() {
        let form = Form { kind: Kind::Gauge, interval: 60 };
        let mut query = RangeQuery {
            form,
            series: Vec::new(),
            envs: Vec::new(),
            start: 0,
            stop: 0,
            steps: Steps::of(1, form),
            aggregates: vec![Aggregate::P95],
        };
        let conn = Connection::open_in_memory().unwrap();
        let mut statement = conn.prepare("SELECT 60, 2.5").unwrap();
        let mut rows = statement.query([]).unwrap();
        let row = rows.next().unwrap().unwrap();
        let values = MAX_VALUES - 1;
        let mut step = Step { start: 60, buckets: BTreeMap::new(), values, last: None };
        assert!(step.add(&query, row).is_ok());
        let refused = step.add(&query, row).unwrap_err().to_string();
        assert!(refused.starts_with("p95: more than 1000000 rows in a step"), "{refused}");
        query.aggregates = vec![Aggregate::Avg];
        assert!(step.add(&query, row).is_ok());
    }

    proptest! {
        #[test]
        fn a_span_has_no_more_steps_than_are_asked_for(
            start in -1_000_000_000_i64..1_000_000_000,
            span in 0_i64..100_000_000,
            points in 1_i64..2000,
            interval in 1_i64..5000,
        ) {
            let form = Form { kind: Kind::Gauge, interval };
            let steps = Steps::at_most(points, start, start + span, form);
            prop_assert!(steps.between(start, start + span) <= points, "{steps:?}");
            prop_assert_eq!(steps.length % interval, 0);
            let first = steps.start_of(start);
            prop_assert!((first..first + steps.length).contains(&start), "{steps:?}");
            // What is asked for is not far from what comes, unless the table has no more.
            prop_assert!(steps.length <= interval + 2 * (span / points + 1) + interval, "{steps:?}");
        }
    }
}
