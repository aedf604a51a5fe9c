//! The query API that all sinks with tables have.
//!
//! Paths and answers are the original's; what it pasted into SQL is bound here, and what it answered with `null` is `[]`.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use rusqlite::params_from_iter;
use serde_json::{Map, Value};

use super::answer::{self, Prepared, RowWriter};
use super::api_error::ApiError;
use super::format::Format;
use super::query::{RowQuery, limit, no_conditions, shown};
use super::reader::{QueryError, Reader, Session, is_of_view};
use super::schema::Table;
use super::value::write_json;
use crate::server::refused::InPath;

/// Values that `distinct-values` answers with where the request says nothing.
const DEFAULT_DISTINCT: u32 = 1_000;
/// Values that it answers with at the most.
const MAX_DISTINCT: u32 = 10_000;
/// Bytes of that answer, which is put together in memory.
const MAX_DISTINCT_BYTES: usize = 16 << 20;

/// What browsers' scripts put behind a URL so that no cache answers, with a number that says nothing.
pub(crate) const CACHE_BUSTER: &str = "_";

/// The pairs of a query string, in order.
pub(crate) type Pairs = Query<Vec<(String, String)>>;

/// The endpoints that every sink with tables has.
pub(crate) fn router(reader: Arc<Reader>) -> Router {
    Router::new()
        .route("/rpf-db/{table}", get(rows))
        .route("/query-table/{table}", get(rows))
        .route("/list", get(list))
        .route("/columns/{table}", get(columns))
        .route("/all-columns", get(all_columns))
        .route("/all-columns/", get(all_columns))
        .route("/distinct-values/{table}/{column}", get(distinct_values))
        .with_state(reader)
}

async fn rows(
    State(reader): State<Arc<Reader>>,
    InPath(table): InPath<String>,
    Query(pairs): Pairs,
) -> Result<Response, ApiError> {
    let format = Format::of(&pairs)?;
    answer::rows(&reader, format, move |session| {
        let table = session.table(&table)?;
        let (sql, values) = RowQuery::read(&pairs, &table)?.statement(session.conn, &table)?;
        let columns = shown(&table);
        let places = columns.len();
        Ok(Prepared {
            columns,
            rows: move |session: &Session<'_>, writer: &mut RowWriter| {
                let mut statement = session.conn.prepare(&sql)?;
                let mut rows = statement.query(params_from_iter(values))?;
                while let Some(row) = rows.next()? {
                    let values: Vec<_> =
                        (0..places).map(|place| row.get_ref(place)).collect::<Result<_, _>>()?;
                    writer.row(|place| values[place])?;
                }
                Ok(())
            },
        })
    })
    .await
}

async fn list(State(reader): State<Arc<Reader>>) -> Result<Json<Vec<String>>, ApiError> {
    let names = reader.run(|session| {
        let tables = session.tables()?;
        Ok(tables.iter().map(|table| table.as_str().to_owned()).collect())
    });
    Ok(Json(names.await?))
}

async fn columns(
    State(reader): State<Arc<Reader>>,
    InPath(table): InPath<String>,
) -> Result<Json<Vec<String>>, ApiError> {
    let table = reader.run(move |session| session.table(&table)).await?;
    Ok(Json(table.columns.iter().map(|column| column.name.as_str().to_owned()).collect()))
}

async fn all_columns(State(reader): State<Arc<Reader>>) -> Result<Json<Value>, ApiError> {
    let tables = reader.run(|session| {
        let mut tables = Map::new();
        for name in session.tables()? {
            let table = match session.table(name.as_str()) {
                // A person's view that does not work keeps nobody from the others.
                Err(QueryError::Database(error)) if is_of_view(&error) => continue,
                table => table?,
            };
            let columns = table.columns.iter().map(|column| column.name.as_str().into());
            tables.insert(name.as_str().to_owned(), Value::Array(columns.collect()));
        }
        Ok(tables)
    });
    Ok(Json(Value::Object(tables.await?)))
}

async fn distinct_values(
    State(reader): State<Arc<Reader>>,
    InPath((table, column)): InPath<(String, String)>,
    Query(pairs): Pairs,
) -> Result<Response, ApiError> {
    let mut most = DEFAULT_DISTINCT;
    let mut others = Vec::new();
    for (name, text) in pairs {
        match name.as_str() {
            "limit" if text.is_empty() => {}
            "limit" => most = limit(&text, MAX_DISTINCT)?,
            _ => others.push(name),
        }
    }
    let distinct = move |session: &Session<'_>| {
        let table = session.table(&table)?;
        no_conditions(&table, &others, "limit")?;
        distinct(session, &table, &column, most)
    };
    let json = reader.run(distinct).await?;
    Ok(json_response(json))
}

fn distinct(
    session: &Session<'_>,
    table: &Table,
    column: &str,
    most: u32,
) -> Result<Vec<u8>, QueryError> {
    let column = table.known_column(column)?;
    let sql = format!(
        "SELECT DISTINCT {0} FROM {1} WHERE {0} IS NOT NULL ORDER BY {0} LIMIT {most}",
        column.name, table.name
    );
    let mut statement = session.conn.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut json = vec![b'['];
    while let Some(row) = rows.next()? {
        if json.len() > 1 {
            json.push(b',');
        }
        write_json(&mut json, row.get_ref(0)?, column.kind);
        if json.len() > MAX_DISTINCT_BYTES {
            let reason = format!(
                "the values have more than {MAX_DISTINCT_BYTES} bytes: ask for fewer with limit"
            );
            return Err(ApiError::BadRequest(reason).into());
        }
    }
    json.push(b']');
    Ok(json)
}

/// JSON that is written already.
pub(crate) fn json_response(json: Vec<u8>) -> Response {
    let headers = [
        (http::header::CONTENT_TYPE, Format::Json.content_type()),
        (http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (http::header::CACHE_CONTROL, "no-store"),
    ];
    (headers, json).into_response()
}
