//! Answers that are written while the query goes on, so that a million rows take no more memory than ten.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use rusqlite::types::ValueRef;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::api_error::ApiError;
use super::format::{Encoder, Format};
use super::reader::{MAX_QUERY_SECONDS, QueryError, Reader, Running, Session};
use super::schema::Column;

/// An answer is handed on in pieces of this size.
const CHUNK_BYTES: usize = 64 * 1024;
/// Pieces that wait for a slow client; then the query waits, until its time is over.
const WAITING_CHUNKS: usize = 4;

/// Where a query puts its rows.
pub(crate) struct RowWriter {
    encoder: Encoder,
    buffer: Vec<u8>,
    chunks: mpsc::Sender<Bytes>,
    runtime: Handle,
    deadline: Instant,
}

impl RowWriter {
    /// One row; `value` gives the value of each column by its place.
    pub(crate) fn row<'a>(
        &mut self,
        value: impl Fn(usize) -> ValueRef<'a>,
    ) -> Result<(), QueryError> {
        self.encoder.row(&mut self.buffer, value);
        if self.buffer.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), QueryError> {
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        let sent = self.runtime.block_on(timeout_at(self.deadline, self.chunks.send(chunk)));
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_gone)) => {
                Err(ApiError::BadRequest("the client closed the connection".to_owned()).into())
            }
            Err(_elapsed) => Err(ApiError::TooSlow(MAX_QUERY_SECONDS).into()),
        }
    }
}

/// What a query has decided before its first row: the columns of the answer, and how the rows are made.
pub(crate) struct Prepared<F> {
    /// The answer's columns.
    pub(crate) columns: Vec<Column>,
    /// Writes the rows.
    pub(crate) rows: F,
}

/// Answers with the rows that `query` writes.
///
/// # Errors
/// What the query says, as long as nothing has been sent; later the connection is cut, so that half an answer is not
/// taken for a whole one.
pub(crate) async fn rows<F>(
    reader: &Arc<Reader>,
    format: Format,
    prepare: impl FnOnce(&Session<'_>) -> Result<Prepared<F>, QueryError> + Send + 'static,
) -> Result<Response, ApiError>
where
    F: FnOnce(&Session<'_>, &mut RowWriter) -> Result<(), QueryError>,
{
    let (chunks, mut received) = mpsc::channel(WAITING_CHUNKS);
    let runtime = Handle::current();
    let query = reader.begin(move |session| {
        let prepared = prepare(session)?;
        let encoder = Encoder::new(format, prepared.columns.iter());
        let mut buffer = Vec::new();
        encoder.begin(&mut buffer);
        let deadline = session.deadline;
        let mut writer = RowWriter { encoder, buffer, chunks, runtime, deadline };
        (prepared.rows)(session, &mut writer)?;
        writer.encoder.end(&mut writer.buffer);
        writer.flush()
    });
    let query = query.await?;
    // A short answer is in one piece, and then its length is known and its query has ended.
    let first = received.recv().await.unwrap_or_default();
    let body = match received.recv().await {
        Some(second) => streamed(first, second, received, query),
        None => {
            query.end().await?;
            Body::from(first)
        }
    };
    let headers = [
        (CONTENT_TYPE, format.content_type()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, body).into_response())
}

fn streamed(
    first: Bytes,
    second: Bytes,
    received: mpsc::Receiver<Bytes>,
    query: Running<()>,
) -> Body {
    let ready = [first, second].into_iter();
    let chunks = stream::unfold((ready, received, Some(query)), |state| async move {
        let (mut ready, mut received, query) = state;
        let next = match ready.next() {
            Some(chunk) => Some(chunk),
            None => received.recv().await,
        };
        if let Some(chunk) = next {
            return Some((Ok(chunk), (ready, received, query)));
        }
        let error = query?.end().await.err()?;
        tracing::debug!(%error, "an answer was cut short");
        Some((Err(io::Error::other(error)), (ready, received, None)))
    });
    // Whoever compresses it asks once more behind its end.
    Body::from_stream(chunks.fuse())
}
