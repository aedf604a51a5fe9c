//! `GET /tap`: the events of a bucket as they come in, without taking them.
//!
//! Promises: who taps changes nothing for anybody else: no lease, no cursor, nothing on disk; an append costs one look at a
//! number where nobody taps; a reader that is too slow misses events, is told how many, and holds up nobody.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header;
use parking_lot::Mutex;
use rf_core::clock::unix_ms;
use tokio::sync::mpsc;

use super::{ApiError, Relay};
use crate::auth::{TokenId, Tokens};
use crate::bucket::BucketName;

/// So many read along at a time; with one token half of them, unless there is no other.
const MAX_TAPS: usize = 16;
/// Events that wait for one reader; further ones are skipped.
const MAX_WAITING: usize = 4096;
/// Bytes of them.
const MAX_WAITING_BYTES: usize = 8 * 1024 * 1024;
/// An empty line after so long without an event, so that both sides notice when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Who reads along.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    /// Looked at by every append.
    open: AtomicUsize,
    by_bucket: Mutex<HashMap<BucketName, Vec<Arc<Tap>>>>,
}

#[derive(Debug)]
struct Tap {
    token: TokenId,
    events: mpsc::Sender<Bytes>,
    waiting_bytes: AtomicUsize,
    skipped: AtomicU64,
}

impl Taps {
    /// Whether an append has to be told.
    pub(super) fn any(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// These were stored.
    pub(super) fn tell(&self, bucket: &BucketName, events: &[Bytes]) {
        let taps = self.by_bucket.lock().get(bucket).cloned().unwrap_or_default();
        for tap in taps {
            events.iter().for_each(|event| tap.offer(event));
        }
    }

    fn open(self: &Arc<Self>, bucket: BucketName, tokens: &Tokens) -> Result<Reader, ApiError> {
        let (events, receiver) = mpsc::channel(MAX_WAITING);
        let token = tokens.id_of(&bucket);
        let (waiting_bytes, skipped) = (AtomicUsize::new(0), AtomicU64::new(0));
        let tap = Arc::new(Tap { token, events, waiting_bytes, skipped });
        let mut by_bucket = self.by_bucket.lock();
        if self.open.load(Ordering::Relaxed) >= MAX_TAPS {
            return Err(ApiError::Busy("too many clients are tapping already"));
        }
        let of_token = by_bucket.values().flatten().filter(|open| open.token == token).count();
        if of_token >= tokens.share_of(MAX_TAPS) {
            return Err(ApiError::Busy("too many clients are tapping with this token already"));
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        by_bucket.entry(bucket.clone()).or_default().push(Arc::clone(&tap));
        drop(by_bucket);
        Ok(Reader { taps: Arc::clone(self), bucket, tap, receiver })
    }
}

impl Tap {
    fn offer(&self, event: &[u8]) {
        let before = self.waiting_bytes.fetch_add(event.len(), Ordering::Relaxed);
        let fits = before + event.len() <= MAX_WAITING_BYTES;
        match self.events.try_reserve() {
            // A copy: a slice would keep the whole body that the event came in, for as long as it waits.
            Ok(place) if fits => place.send(Bytes::copy_from_slice(event)),
            _ => {
                self.waiting_bytes.fetch_sub(event.len(), Ordering::Relaxed);
                self.skipped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The reading end; dropped, it is not told any more.
struct Reader {
    taps: Arc<Taps>,
    bucket: BucketName,
    tap: Arc<Tap>,
    receiver: mpsc::Receiver<Bytes>,
}

impl Reader {
    /// The next line.
    async fn next(&mut self) -> Option<Bytes> {
        let skipped = self.tap.skipped.swap(0, Ordering::Relaxed);
        if skipped > 0 {
            return Some(format!("{{\"skipped\":{skipped}}}\n").into());
        }
        match tokio::time::timeout(KEEP_ALIVE, self.receiver.recv()).await {
            Err(_elapsed) => Some(Bytes::from_static(b"\n")),
            Ok(event) => {
                let event = event?;
                self.tap.waiting_bytes.fetch_sub(event.len(), Ordering::Relaxed);
                Some(line(&event))
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut by_bucket = self.taps.by_bucket.lock();
        if let Some(taps) = by_bucket.get_mut(&self.bucket) {
            taps.retain(|tap| !Arc::ptr_eq(tap, &self.tap));
        }
        by_bucket.retain(|_, taps| !taps.is_empty());
        self.taps.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An event is text; where one is not, it is shown as far as it is.
fn line(event: &[u8]) -> Bytes {
    let line = serde_json::json!({ "atMs": unix_ms(), "content": String::from_utf8_lossy(event) });
    format!("{line}\n").into()
}

pub(super) async fn tap(
    State(relay): State<Arc<Relay>>,
    request: Request,
) -> Result<Response, ApiError> {
    let bucket = relay.tokens.bucket(request.headers())?;
    let reader = relay.taps.open(bucket, &relay.tokens)?;
    let stop = relay.stop.clone();
    let lines = stream::unfold((reader, stop), async |(mut reader, stop)| {
        // `recv` loses nothing when it is dropped.
        let line = tokio::select! {
            line = reader.next() => line?,
            () = stop.cancelled() => return None,
        };
        Some((Ok::<Bytes, Infallible>(line), (reader, stop)))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

#[cfg(test)]
mod tests {
    use rf_core::config::Secret;

    use super::*;

    fn names() -> [BucketName; 3] {
        ["a", "b", "c"].map(|name| BucketName::new(name).unwrap())
    }

    fn tokens(secrets: [&str; 3]) -> Tokens {
        Tokens::new(names().iter().zip(&secrets.map(Secret::new)))
    }

    #[tokio::test]
    async fn what_waits_for_a_slow_reader_does_not_keep_the_body_that_it_came_in() {
        let taps = Arc::new(Taps::default());
        let [bucket, ..] = names();
        let mut reader = taps.open(bucket.clone(), &tokens(["one"; 3])).unwrap();
        let body = Bytes::from(vec![b'x'; 1000]);
        taps.tell(&bucket, &[body.slice(..3)]);
        assert!(body.is_unique());
        let line = reader.next().await.unwrap();
        assert!(line.ends_with(b"\"content\":\"xxx\"}\n"), "{line:?}");
    }

    #[test]
    fn one_token_leaves_half_of_the_places_to_others() {
        let check = |secrets: [&str; 3], expected: [usize; 3]| {
            let (taps, tokens) = (Arc::new(Taps::default()), tokens(secrets));
            let mut open = Vec::new();
            let mut take_all = |bucket: BucketName| {
                let before = open.len();
                while let Ok(reader) = taps.open(bucket.clone(), &tokens) {
                    open.push(reader);
                }
                open.len() - before
            };
            assert_eq!(names().map(&mut take_all), expected, "{secrets:?}");
            open.pop();
            let [.., last] = names();
            assert!(taps.open(last, &tokens).is_ok(), "a place is free again");
        };
        check(["one", "one", "two"], [8, 0, 8]);
        check(["one", "two", "three"], [8, 8, 0]);
        check(["one"; 3], [16, 0, 0]);
    }
}
