//! `GET /first-batch` and `GET /first`: events go out.
//!
//! Promises: without a lease, exactly the original's answer; a long poll is answered as soon as there are events, when
//! its time is over, and at once when the relay stops. An answer that its client never gets costs an event the time of
//! its lease, nothing else; nothing is read before there is memory for the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use rf_core::clock::unix_secs;
use rf_core::protocol::{PulledEvent, RF_LEASE, encode_pulled};
use rf_core::trace::{Note, Step};
use rf_net::encoding::{Coding, encode, negotiate};
use rf_queue::Budget;
use tokio::time::Instant;

use super::answers::Reserved;
use super::holders::{Before, MAX_HOLDER_BYTES, Turn};
use super::query::Query;
use super::request::{caller, heavy, lease_time};
use super::{ApiError, Relay};
use crate::bucket::BucketName;
use crate::store::Pulled;

/// Most events of an answer without a lease, and how many when no limit is given: as the original.
const MAX_EVENTS: usize = 100;
/// Most events of an answer with a lease.
const MAX_LEASED_EVENTS: usize = 10_000;
/// Most content bytes of an answer, but for a single event that is larger.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// The longest that a poll waits: proxies on the way may cut off what is silent for longer.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// A smaller answer is not worth coding: it fits into one packet anyway.
const MIN_CODED_BYTES: usize = 1024;

/// What is asked for.
struct Pull {
    budget: Budget,
    lease: Option<Duration>,
    /// Who pulls, where that is told: its lease before this one ends.
    holder: Option<String>,
    wait: Duration,
}

/// Events that were pulled.
#[derive(Default)]
struct Given {
    pulled: Pulled,
    /// Memory for them; `None` only where nothing was looked for.
    memory: Option<Reserved>,
}

impl Given {
    fn unless_empty(self) -> Option<(Pulled, Reserved)> {
        let memory = self.memory.filter(|_| !self.pulled.events.is_empty())?;
        Some((self.pulled, memory))
    }
}

pub(super) async fn first_batch(
    State(relay): State<Arc<Relay>>,
    request: Request,
) -> Result<Response, ApiError> {
    let bucket = relay.tokens.bucket(request.headers())?;
    let pull = parse(&Query::of(request.uri())?)?;
    let Some(given) = give(&relay, request.headers(), &bucket, &pull).await? else {
        return Ok((StatusCode::NOT_FOUND, [JSON], "[]").into_response());
    };
    answer(&relay, &bucket, request.headers(), given, |array| array).await
}

pub(super) async fn first(
    State(relay): State<Arc<Relay>>,
    request: Request,
) -> Result<Response, ApiError> {
    let bucket = relay.tokens.bucket(request.headers())?;
    let mut pull = parse(&Query::of(request.uri())?)?;
    pull.budget.events = 1;
    let Some(given) = give(&relay, request.headers(), &bucket, &pull).await? else {
        return Err(ApiError::NotFound("the bucket has no event to give"));
    };
    let only = |array: Bytes| array.slice(1..array.len() - 1);
    answer(&relay, &bucket, request.headers(), given, only).await
}

/// Pulls what is asked for, and counts it; `None`: there is nothing.
async fn give(
    relay: &Relay,
    headers: &HeaderMap,
    bucket: &BucketName,
    pull: &Pull,
) -> Result<Option<(Pulled, Reserved)>, ApiError> {
    note_wait(relay, headers, bucket, pull);
    let given = pull_as_holder(relay, bucket, pull).await?;
    account(relay, headers, bucket, &given.pulled);
    Ok(given.unless_empty())
}

/// A reader that waits is one that is there, also before its first answer.
fn note_wait(relay: &Relay, headers: &HeaderMap, bucket: &BucketName, pull: &Pull) {
    if !pull.wait.is_zero() {
        relay.stats.asked(&caller(headers), bucket, unix_secs());
    }
}

/// Counts what is handed out, and notes to whom.
fn account(relay: &Relay, headers: &HeaderMap, bucket: &BucketName, pulled: &Pulled) {
    let caller = caller(headers);
    relay.stats.sent(&caller, bucket, pulled.events.len() as u64, unix_secs());
    for alike in pulled.events.chunk_by(|one, next| one.attempts == next.attempts) {
        let times = alike.first().map_or(1, |event| event.attempts + 1);
        let to = format!("by {}", caller.hostname);
        let note = Note::new(Step::Pulled, bucket.shared()).attempt(times).detail(&to);
        relay.journal.note(&note, alike.iter().map(|event| &event.content[..]));
    }
}

const JSON: (HeaderName, HeaderValue) =
    (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));

fn parse(query: &Query) -> Result<Pull, ApiError> {
    let lease = query.duration("lease")?.map(lease_time).transpose()?;
    let max_events = if lease.is_some() { MAX_LEASED_EVENTS } else { MAX_EVENTS };
    let budget = Budget {
        events: query.number("limit", 1..=max_events)?.unwrap_or(MAX_EVENTS),
        bytes: query.number("maxBytes", 1..=usize::MAX)?.unwrap_or(MAX_BYTES).min(MAX_BYTES),
    };
    let holder = query.name("holder", MAX_HOLDER_BYTES)?.map(str::to_owned);
    let wait = query.duration("wait")?.unwrap_or_default().min(MAX_WAIT);
    Ok(Pull { budget, lease, holder, wait })
}

/// Ends the holder's lease before this one, and remembers the new one.
async fn pull_as_holder(
    relay: &Relay,
    bucket: &BucketName,
    pull: &Pull,
) -> Result<Given, ApiError> {
    let Some(holder) = pull.holder.as_deref().filter(|_| pull.lease.is_some()) else {
        return wait_for_events(relay, bucket, pull, None).await;
    };
    let (turn, before) = relay.holders.begin(bucket, holder);
    let before = match before {
        Before::Nothing => None,
        Before::Lease(lease) => Some(lease),
        Before::Stored => {
            let found = relay.store.lease_of(bucket, holder).await?;
            // Found after a newer pull has begun it may be that one's.
            found.filter(|_| relay.holders.is_newest(&turn))
        }
    };
    if let Some(before) = before {
        // Gone already when all of it was acknowledged, which is the rule.
        relay.store.extend(bucket, &before, Duration::ZERO).await?;
    }
    relay.holders.settle(&turn);
    wait_for_events(relay, bucket, pull, Some(&turn)).await
}

async fn wait_for_events(
    relay: &Relay,
    bucket: &BucketName,
    pull: &Pull,
    turn: Option<&Turn>,
) -> Result<Given, ApiError> {
    if pull.wait.is_zero() {
        return Ok(pull_now(relay, bucket, pull, turn).await?.unwrap_or_default());
    }
    let deadline = Instant::now() + pull.wait;
    let mut news = relay.store.watch(bucket).await?;
    loop {
        // Marked before looking, so that an event that comes in between is noticed.
        news.mark_unchanged();
        let Some(given) = pull_now(relay, bucket, pull, turn).await? else {
            return Ok(Given::default());
        };
        if !given.pulled.events.is_empty() || relay.stop.is_cancelled() {
            return Ok(given);
        }
        // Who waits for events holds no memory.
        drop(given);
        // Only waiting is interrupted here, never a pull that may have leased.
        let nothing_more = tokio::select! {
            changed = news.changed() => changed.is_err(),
            () = tokio::time::sleep_until(deadline) => true,
            () = relay.stop.cancelled() => true,
        };
        if nothing_more {
            return Ok(Given::default());
        }
    }
}

/// What there is now; `None` when the holder has begun another pull, so that nobody waits for this one any more.
async fn pull_now(
    relay: &Relay,
    bucket: &BucketName,
    pull: &Pull,
    turn: Option<&Turn>,
) -> Result<Option<Given>, ApiError> {
    let memory = Some(relay.answers.reserve(bucket, pull.budget.bytes).await?);
    let Some(turn) = turn else {
        let pulled = relay.store.pull(bucket, pull.budget, pull.lease, None).await?;
        return Ok(Some(Given { pulled, memory }));
    };
    // A lock across awaits, for the order is what it is there for; only pulls of one and the same holder meet at it.
    let _one = turn.one_leases.lock().await;
    if !relay.holders.is_newest(turn) {
        return Ok(None);
    }
    let pulled = relay.store.pull(bucket, pull.budget, pull.lease, Some(turn.holder())).await?;
    if let Some(lease) = &pulled.lease
        && !relay.holders.end(turn, lease, pull.lease.unwrap_or_default())
    {
        relay.store.extend(bucket, lease, Duration::ZERO).await?;
        return Ok(None);
    }
    Ok(Some(Given { pulled, memory }))
}

async fn answer(
    relay: &Relay,
    bucket: &BucketName,
    headers: &HeaderMap,
    (pulled, memory): (Pulled, Reserved),
    shape: impl FnOnce(Bytes) -> Bytes + Send + 'static,
) -> Result<Response, ApiError> {
    let Pulled { lease, events } = pulled;
    let wanted = negotiate(headers, &[Coding::Zstd]);
    let (body, coding) = match written(events, memory, wanted, shape).await {
        Ok(written) => written,
        Err(error) => {
            // Nobody gets these events, so others may have them.
            if let Some(lease) = &lease {
                relay.store.extend(bucket, lease, Duration::ZERO).await?;
            }
            return Err(error);
        }
    };
    let mut response = ([JSON], body).into_response();
    if coding != Coding::Identity {
        response
            .headers_mut()
            .insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    if let Some(token) = lease {
        let token = HeaderValue::try_from(token)
            .map_err(|error| ApiError::Unavailable { cause: error.to_string() })?;
        response.headers_mut().insert(HeaderName::from_static(RF_LEASE), token);
    }
    Ok(response)
}

/// The body of an answer, with the memory that it takes, and how it is coded.
async fn written(
    events: Vec<PulledEvent>,
    mut memory: Reserved,
    wanted: Coding,
    shape: impl FnOnce(Bytes) -> Bytes + Send + 'static,
) -> Result<(Bytes, Coding), ApiError> {
    let bytes = events.iter().map(|event| event.content.len()).sum();
    // A single event may be larger than all that was asked for, and so than what was reserved.
    memory.grow_to(bytes)?;
    // The memory goes along: what was begun is done to its end, also when the client has left.
    heavy(bytes, move || -> Result<(Bytes, Coding), ApiError> {
        let body = shape(encode_pulled(&events).into());
        let coding = if body.len() < MIN_CODED_BYTES { Coding::Identity } else { wanted };
        Ok((memory.hold(encode(coding, &body))?, coding))
    })
    .await?
}
