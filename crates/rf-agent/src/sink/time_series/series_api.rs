//! What a time series is asked besides its rows: which series there are, and their values over time.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Connection, OptionalExtension, params};

use super::name::Form;
use super::range::{self, RangeQuery};
use crate::server::refused::{InPath, method_not_allowed};
use crate::sink::table::answer::{self, Prepared, RowWriter};
use crate::sink::table::api::{self, CACHE_BUSTER, Pairs};
use crate::sink::table::api_error::ApiError;
use crate::sink::table::format::Format;
use crate::sink::table::identifier::Identifier;
use crate::sink::table::reader::{QueryError, Reader, Session};
use crate::sink::table::schema::{Column, Kind as Held, Table};

/// Series of a table that are listed; more are left out. A range of more is refused.
const MAX_SERIES: usize = 10_000;

/// The endpoints of a time series.
pub(super) fn router(reader: Arc<Reader>) -> Router {
    Router::new()
        .route("/series/{table}", get(series))
        .route("/range/{table}", get(range))
        .with_state(Arc::clone(&reader))
        .merge(api::router(reader))
        .fallback(no_such_path)
        .method_not_allowed_fallback(method_not_allowed)
}

async fn no_such_path() -> ApiError {
    ApiError::NotFound(
        "no such path; there are query-table/TABLE, list, columns/TABLE, all-columns/, distinct-values/TABLE/COLUMN, series/TABLE and range/TABLE"
            .to_owned(),
    )
}

/// One series of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Serie {
    pub(super) name: String,
    pub(super) env: String,
}

fn is_of_series(table: &Identifier) -> bool {
    Form::of(table.as_str()).is_ok()
}

/// The form of a table, which must be one of a time series.
fn form(table: &Table) -> Result<Form, ApiError> {
    Form::of(table.name.as_str()).map_err(ApiError::BadRequest)
}

async fn series(
    State(reader): State<Arc<Reader>>,
    InPath(table): InPath<String>,
    Query(pairs): Pairs,
) -> Result<Response, ApiError> {
    let unknown = pairs.iter().find(|(name, _)| !["format", CACHE_BUSTER].contains(&name.as_str()));
    if let Some((name, _)) = unknown {
        return Err(ApiError::no_parameter(name, "format"));
    }
    answer::rows(&reader, Format::of(&pairs)?, move |session| {
        let table = session.table_among(&table, is_of_series)?;
        form(&table)?;
        let columns = vec![
            Column::new("serie_name", Held::Text),
            Column::new("env_name", Held::Text),
            Column::new("first", Held::Integer),
            Column::new("last", Held::Integer),
        ];
        let rows = move |session: &Session<'_>, writer: &mut RowWriter| {
            let of_serie = format!("FROM {} WHERE serie_name = ?1 AND env_name = ?2", table.name);
            // Each by itself is a step in the index; both at once would read all of the series.
            let mut ends = session.conn.prepare(&format!(
                "SELECT (SELECT min(timestamp) {of_serie}), (SELECT max(timestamp) {of_serie})"
            ))?;
            for serie in list(session.conn, &table.name, MAX_SERIES)? {
                let (first, last): (Sql, Sql) = ends
                    .query_row([&serie.name, &serie.env], |row| Ok((row.get(0)?, row.get(1)?)))?;
                let (name, env) = (serie.name.as_bytes(), serie.env.as_bytes());
                let row =
                    [ValueRef::Text(name), ValueRef::Text(env), (&first).into(), (&last).into()];
                writer.row(|place| row[place])?;
            }
            Ok(())
        };
        Ok(Prepared { columns, rows })
    })
    .await
}

/// The series that a range is asked of, in their order.
///
/// # Errors
/// [`ApiError::BadRequest`] where they are too many.
pub(super) fn asked(
    conn: &Connection,
    table: &Identifier,
    names: &[String],
    envs: &[String],
) -> Result<Vec<Serie>, QueryError> {
    let most = MAX_SERIES + 1;
    let mut series = match names {
        [] => list(conn, table, most)?,
        names => named(conn, table, names, most)?,
    };
    if series.len() == most {
        let reason =
            format!("more than {MAX_SERIES} series: name those that you want, as in serie=NAME");
        return Err(ApiError::BadRequest(reason).into());
    }
    series.retain(|serie| envs.is_empty() || envs.contains(&serie.env));
    Ok(series)
}

/// The series of these names in their order, likewise found by steps in the index.
fn named(
    conn: &Connection,
    table: &Identifier,
    names: &[String],
    most: usize,
) -> rusqlite::Result<Vec<Serie>> {
    let mut first = conn.prepare(&format!(
        "SELECT env_name FROM {table} WHERE serie_name = ?1 AND env_name IS NOT NULL ORDER BY env_name LIMIT 1"
    ))?;
    let mut next = conn.prepare(&format!(
        "SELECT env_name FROM {table} WHERE serie_name = ?1 AND env_name > ?2 ORDER BY env_name LIMIT 1"
    ))?;
    let names: BTreeSet<&String> = names.iter().collect();
    let mut series = Vec::new();
    for name in names {
        let mut found: Option<String> = first.query_row([name], |row| row.get(0)).optional()?;
        while let Some(env) = found.take().filter(|_| series.len() < most) {
            found = next.query_row([name, &env], |row| row.get(0)).optional()?;
            series.push(Serie { name: name.clone(), env });
        }
    }
    Ok(series)
}

/// So many of the series of a table in their order, each found by one step in the index on them.
fn list(conn: &Connection, table: &Identifier, most: usize) -> rusqlite::Result<Vec<Serie>> {
    let mut next = conn.prepare(&format!(
        "SELECT serie_name, env_name FROM {table} WHERE (serie_name, env_name) > (?1, ?2) ORDER BY serie_name, env_name LIMIT 1"
    ))?;
    let read = |row: &rusqlite::Row<'_>| Ok(Serie { name: row.get(0)?, env: row.get(1)? });
    let first = format!(
        "SELECT serie_name, env_name FROM {table} WHERE serie_name IS NOT NULL AND env_name IS NOT NULL ORDER BY serie_name, env_name LIMIT 1"
    );
    let mut found = conn.query_row(&first, [], read).optional()?;
    let mut series = Vec::new();
    while let Some(serie) = found.take().filter(|_| series.len() < most) {
        found = next.query_row(params![serie.name, serie.env], read).optional()?;
        series.push(serie);
    }
    Ok(series)
}

async fn range(
    State(reader): State<Arc<Reader>>,
    InPath(table): InPath<String>,
    Query(pairs): Pairs,
) -> Result<Response, ApiError> {
    answer::rows(&reader, Format::of(&pairs)?, move |session| {
        let table = session.table_among(&table, is_of_series)?;
        let form = form(&table)?;
        let query = RangeQuery::read(&pairs, form, &table.name, session.conn)?;
        let columns = query.columns();
        let rows = move |session: &Session<'_>, writer: &mut RowWriter| {
            range::write(session, &table, &query, writer)
        };
        Ok(Prepared { columns, rows })
    })
    .await
}

/// An error that only a broken table gives.
pub(super) fn columns_missing(table: &Table) -> QueryError {
    ApiError::BadRequest(format!("`{}` lacks columns of a time series", table.name.as_str())).into()
}
