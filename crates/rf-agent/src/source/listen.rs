//! `listen`: what a PostgreSQL database announces with NOTIFY becomes events at once.
//!
//! A database forgets a notification that nobody hears. So after each (re)connect a query of the user's (`rereadSql`) runs,
//! whose rows become events, too: listening is in effect before it begins, so nothing falls between the two.
//!
//! Without `cursor` each notification is an event, and the query tells what may have been missed: at least once. With
//! `cursor` the query is the source of all events and notifications only say when to look: the last value of that column is
//! stored in the transaction of the events, so that each row comes exactly once, through kills, too.
//!
//! Invariant: the connection is read all the time, or given up. A listener that waits for room in its queues without
//! reading would fill the server's own queue of notifications, and then transactions there fail.
//!
//! What was heard is nowhere else: at a stop it is stored, if a queue takes it, and else counted.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rf_core::backoff::Backoff;
use rf_core::config::{ByteSize, Interval, Node, Problems, Secret, schema_of};
use rf_queue::Checkpoint;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::json;
use tokio_postgres::Notification;
use tokio_util::sync::CancellationToken;

use super::defaults::{default_max_rows, root_path};
use super::hand_over::{BURIED, HandOver, HandedOver};
use super::local_event::LocalEvent;
use super::postgres::connection::{Keys, Server, SslMode, params_with_connection};
use super::postgres::session::{Limits, Row, Rows, Session, SessionError};
use super::{Source, SourceContext, SourceError};
use crate::pipeline::{Batch, Kept, Output, Rejected};
use crate::settings::at;

/// Bounds of the pause between attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// Pause before trying a full queue again.
const FULL_PAUSE: Duration = Duration::from_millis(250);
/// Content of the events that are stored together.
const BATCH_BYTES: usize = 256 * 1024;
/// What the query sees as `current_setting('replayforge.cursor')`.
const CURSOR_SETTING: &str = "replayforge.cursor";

params_with_connection! {
    /// `params` of a `listen` source.
    pub(crate) struct ListenSourceConfig {
        /// The channels that NOTIFY names.
        #[schemars(length(min = 1, max = 100))]
        pub(crate) channels: Vec<String>,
        /// A query that runs after each connect; each of its rows becomes an event.
        #[serde(default)]
        pub(crate) reread_sql: String,
        /// A column of the query. Its last value is remembered, the query runs at each notification, and notifications become
        /// no events of their own.
        #[serde(default)]
        pub(crate) cursor: String,
        /// The events' path.
        #[serde(default = "root_path")]
        pub(crate) path: String,
        /// Rows of the query that are read at a time.
        #[serde(default = "default_max_rows")]
        #[schemars(range(min = 1))]
        pub(crate) max_rows: usize,
        /// The same in bytes, as JSON.
        #[serde(default = "default_max_bytes")]
        pub(crate) max_bytes: ByteSize,
    }
}

fn default_max_bytes() -> ByteSize {
    ByteSize::mib(8)
}

/// JSON Schema of [`ListenSourceConfig`].
pub(super) fn schema() -> Schema {
    schema_of::<ListenSourceConfig>()
}

/// Checks the configuration and makes the source.
pub(super) fn build(
    context: &SourceContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Box<dyn Source>> {
    let config: ListenSourceConfig = params.decode(problems)?;
    if config.channels.iter().any(String::is_empty) {
        problems.error(&at(params, "channels"), "expected names of channels, found an empty text");
    }
    if config.reread_sql.trim().is_empty() && !config.cursor.is_empty() {
        problems
            .error(&at(params, "cursor"), "cursor needs rereadSql: it names one of its columns");
    }
    let server = config.connection().server(params, problems)?;
    Some(Box::new(ListenSource {
        id: context.id.to_owned(),
        server,
        channels: config.channels,
        reread: Some(config.reread_sql).filter(|sql| !sql.trim().is_empty()),
        cursor: Some(config.cursor).filter(|column| !column.is_empty()),
        path: config.path,
        limits: Limits { rows: config.max_rows, bytes: config.max_bytes.as_usize() },
    }))
}

struct ListenSource {
    id: String,
    server: Server,
    channels: Vec<String>,
    reread: Option<String>,
    cursor: Option<String>,
    path: String,
    limits: Limits,
}

impl Source for ListenSource {
    fn run(
        self: Box<Self>,
        out: Output,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
            let hand_over = HandOver::new(&self.id, &out, &stop).losing("notifications");
            let mut listener =
                Listener { source: &self, out: &out, stop: &stop, hand_over, backoff };
            listener.listen().await;
            Ok(())
        })
    }
}

/// Why listening ends for now.
enum End {
    /// A new connection is made, after a pause.
    Lost(SessionError),
    /// The agent closes.
    Closed,
}

impl From<SessionError> for End {
    fn from(error: SessionError) -> Self {
        Self::Lost(error)
    }
}

/// An event, and the cursor's value that goes with it.
struct Item {
    event: Bytes,
    cursor: Option<String>,
}

struct Listener<'a> {
    source: &'a ListenSource,
    out: &'a Output,
    /// Ends every wait but that for the queues to take notifications. Rows are read again at the next start.
    stop: &'a CancellationToken,
    /// Of notifications.
    hand_over: HandOver<'a>,
    backoff: Backoff,
}

impl Listener<'_> {
    /// Until the agent closes.
    async fn listen(&mut self) {
        loop {
            let connected = tokio::select! {
                () = self.stop.cancelled() => return,
                connected = self.source.server.connect() => connected,
            };
            let end = match connected {
                Ok(mut session) => self.hear(&mut session).await,
                Err(error) => End::Lost(error),
            };
            let End::Lost(error) = end else { return };
            let (id, server) = (&self.source.id, self.source.server.name());
            tracing::warn!(source = id, server, error = %error.for_log(), "not listening, trying again");
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(self.backoff.next_delay()) => {}
            }
        }
    }

    /// One connection, to its end.
    async fn hear(&mut self, session: &mut Session) -> End {
        let mut reader = None;
        let began = tokio::select! {
            () = self.stop.cancelled() => Err(End::Closed),
            began = self.begin(session, &mut reader) => began,
        };
        let mut end = match began {
            Ok(()) => {
                self.backoff.reset();
                self.follow(session, &mut reader).await
            }
            Err(end) => end,
        };
        if self.source.cursor.is_some() {
            return end;
        }
        loop {
            let left = session.take_notifications(BATCH_BYTES);
            if left.is_empty() {
                return end;
            }
            // After the stop, too: what is lost is counted there.
            if let Err(stopped) = self.store_heard(&left).await {
                end = stopped;
            }
        }
    }

    /// Listens, and reads what was announced before.
    async fn begin(&self, session: &mut Session, reader: &mut Option<Session>) -> Result<(), End> {
        let channels = self.source.channels.iter();
        let listens: String = channels.map(|name| format!("LISTEN {};", quoted(name))).collect();
        session.run(&listens).await?;
        let (id, server) = (&self.source.id, self.source.server.name());
        tracing::info!(source = id, server, "listening");
        // A connection of its own: neither does the query hold up the notifications, nor does its failure lose them.
        session.meanwhile(self.reread(reader)).await
    }

    /// Notifications as they come, to the end of the connection.
    async fn follow(&self, session: &mut Session, reader: &mut Option<Session>) -> End {
        loop {
            // Every arm is cancel-safe: what was heard and not taken stays with the session.
            let heard = tokio::select! {
                () = self.stop.cancelled() => return End::Closed,
                heard = session.notifications(BATCH_BYTES) => match heard {
                    Ok(heard) => heard,
                    Err(error) => return End::Lost(error),
                },
            };
            let done = if self.source.cursor.is_some() {
                // One look answers all that have come before it.
                session.take_notifications(usize::MAX);
                tokio::select! {
                    () = self.stop.cancelled() => Err(End::Closed),
                    done = session.meanwhile(self.reread(reader)) => done,
                }
            } else {
                session.meanwhile(self.store_heard(&heard)).await
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// Stores notifications, for which it waits a moment after the stop, too.
    async fn store_heard(&self, heard: &[Notification]) -> Result<(), End> {
        let event = |heard: &Notification| {
            let body = json!({
                "channel": heard.channel(),
                "payload": heard.payload(),
                "pid": heard.process_id(),
            });
            self.event(&body.to_string())
        };
        match self.hand_over.store(heard.iter().map(event).collect()).await {
            HandedOver::Stored { .. } => Ok(()),
            HandedOver::Stopped(_) => Err(End::Closed),
        }
    }

    fn event(&self, body: &str) -> Bytes {
        LocalEvent::new(&self.source.path, body.into()).encode()
    }

    /// Runs the query, and stores its rows; with a cursor until there are no more.
    async fn reread(&self, reader: &mut Option<Session>) -> Result<(), End> {
        let Some(sql) = &self.source.reread else { return Ok(()) };
        let cursor = self.source.cursor.as_deref();
        loop {
            let mut session = match reader.take() {
                Some(kept) => kept,
                None => self.source.server.connect().await?,
            };
            let from = if cursor.is_some() { self.stored_cursor().await? } else { String::new() };
            if cursor.is_some() {
                session.set(CURSOR_SETTING, &from).await?;
            }
            let Rows { rows, truncated } = session.query(sql, self.source.limits, cursor).await?;
            // Without a cursor the next query comes after the next connect; and nobody waits for room with a query open.
            *reader = (cursor.is_some() && !truncated).then_some(session);
            self.check(&rows, truncated, &from)?;
            let event = |row: &Row| self.event(&format!("{{\"row\":{}}}", row.json));
            let item = |row: Row| Item { event: event(&row), cursor: row.key };
            self.store(rows.into_iter().map(item).collect()).await?;
            if !truncated || cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Whether the query does what it is for.
    fn check(&self, rows: &[Row], truncated: bool, from: &str) -> Result<(), SessionError> {
        let has_cursor = self.source.cursor.is_some();
        let reason = match rows.last() {
            None if truncated => "a row of rereadSql is larger than maxBytes",
            Some(_) if has_cursor && rows.iter().any(|row| row.key.is_none()) => {
                "rereadSql has no column of the cursor's name, or null in it"
            }
            Some(last) if has_cursor && last.key.as_deref() == Some(from) => {
                "rereadSql does not continue after current_setting('replayforge.cursor')"
            }
            _ if truncated && !has_cursor => {
                let (id, rows) = (&self.source.id, rows.len());
                tracing::error!(
                    source = id,
                    rows,
                    "rereadSql has more rows than maxRows or maxBytes, the rest is not read: set cursor, or restrict it"
                );
                return Ok(());
            }
            _ => return Ok(()),
        };
        Err(SessionError::Lost(reason.to_owned()))
    }

    fn key(&self) -> String {
        format!("listen:{}:cursor", self.source.id)
    }

    /// Where the query goes on; empty at the first start.
    async fn stored_cursor(&self) -> Result<String, End> {
        loop {
            match self.out.checkpoint(&self.key()).await {
                Ok(stored) => {
                    let text = stored.and_then(|bytes| String::from_utf8(bytes).ok());
                    return Ok(text.unwrap_or_default());
                }
                Err(Rejected::Closed) => return Err(End::Closed),
                Err(error) => {
                    tracing::error!(source = self.source.id, %error, "the cursor cannot be read, trying again");
                    tokio::time::sleep(FULL_PAUSE).await;
                }
            }
        }
    }

    /// Tries until the queues have the events, each batch with the cursor behind it. What can never fit is a dead letter; with
    /// a cursor it stays in the database instead, and nothing behind it is read before somebody has made room.
    async fn store(&self, items: Vec<Item>) -> Result<(), End> {
        let mut left = items.as_slice();
        let mut most = usize::MAX;
        while !left.is_empty() {
            let count = batch_of(left).min(most);
            let batch = self.batch(&left[..count]);
            let sent = if left[0].cursor.is_some() {
                self.out.send(batch).await.map(|()| Kept::Queued)
            } else {
                self.out.send_or_bury(batch).await
            };
            match sent {
                Ok(kept) => {
                    if kept == Kept::Buried {
                        let bytes = left[0].event.len();
                        tracing::error!(source = self.source.id, bytes, "{BURIED}");
                    }
                    left = &left[count..];
                    most = usize::MAX;
                }
                Err(Rejected::Closed) => return Err(End::Closed),
                Err(Rejected::TooLarge { .. }) if count > 1 => most = count / 2,
                // Only with a cursor: without one it was buried.
                Err(rejected @ Rejected::TooLarge { .. }) => {
                    tracing::error!(source = self.source.id, error = %rejected, "a row cannot be stored and stays in the database");
                    return Err(SessionError::Lost("a row is too large".to_owned()).into());
                }
                Err(rejected) => {
                    tracing::warn!(source = self.source.id, error = %rejected, "events cannot be stored now, trying again");
                    tokio::time::sleep(FULL_PAUSE).await;
                }
            }
        }
        Ok(())
    }

    fn batch(&self, items: &[Item]) -> Batch {
        let events = items.iter().map(|item| item.event.clone()).collect();
        let last = items.last().and_then(|item| item.cursor.clone());
        let checkpoint =
            last.map(|last| Checkpoint { key: self.key(), value: Some(last.into_bytes()) });
        Batch { events, checkpoints: checkpoint.into_iter().collect() }
    }
}

/// How many from the first on make a batch; at least one.
fn batch_of(items: &[Item]) -> usize {
    let mut bytes = 0;
    let fits = |item: &&Item| {
        bytes += item.event.len();
        bytes <= BATCH_BYTES
    };
    items.iter().take_while(fits).count().max(1)
}

/// A name as SQL takes it, also one with capitals or blanks.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
