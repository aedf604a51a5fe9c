//! Queries: on connections that cannot write, a few at a time, each with an end: its time is over, or nobody waits for it
//! any more.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rf_queue::{FileNumber, file_number};
use rusqlite::{Connection, ErrorCode};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::api_error::ApiError;
use super::identifier::Identifier;
use super::schema::{self, Column, Table};
use super::{connect, contains};

/// Queries of one database at a time; more wait for [`WAIT`], then are told to come back.
const QUERIES: usize = 4;
/// How long a query waits for its place.
const WAIT: Duration = Duration::from_secs(5);
/// A query may take so long, its reader's slowness included: an open query holds the write-ahead log.
pub(crate) const MAX_QUERY_SECONDS: u64 = 30;
/// Steps of SQLite's machine between two looks at the clock: some microseconds, unless single values are very large.
const STEPS: i32 = 1_000;

/// Runs queries on a database.
pub(crate) struct Reader {
    path: PathBuf,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    max_time: Duration,
}

/// A connection that waits for the next query.
struct Idle {
    conn: Connection,
    /// Its file, which another one may replace: a backup in the place of a damaged one.
    file: Option<FileNumber>,
}

impl Reader {
    /// Queries on the database at this path, which must exist once the first one comes.
    pub(crate) fn new(path: PathBuf) -> Arc<Self> {
        Self::with_time(path, Duration::from_secs(MAX_QUERY_SECONDS))
    }

    /// As [`Self::new`], with another end for queries.
    pub(crate) fn with_time(path: PathBuf, max_time: Duration) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(QUERIES));
        Arc::new(Self { path, places, idle: Mutex::default(), max_time })
    }

    /// Runs `query` on a blocking thread to its end.
    ///
    /// # Errors
    /// What the query says; [`ApiError::Busy`] when no place is free for too long.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Session<'_>) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.begin(query).await?.end().await
    }

    /// Begins `query` on a blocking thread.
    ///
    /// # Errors
    /// [`ApiError::Busy`] when no place is free for too long.
    pub(crate) async fn begin<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Session<'_>) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<Running<T>, ApiError> {
        let place = timeout(WAIT, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(ApiError::Busy) };
        let reader = Arc::clone(self);
        let unwanted = CancellationToken::new();
        let wanted = unwanted.clone().drop_guard();
        let query = tokio::task::spawn_blocking(move || {
            let result = reader.session(unwanted, query);
            drop(place);
            result
        });
        Ok(Running { query, wanted })
    }

    fn session<T>(
        &self,
        unwanted: CancellationToken,
        query: impl FnOnce(&Session<'_>) -> Result<T, QueryError>,
    ) -> Result<T, ApiError> {
        let unavailable =
            |error: rusqlite::Error| ApiError::Unavailable { cause: error.to_string() };
        let file = file_number(&self.path);
        let idle = self.idle.lock().pop();
        let mut conn = match idle.filter(|idle| idle.file == file) {
            Some(Idle { conn, .. }) => conn,
            None => connect::reader(&self.path).map_err(unavailable)?,
        };
        let deadline = Instant::now() + self.max_time;
        let end = End { deadline, unwanted };
        contains::register(&conn, end.clone()).map_err(unavailable)?;
        conn.progress_handler(STEPS, Some(move || end.is_reached())).map_err(unavailable)?;
        let done = query(&Session { conn: &conn, deadline });
        if !matches!(done, Err(QueryError::Database(_))) {
            let idle = Idle { conn, file };
            self.idle.lock().push(idle);
        }
        done.map_err(|error| match error {
            QueryError::Api(error) => error,
            QueryError::Database(error)
                if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) =>
            {
                ApiError::TooSlow(self.max_time.as_secs())
            }
            QueryError::Database(error) if is_of_view(&error) => not_allowed(&error),
            QueryError::Database(error) => unavailable(error),
        })
    }
}

/// Whether a person's view asks for what queries may not use, or for what is not there: no other try helps.
pub(super) fn is_of_view(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::AuthorizationForStatementDenied | ErrorCode::Unknown)
    )
}

fn not_allowed(error: &rusqlite::Error) -> ApiError {
    ApiError::BadRequest(format!("this view, or table, cannot be queried: {error}"))
}

/// When a query has to end.
#[derive(Clone)]
pub(super) struct End {
    deadline: Instant,
    /// Cancelled when nobody waits for the query any more.
    unwanted: CancellationToken,
}

impl End {
    /// Whether the query has to end now.
    pub(super) fn is_reached(&self) -> bool {
        self.unwanted.is_cancelled() || Instant::now() > self.deadline
    }
}

/// A query under way. When this is dropped, as when the client has left, the query ends at once and makes room for
/// another.
pub(crate) struct Running<T> {
    query: JoinHandle<Result<T, ApiError>>,
    wanted: DropGuard,
}

impl<T> Running<T> {
    /// Waits for its end.
    ///
    /// # Errors
    /// What the query says.
    pub(crate) async fn end(self) -> Result<T, ApiError> {
        let Self { query, wanted: _until_the_end } = self;
        query.await.map_err(|error| ApiError::Unavailable { cause: error.to_string() })?
    }
}

/// Why a query gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    /// The request is at fault.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The database is.
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
}

/// One query's connection.
pub(crate) struct Session<'a> {
    /// It reads, and nothing else.
    pub(crate) conn: &'a Connection,
    /// When the query must have ended.
    pub(crate) deadline: Instant,
}

impl Session<'_> {
    /// The table of that name.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], naming the known ones.
    pub(crate) fn table(&self, name: &str) -> Result<Table, QueryError> {
        self.table_among(name, |_any| true)
    }

    /// As [`Self::table`], with the known ones that are wanted.
    pub(crate) fn table_among(
        &self,
        name: &str,
        is_wanted: impl Fn(&Identifier) -> bool,
    ) -> Result<Table, QueryError> {
        if let Some(table) = Table::load(self.conn, name)? {
            return Ok(table);
        }
        let mut known = self.tables()?;
        known.retain(is_wanted);
        Err(ApiError::no_table(name, &known).into())
    }

    /// Names of the tables.
    pub(crate) fn tables(&self) -> Result<Vec<Identifier>, QueryError> {
        Ok(schema::tables(self.conn)?)
    }
}

impl Table {
    /// The column of that name.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], naming the known ones.
    pub(crate) fn known_column(&self, name: &str) -> Result<&Column, ApiError> {
        let names = || self.columns.iter().map(|column| &column.name);
        self.column(name)
            .map(|(_, column)| column)
            .ok_or_else(|| ApiError::no_column(name, names()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_replaced_is_asked_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite3");
        let make = |path: &std::path::Path, table: &str| {
            let conn = Connection::open(path).unwrap();
            conn.execute_batch(&format!("CREATE TABLE {table} (a)")).unwrap();
        };
        make(&path, "damaged");
        let backup = folder.path().join("backup.sqlite3");
        make(&backup, "whole");
        let reader = Reader::new(path.clone());
        let first = async || reader.run(|session| Ok(session.tables()?.remove(0))).await.unwrap();
        assert_eq!(first().await, Identifier::own("damaged"));
        std::fs::rename(&backup, &path).unwrap();
        assert_eq!(first().await, Identifier::own("whole"));
    }
}
