//! `POST /record-batch` and `POST /record`: events come in.
//!
//! Promises: all tokens are checked before anything is written; 200 only after the commit of every named bucket. If
//! some buckets took a batch and others did not, the sender is told to repeat it, and the batch id keeps the repeat out
//! of those that have it; without an id, as from old senders, they get it twice. A batch that one bucket can never take is
//! in none of them, since the sender cuts it into others, with other ids. What is taken can be pulled.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rf_core::clock::unix_secs;
use rf_core::protocol::{
    MAX_BATCH_ID_BYTES, MAX_PULLED_EVENT_BYTES, RF_BATCH_ID, can_be_pulled, parse_batch,
};
use rf_core::trace::{Note, Step};
use rf_net::encoding::ACCEPTED;
use uuid::Uuid;

use super::request::{Read, Sent, caller, read};
use super::{ApiError, Relay};
use crate::bucket::BucketName;
use crate::stats::Caller;
use crate::store::{AppendError, Appended};

pub(super) async fn record_batch(State(relay): State<Arc<Relay>>, request: Request) -> Response {
    let max_events = relay.limits.max_batch_events;
    let parse = move |body| Ok(parse_batch(&body, max_events)?);
    with_accepted_codings(receive(&relay, request, parse).await)
}

pub(super) async fn record(State(relay): State<Arc<Relay>>, request: Request) -> Response {
    // The one place where what is no text is refused: here no other event is held back by it.
    let parse = |body: Bytes| match std::str::from_utf8(&body) {
        Ok(_) => Ok(vec![body]),
        Err(error) => Err(ApiError::BadRequest(format!(
            "an event is text, but the body is not UTF-8: {error}"
        ))),
    };
    with_accepted_codings(receive(&relay, request, parse).await)
}

/// Clients compress only after they have seen this (RFC 9110, section 12.5.3).
fn with_accepted_codings(outcome: Result<(), ApiError>) -> Response {
    let mut response = outcome.map(|()| StatusCode::OK).into_response();
    response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
    response
}

async fn receive(
    relay: &Relay,
    request: Request,
    parse: impl FnOnce(Bytes) -> Result<Vec<Bytes>, ApiError> + Send + 'static,
) -> Result<(), ApiError> {
    let (parts, body) = request.into_parts();
    let buckets = relay.tokens.buckets(&parts.headers)?;
    let batch_id = batch_id(&parts.headers)?;
    let parse = move |body| check_pullable(parse(body)?);
    // One token has opened all of them.
    let sent = Sent { bucket: &buckets[0], headers: &parts.headers, body };
    let max_bytes = relay.limits.max_body_bytes;
    let Read { value: events, held: _held } = read(relay, sent, max_bytes, parse).await?;
    let count = events.len() as u64;
    let arrival = Arrival::of(relay, &events, &parts.headers, batch_id.as_deref());
    let stored = append(relay, &buckets, events, batch_id, &arrival).await?;
    // A repeat is a query, but brings no messages.
    let received = if stored.is_empty() { 0 } else { count };
    relay.stats.received(&caller(&parts.headers), &stored, received, unix_secs());
    tracing::debug!(
        batch = parts.headers.get(RF_BATCH_ID).and_then(|id| id.to_str().ok()),
        buckets = buckets.len(),
        records = count,
        "batch recorded"
    );
    Ok(())
}

/// No event is taken that no player can pull: as the first of its bucket it would hold back all the others.
fn check_pullable(events: Vec<Bytes>) -> Result<Vec<Bytes>, ApiError> {
    match events.iter().position(|event| !can_be_pulled(event)) {
        None => Ok(events),
        Some(index) => Err(ApiError::TooLarge(format!(
            "event {} is too large to be pulled: as JSON text it has more than {MAX_PULLED_EVENT_BYTES} bytes",
            index + 1
        ))),
    }
}

/// What the journal keeps of a batch.
struct Arrival {
    ids: Vec<Uuid>,
    detail: String,
}

impl Arrival {
    fn of(relay: &Relay, events: &[Bytes], headers: &HeaderMap, batch_id: Option<&str>) -> Self {
        let ids = relay.journal.ids(events.iter().map(|event| &event[..]));
        let detail = if ids.is_empty() {
            String::new()
        } else {
            let from = format!("from {}", caller(headers).hostname);
            batch_id.map_or_else(|| from.clone(), |id| format!("{from}, batch {id}"))
        };
        Self { ids, detail }
    }

    fn note(&self, relay: &Relay, step: Step, bucket: &BucketName) {
        if !self.ids.is_empty() {
            let note = Note::new(step, bucket.shared()).detail(&self.detail);
            relay.journal.note_ids(&note, &self.ids);
        }
    }
}

fn batch_id(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(RF_BATCH_ID) else { return Ok(None) };
    match value.to_str() {
        Ok(id) if !id.is_empty() && id.len() <= MAX_BATCH_ID_BYTES => Ok(Some(id.to_owned())),
        _ => Err(ApiError::BadRequest(format!(
            "RF-BATCH-ID has 1 to {MAX_BATCH_ID_BYTES} ASCII characters"
        ))),
    }
}

/// Stores the events in every bucket; gives those that had not stored them before, as far as that was counted.
async fn append(
    relay: &Relay,
    buckets: &[BucketName],
    events: Vec<Bytes>,
    batch_id: Option<String>,
    arrival: &Arrival,
) -> Result<Vec<BucketName>, ApiError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let count = events.len() as u64;
    // Slices of the body: a look at them costs no copy of an event.
    let tapped = relay.taps.any().then(|| events.clone());
    let mut stored = Vec::new();
    let mut refusals = Vec::new();
    let waiting = relay.left.wait(buckets, batch_id.as_deref());
    let outcomes = append_to_all(relay, buckets, events, batch_id.clone()).await;
    waiting.answered();
    for (bucket, outcome) in outcomes {
        let appended = match outcome {
            Ok(appended) => appended,
            Err(error) => {
                refusals.push((bucket, error));
                continue;
            }
        };
        let is_repeat = appended == Appended::Duplicate;
        arrival.note(relay, if is_repeat { Step::Repeated } else { Step::Stored }, bucket);
        // In any case, so that no later repeat is counted.
        let was_left = relay.left.take(bucket, batch_id.as_deref());
        if is_repeat && !was_left {
            tracing::debug!(%bucket, "a repeated batch was stored before");
            continue;
        }
        if let Some(events) = &tapped {
            relay.taps.tell(bucket, events);
        }
        stored.push(bucket.clone());
    }
    if refusals.is_empty() {
        return Ok(stored);
    }
    for (bucket, error) in &refusals {
        if matches!(error, AppendError::Full(_)) {
            relay.stats.refused(bucket, unix_secs());
        }
    }
    // For these the sender's next try is a repeat; the sender itself counts once all have taken the batch.
    relay.stats.received(&Caller::default(), &stored, count, unix_secs());
    Err(refusal(refusals))
}

/// What each bucket says; where one of them will refuse the events for ever, no other is asked.
async fn append_to_all<'a>(
    relay: &Relay,
    buckets: &'a [BucketName],
    events: Vec<Bytes>,
    batch_id: Option<String>,
) -> Vec<(&'a BucketName, Result<Appended, AppendError>)> {
    // A single bucket takes all or nothing by itself.
    let (safe, doubtful): (Vec<&BucketName>, Vec<&BucketName>) = buckets
        .iter()
        .partition(|bucket| buckets.len() == 1 || relay.store.can_take(bucket, &events));
    let mut outcomes = Vec::new();
    if !doubtful.is_empty() {
        // Asked all the same: one that has stored the batch before, when its limit was another, says so.
        outcomes = append_to(relay, doubtful, events.clone(), batch_id.clone()).await;
    }
    if outcomes.iter().all(|(_, outcome)| outcome.is_ok()) {
        outcomes.extend(append_to(relay, safe, events, batch_id).await);
    }
    outcomes
}

/// Asks these buckets at once, not in turn: the time of the slowest commit, not of all.
async fn append_to<'a>(
    relay: &Relay,
    buckets: Vec<&'a BucketName>,
    events: Vec<Bytes>,
    batch_id: Option<String>,
) -> Vec<(&'a BucketName, Result<Appended, AppendError>)> {
    // `repeat_n` copies for all but the last.
    let copies = std::iter::repeat_n((events, batch_id), buckets.len());
    let append = |(bucket, (events, batch_id))| relay.store.append(bucket, events, batch_id);
    let outcomes = join_all(buckets.iter().copied().zip(copies).map(append)).await;
    buckets.into_iter().zip(outcomes).collect()
}

/// One answer for several refusals: what goes away by itself first, what the sender has to change last.
fn refusal(refusals: Vec<(&BucketName, AppendError)>) -> ApiError {
    let (mut full, mut disk) = (Vec::new(), Vec::new());
    let mut too_large = None;
    for (bucket, error) in refusals {
        match error {
            AppendError::Unavailable(error) => {
                return ApiError::Unavailable { cause: format!("bucket {bucket}: {error}") };
            }
            AppendError::Full(reason) => {
                tracing::warn!(%bucket, reason, "bucket is full, a batch is refused");
                full.push(bucket.clone());
            }
            AppendError::Disk(reason) => {
                tracing::warn!(%bucket, reason, "the disk accepts no writes, a batch is refused");
                disk.push(bucket.clone());
            }
            AppendError::TooLarge { .. } => {
                too_large = Some(ApiError::TooLarge(format!("bucket {bucket}: {error}")));
            }
        }
    }
    if !disk.is_empty() {
        return ApiError::Disk(disk);
    }
    too_large.filter(|_| full.is_empty()).unwrap_or(ApiError::Full(full))
}
