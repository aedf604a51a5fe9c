//! What a time series is asked besides its rows: which series there are, and their values over time.

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

/// Series of a table that are listed and charted; more are left out.
pub(super) const MAX_SERIES: usize = 10_000;

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
        let table = session.table(&table)?;
        form(&table)?;
        let columns = vec![
            Column::new("serie_name", Held::Text),
            Column::new("env_name", Held::Text),
            Column::new("first", Held::Integer),
            Column::new("last", Held::Integer),
        ];
        let rows = move |session: &Session<'_>, writer: &mut RowWriter| {
            let mut ends = session.conn.prepare(&format!(
                "SELECT min(timestamp), max(timestamp) FROM {} WHERE serie_name = ?1 AND env_name = ?2",
                table.name
            ))?;
            for serie in list(session.conn, &table.name)? {
                let (first, last): (Sql, Sql) = ends
                    .query_row([&serie.name, &serie.env], |row| Ok((row.get(0)?, row.get(1)?)))?;
                let (name, env) = (serie.name.as_bytes(), serie.env.as_bytes());
                let row = [ValueRef::Text(name), ValueRef::Text(env), (&first).into(), (&last).into()];
                writer.row(|place| row[place])?;
            }
            Ok(())
        };
        Ok(Prepared { columns, rows })
    })
    .await
}

/// The series of a table in their order, each found by one step in the index on them.
pub(super) fn list(conn: &Connection, table: &Identifier) -> rusqlite::Result<Vec<Serie>> {
    let mut next = conn.prepare(&format!(
        "SELECT serie_name, env_name FROM {table} WHERE (serie_name, env_name) > (?1, ?2) ORDER BY serie_name, env_name LIMIT 1"
    ))?;
    let read = |row: &rusqlite::Row<'_>| Ok(Serie { name: row.get(0)?, env: row.get(1)? });
    let first = format!(
        "SELECT serie_name, env_name FROM {table} WHERE serie_name IS NOT NULL AND env_name IS NOT NULL ORDER BY serie_name, env_name LIMIT 1"
    );
    let mut found = conn.query_row(&first, [], read).optional()?;
    let mut series = Vec::new();
    while let Some(serie) = found.take().filter(|_| series.len() < MAX_SERIES) {
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
        let table = session.table(&table)?;
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

impl Serie {
    /// Whether the request asks for this one.
    pub(super) fn is_asked(&self, names: &[String], envs: &[String]) -> bool {
        (names.is_empty() || names.contains(&self.name))
            && (envs.is_empty() || envs.contains(&self.env))
    }
}

/// An error that only a broken table gives.
pub(super) fn columns_missing(table: &Table) -> QueryError {
    ApiError::BadRequest(format!("`{}` lacks columns of a time series", table.name.as_str())).into()
}
