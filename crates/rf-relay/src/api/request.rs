//! What endpoints do alike: read a body, know the caller, leave the async threads for heavy work.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use rf_core::protocol::{RF_ENV_NAME, RF_HOSTNAME};
use rf_net::body::read_held;
use rf_net::encoding::{Coding, decode, decoded_bytes};
use rf_net::memory::Held;

use super::{ApiError, Relay};
use crate::bucket::BucketName;
use crate::stats::Caller;

/// Up to this many bytes are decoded or coded in place; more would hold up the other requests of the thread.
const IN_PLACE_BYTES: usize = 16 * 1024;

/// Who calls, as it says itself: in UTF-8 as a rule, which is more than the letters that HTTP knows.
pub(super) fn caller(headers: &HeaderMap) -> Caller<'_> {
    Caller { env: text(headers, RF_ENV_NAME), hostname: text(headers, RF_HOSTNAME) }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Cow<'a, str> {
    let value = headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    String::from_utf8_lossy(value.trim_ascii())
}

/// A body that is to be read.
pub(super) struct Sent<'a> {
    /// A bucket that the token opens: what the body takes is taken of that token's share.
    pub(super) bucket: &'a BucketName,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: Body,
}

/// What a body says, with the memory that it takes, which is to be held for as long as what was read lives.
pub(super) struct Read<T> {
    pub(super) value: T,
    pub(super) held: [Held; 2],
}

/// Reads a body of at most `max_bytes`, decodes it to at most `max_bytes` and parses that.
pub(super) async fn read<T: Send + 'static>(
    relay: &Relay,
    Sent { bucket, headers, body }: Sent<'_>,
    max_bytes: usize,
    parse: impl FnOnce(Bytes) -> Result<T, ApiError> + Send + 'static,
) -> Result<Read<T>, ApiError> {
    let coding = Coding::of(headers)?;
    let timeout = relay.limits.body_timeout;
    let memory = relay.body_memory.of(bucket);
    let (coded, read) = read_held(body, max_bytes, timeout, memory).await?;
    let decoded = decoded_bytes(coding, &coded, max_bytes);
    let decoded = relay.decoding_memory.of(bucket).wait_for(decoded).await;
    let size = if coding == Coding::Identity { coded.len() } else { IN_PLACE_BYTES + 1 };
    // The memory goes along: what was begun is done to its end, also when the client has left.
    heavy(size, move || -> Result<Read<T>, ApiError> {
        let value = parse(decode(coding, coded, max_bytes)?)?;
        Ok(Read { value, held: [read, decoded] })
    })
    .await?
}

/// Does work on `bytes` bytes: in place if they are few, else on a thread that may be busy.
pub(super) async fn heavy<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    if bytes <= IN_PLACE_BYTES {
        return Ok(work());
    }
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.map_err(|error| ApiError::Unavailable { cause: format!("a worker thread: {error}") })
}

/// A number of seconds that makes sense for a lease.
pub(super) fn lease_time(asked: Duration) -> Result<Duration, ApiError> {
    const SHORTEST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(3600);
    if asked.is_zero() {
        return Err(ApiError::BadRequest("a lease lasts from 1s to 1h".to_owned()));
    }
    Ok(asked.clamp(SHORTEST, LONGEST))
}
