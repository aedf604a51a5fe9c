//! One connection to a database.
//!
//! Promises: no statement lasts longer than its time limit, also when the server says nothing any more; a statement that
//! fails leaves the session as good as before, or says that it is lost; what comes over the wire is held within bounds.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::{Client, Column, Notification, SimpleQueryMessage, SimpleQueryRow};

use super::connection::Server;
use super::link::Link;
use super::value;

/// Dialing, TLS and the log-in together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The server ends a statement that takes too long; one that does not answer so much later is gone.
const GRACE: Duration = Duration::from_secs(5);
/// Classes of errors whose texts name tables, roles and limits, and not what is in the rows. The first two characters of a
/// SQLSTATE are its class.
const PLAIN_CLASSES: [&str; 9] = ["08", "28", "3D", "3F", "42", "53", "54", "57", "58"];

/// Why a statement has no result.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SessionError {
    /// The server refused it; the session is as good as before.
    #[error("{message} (SQLSTATE {code})")]
    Refused {
        /// What the server says.
        message: String,
        /// The SQLSTATE.
        code: String,
    },
    /// The session is of no use any more.
    #[error("{0}")]
    Lost(String),
}

impl SessionError {
    /// The text for a log: what the server says may hold what is in a row.
    pub(crate) fn for_log(&self) -> String {
        match self {
            Self::Refused { code, .. }
                if !code.get(..2).is_some_and(|class| PLAIN_CLASSES.contains(&class)) =>
            {
                format!("refused with SQLSTATE {code}; the event tells more")
            }
            other => other.to_string(),
        }
    }

    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }
}

impl From<tokio_postgres::Error> for SessionError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refused) if !is_fatal(refused) => Self::Refused {
                message: refused.message().to_owned(),
                code: refused.code().code().to_owned(),
            },
            _ => Self::Lost(told(&error)),
        }
    }
}

fn is_fatal(error: &DbError) -> bool {
    matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}

/// The innermost cause: the layers above it only say that the one below failed.
pub(super) fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    match cause.downcast_ref::<DbError>() {
        Some(refused) => format!("{} (SQLSTATE {})", refused.message(), refused.code().code()),
        None => cause.to_string(),
    }
}

/// What a statement may return.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) rows: usize,
    /// Of the rows as JSON.
    pub(crate) bytes: usize,
}

/// What a statement returned.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// In order.
    pub(crate) rows: Vec<Row>,
    /// There were more than the limits allow.
    pub(crate) truncated: bool,
}

/// One row.
#[derive(Debug)]
pub(crate) struct Row {
    /// A JSON object.
    pub(crate) json: String,
    /// The text of the column that was asked for.
    pub(crate) key: Option<String>,
}

/// One connection. Whoever has it must drive it: nothing happens on the wire but in its functions.
pub(crate) struct Session {
    client: Client,
    link: Link,
    statement_timeout: Duration,
}

impl Server {
    /// Host and port, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Logs in.
    ///
    /// # Errors
    /// [`SessionError::Lost`], naming the server.
    pub(crate) async fn connect(&self) -> Result<Session, SessionError> {
        let lost = |reason: String| {
            SessionError::Lost(format!("cannot connect to {}: {reason}", self.name))
        };
        let connecting = async {
            let connected = self.config.connect(self.tls.clone()).await;
            let (client, wire) = connected.map_err(|error| lost(told(&error)))?;
            let statement_timeout = self.statement_timeout;
            let mut session = Session { client, link: Link::new(wire), statement_timeout };
            session.run(&self.set_up()).await.map_err(|error| lost(error.to_string()))?;
            Ok(session)
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(lost(format!("no answer within {CONNECT_TIMEOUT:?}"))),
        }
    }

    /// The forms that `value` reads. Not the time zone: it decides what `now()::date` is.
    fn set_up(&self) -> String {
        format!(
            "SET statement_timeout = {}; SET DateStyle = 'ISO'; SET bytea_output = 'hex'; SET extra_float_digits = 1",
            self.statement_timeout.as_millis().clamp(1, i32::MAX as u128)
        )
    }
}

impl Session {
    /// Runs statements whose results do not matter.
    ///
    /// # Errors
    /// [`SessionError`].
    pub(crate) async fn run(&mut self, sql: &str) -> Result<(), SessionError> {
        let limit = self.limit();
        let Session { client, link, .. } = self;
        let work = async { Ok(client.batch_execute(sql).await?) };
        link.drive(within(limit, work)).await?
    }

    /// Gives this session's statements a text, as `current_setting('NAME')`.
    ///
    /// # Errors
    /// [`SessionError`].
    pub(crate) async fn set(&mut self, name: &str, value: &str) -> Result<(), SessionError> {
        let limit = self.limit();
        let Session { client, link, .. } = self;
        let work = async {
            client.execute("SELECT set_config($1, $2, false)", &[&name, &value]).await?;
            Ok(())
        };
        link.drive(within(limit, work)).await?
    }

    /// Runs one statement; the text of `column` is kept with each row. After a result that was cut the session is lost,
    /// since the server is still sending.
    ///
    /// # Errors
    /// [`SessionError`].
    pub(crate) async fn query(
        &mut self,
        sql: &str,
        limits: Limits,
        column: Option<&str>,
    ) -> Result<Rows, SessionError> {
        let limit = self.limit();
        let work = within(limit, query(&self.client, sql, limits, column));
        self.link.drive(work).await?
    }

    /// Waits for the end of the connection.
    pub(crate) async fn lost(&mut self) -> SessionError {
        poll_fn(|cx| self.link.poll(cx)).await
    }

    /// Waits until there is a notification, and takes all that are there up to `bytes`, at least one.
    ///
    /// # Errors
    /// [`SessionError::Lost`]; what came before is taken first.
    pub(crate) async fn notifications(
        &mut self,
        bytes: usize,
    ) -> Result<Vec<Notification>, SessionError> {
        poll_fn(|cx| {
            let ended = self.link.poll(cx);
            match (self.link.inbox.is_empty(), ended) {
                (false, _) => Poll::Ready(Ok(())),
                (true, Poll::Ready(end)) => Poll::Ready(Err(end)),
                (true, Poll::Pending) => Poll::Pending,
            }
        })
        .await?;
        Ok(self.link.inbox.give(bytes))
    }

    /// Notifications that have come, up to `bytes` but at least one if there is one.
    pub(crate) fn take_notifications(&mut self, bytes: usize) -> Vec<Notification> {
        self.link.inbox.give(bytes)
    }

    /// Does something else, to its end, while the connection is kept going as long as it lasts.
    pub(crate) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            let done = work.as_mut().poll(cx);
            if done.is_pending() {
                // Its end is met again at the next use.
                let _ended = self.link.poll(cx);
            }
            done
        })
        .await
    }

    fn limit(&self) -> Duration {
        self.statement_timeout + GRACE
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, SessionError>>,
) -> Result<T, SessionError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_elapsed) => {
            Err(SessionError::Lost(format!("the server did not answer within {limit:?}")))
        }
    }
}

async fn query(
    client: &Client,
    sql: &str,
    limits: Limits,
    column: Option<&str>,
) -> Result<Rows, SessionError> {
    // Only a prepared statement tells the types, and only the simple protocol sends every type as text.
    let statement = client.prepare(sql).await?;
    let columns = statement.columns();
    let names = names(columns);
    let key = column.and_then(|name| columns.iter().position(|known| known.name() == name));
    let mut stream = pin!(client.simple_query_raw(sql).await?);
    let (mut rows, mut bytes) = (Rows::default(), 0);
    while let Some(message) = stream.try_next().await? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let json = encode(columns, &names, &row)?;
        bytes += json.len();
        if rows.rows.len() >= limits.rows || bytes > limits.bytes {
            rows.truncated = true;
            break;
        }
        let key = match key {
            Some(index) => row.try_get(index)?.map(str::to_owned),
            None => None,
        };
        rows.rows.push(Row { json, key });
    }
    Ok(rows)
}

/// The columns' names as JSON strings; a name that comes again gets a number, so that no value is lost.
fn names(columns: &[Column]) -> Vec<String> {
    let mut taken: Vec<String> = Vec::new();
    for column in columns {
        let mut name = column.name().to_owned();
        let mut number = 1;
        while taken.contains(&name) {
            number += 1;
            name = format!("{}_{number}", column.name());
        }
        taken.push(name);
    }
    let quoted = |name: String| {
        let mut out = String::new();
        value::write_string(&mut out, &name);
        out
    };
    taken.into_iter().map(quoted).collect()
}

fn encode(
    columns: &[Column],
    names: &[String],
    row: &SimpleQueryRow,
) -> Result<String, SessionError> {
    // Between the two looks somebody may have changed the table.
    if row.columns().len() != columns.len() {
        return Err(SessionError::Lost("the table changed while it was read".to_owned()));
    }
    let mut out = String::from("{");
    for (index, (column, name)) in columns.iter().zip(names).enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(name);
        out.push(':');
        value::write(&mut out, column.type_(), row.try_get(index)?);
    }
    out.push('}');
    Ok(out)
}
