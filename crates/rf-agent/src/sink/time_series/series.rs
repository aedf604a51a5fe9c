//! Points become rows: one a series and interval, put together as the table's kind says.
//!
//! The order in which points arrive does not matter: the time of the value that a row holds is kept beside it, so that a late
//! point does not take the place of a newer one.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params};

use super::delta;
use super::name::{Form, Kind};
use super::point::{Measured, Point};
use crate::sink::table::batch::Apply;
use crate::sink::table::call::{Call, Verb};
use crate::sink::table::failure::WriteError;
use crate::sink::table::identifier::Identifier;
use crate::sink::table::index;
use crate::sink::table::known::KnownTables;
use crate::sink::table::schema::{self, Column, Kind as Held, Table};

/// The time of the value that a row of a gauge or delta holds, microseconds since 1970.
pub(super) const AT: &str = "_rpf_at_us";
/// The time of the value that a delta without a row before it began with.
pub(super) const FIRST: &str = "_rpf_first_us";

/// The points of all tables.
#[derive(Default)]
pub(super) struct Series {
    tables: KnownTables<SeriesTable>,
}

/// A table with its statement.
pub(super) struct SeriesTable {
    pub(super) name: Identifier,
    form: Form,
    upsert: String,
}

impl Apply for Series {
    type Body = Point;

    fn begin(&mut self, conn: &Connection) -> Result<(), WriteError> {
        Ok(self.tables.begin(conn)?)
    }

    fn apply(
        &mut self,
        conn: &Connection,
        call: &Call<Self::Body>,
        now_us: i64,
    ) -> Result<(), WriteError> {
        // What would remove a point is refused when it is read.
        let Verb::Put(point) = &call.verb else { return Ok(()) };
        let table =
            self.tables.get(call.table.clone(), |name| SeriesTable::open_or_create(conn, name))?;
        table.add(conn, point, now_us)
    }

    fn finish(&mut self, conn: &Connection) -> Result<(), WriteError> {
        Ok(self.tables.finish(conn)?)
    }

    fn forget(&mut self) {
        self.tables.forget();
    }
}

impl SeriesTable {
    fn open_or_create(conn: &Connection, name: &Identifier) -> Result<Self, WriteError> {
        let form = Form::of(name.as_str()).map_err(WriteError::Refused)?;
        let wanted = columns(form.kind);
        let there = Table::load(conn, name.as_str())?;
        match &there {
            Some(there) if there.is_view => {
                return Err(WriteError::Refused(format!("`{}` is a view", name.as_str())));
            }
            Some(_) => {}
            None => {
                schema::check_new(conn, name)?;
                create(conn, name, form.kind, &wanted)?;
            }
        }
        let name = there.as_ref().map_or(name, |there| &there.name);
        // A table of the original's has no columns of ours.
        for Column { name: column, kind } in &wanted {
            if there.as_ref().is_some_and(|there| there.column(column.as_str()).is_none()) {
                let sql = format!("ALTER TABLE {name} ADD COLUMN {column} {}", kind.sql());
                conn.execute(&sql, [])?;
            }
        }
        let series = ["serie_name", "env_name", "timestamp"].map(Identifier::own);
        index::ensure_on(conn, name, &series.each_ref())?;
        conn.execute_batch(&format!(
            "CREATE VIEW IF NOT EXISTS {view} AS SELECT point.* FROM {name} AS point JOIN (SELECT serie_name AS of_serie, env_name AS of_env, max(timestamp) AS newest FROM {name} GROUP BY serie_name, env_name) ON point.serie_name = of_serie AND point.env_name = of_env AND point.timestamp = newest;",
            view = name.view_of_latest(),
        ))?;
        Ok(Self { name: name.clone(), form, upsert: upsert(name, form.kind) })
    }

    fn add(&self, conn: &Connection, point: &Point, now_us: i64) -> Result<(), WriteError> {
        let at_us = point.at_us.unwrap_or(now_us);
        let timestamp = self.form.floor(at_us.div_euclid(1_000_000));
        if self.form.kind == Kind::Delta {
            return delta::add(conn, &self.name, timestamp, at_us, point);
        }
        let value = match &point.value {
            Measured::Number(number) => Sql::Real(*number),
            Measured::State(state) => state.clone(),
        };
        let mut upsert = conn.prepare_cached(&self.upsert)?;
        let (serie, env, metadata) = (&point.serie, &point.env, &point.metadata);
        if self.form.kind == Kind::Gauge {
            upsert.execute(params![timestamp, serie, env, metadata, value, at_us])?;
        } else {
            upsert.execute(params![timestamp, serie, env, metadata, value])?;
        }
        Ok(())
    }
}

/// The columns of a kind, in their order.
fn columns(kind: Kind) -> Vec<Column> {
    let of_kind: &[(&str, Held)] = match kind {
        Kind::Gauge => &[("value", Held::Real)],
        Kind::Counter => &[("count", Held::Real), ("increment", Held::Real)],
        Kind::Rollup => &[
            ("min", Held::Real),
            ("max", Held::Real),
            ("avg", Held::Real),
            ("count", Held::Integer),
        ],
        Kind::Delta => {
            &[("previous_value", Held::Real), ("current_value", Held::Real), ("delta", Held::Real)]
        }
        Kind::Snapshot => &[("value", Held::Any), ("count", Held::Integer)],
    };
    let ours: &[(&str, Held)] = match kind {
        Kind::Gauge => &[(AT, Held::Integer)],
        Kind::Delta => &[(AT, Held::Integer), (FIRST, Held::Integer)],
        Kind::Counter | Kind::Rollup | Kind::Snapshot => &[],
    };
    let first =
        [("timestamp", Held::Integer), ("serie_name", Held::Text), ("env_name", Held::Text)];
    let all = first.iter().chain(of_kind).chain(&[("metadata", Held::Text)]).chain(ours);
    all.map(|(name, held)| Column::new(name, *held)).collect()
}

fn key(kind: Kind) -> &'static str {
    if kind == Kind::Snapshot {
        "timestamp, serie_name, env_name, value"
    } else {
        "timestamp, serie_name, env_name"
    }
}

fn create(
    conn: &Connection,
    name: &Identifier,
    kind: Kind,
    columns: &[Column],
) -> Result<(), WriteError> {
    let columns: Vec<String> = columns
        .iter()
        .map(|column| format!("{} {} {}", column.name, column.kind.sql(), not_null(column)))
        .collect();
    let sql = format!("CREATE TABLE {name} ({}, PRIMARY KEY ({}))", columns.join(", "), key(kind));
    conn.execute(&sql, [])?;
    Ok(())
}

/// Two rows with a NULL in their key would not be the same row.
fn not_null(column: &Column) -> &'static str {
    let is_key = ["timestamp", "serie_name", "env_name"].iter().any(|key| column.name.is(key));
    if is_key { "NOT NULL" } else { "" }
}

/// ?1 timestamp, ?2 series, ?3 environment, ?4 metadata, ?5 value, and for a gauge ?6 the value's time.
fn upsert(name: &Identifier, kind: Kind) -> String {
    let (columns, values, update) = match kind {
        Kind::Gauge => (
            "value, _rpf_at_us",
            "?5, ?6",
            "value = excluded.value, _rpf_at_us = excluded._rpf_at_us, metadata = coalesce(excluded.metadata, metadata) WHERE excluded._rpf_at_us >= coalesce(_rpf_at_us, 0)",
        ),
        Kind::Counter => (
            "count, increment",
            "?5, ?5",
            "count = count + excluded.count, increment = excluded.increment, metadata = coalesce(excluded.metadata, metadata)",
        ),
        Kind::Rollup => (
            "min, max, avg, count",
            "?5, ?5, ?5, 1",
            "min = min(min, excluded.min), max = max(max, excluded.max), avg = (avg * count + excluded.avg) / (count + 1), count = count + 1, metadata = coalesce(excluded.metadata, metadata)",
        ),
        Kind::Snapshot => (
            "value, count",
            "?5, 1",
            "count = count + 1, metadata = coalesce(excluded.metadata, metadata)",
        ),
        Kind::Delta => return String::new(),
    };
    format!(
        "INSERT INTO {name} (timestamp, serie_name, env_name, metadata, {columns}) VALUES (?1, ?2, ?3, ?4, {values}) ON CONFLICT ({}) DO UPDATE SET {update}",
        key(kind)
    )
}
