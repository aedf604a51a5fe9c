//! The one way to read a body.
//!
//! Promises: never more than the limit in memory; a declared length over the limit is refused before a byte is read; a
//! body that came in one piece is not copied; a peer that stalls, or trickles for ever, is given up.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::memory::{BodyMemory, Held};

/// The slowest that a body may come on average, so that a peer cannot hold a connection with a byte now and then.
const MIN_BYTES_PER_SECOND: u64 = 1024;

/// The first reservation for a body; a bigger one grows as its bytes arrive, so that a declared length reserves nothing.
const FIRST_RESERVE_BYTES: usize = 1024 * 1024;

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than the limit, or says so.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It came too slowly.
    #[error("the body came too slowly")]
    Timeout,
    /// Others take all the memory that there is for bodies.
    #[error("the memory for bodies is used up")]
    NoMemory,
    /// The connection broke, or the peer broke the protocol.
    #[error("the body is incomplete: {0}")]
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

/// Reads a whole body of at most `max_bytes`; each piece of it may take `timeout_per_chunk`.
///
/// # Errors
/// See [`BodyError`]. After an error the rest of the body is unread: the connection cannot be used again.
pub async fn read_capped<B>(
    body: B,
    max_bytes: usize,
    timeout_per_chunk: Duration,
) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    read(body, max_bytes, timeout_per_chunk, |_bytes| true).await
}

/// As [`read_capped`], of a client that shares `memory` with others. It is held for as long as the second part lives.
///
/// # Errors
/// See [`BodyError`].
pub async fn read_held<B>(
    body: B,
    max_bytes: usize,
    timeout_per_chunk: Duration,
    memory: &BodyMemory,
) -> Result<(Bytes, Held), BodyError>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let mut held = memory.begin();
    let body = read(body, max_bytes, timeout_per_chunk, |bytes| held.grow_to(bytes)).await?;
    Ok((body, held))
}

async fn read<B>(
    body: B,
    max_bytes: usize,
    timeout_per_chunk: Duration,
    mut has_memory: impl FnMut(usize) -> bool,
) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let too_large = || BodyError::TooLarge { limit: max_bytes };
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > max_bytes {
        return Err(too_large());
    }
    let mut body = std::pin::pin!(body);
    let started = Instant::now();
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while !body.is_end_stream() {
        let received = first.len() + all.len();
        let deadline = deadline(started, received, timeout_per_chunk);
        let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
            Err(_elapsed) => return Err(BodyError::Timeout),
            Ok(None) => break,
            Ok(Some(frame)) => frame.map_err(|error| BodyError::Broken(error.into()))?,
        };
        // Trailers are not data.
        let Ok(data) = frame.into_data() else { continue };
        if received + data.len() > max_bytes {
            return Err(too_large());
        }
        if !has_memory(received + data.len()) {
            return Err(BodyError::NoMemory);
        }
        if received == 0 {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.reserve(
                declared
                    .clamp(received + data.len(), FIRST_RESERVE_BYTES.max(received + data.len())),
            );
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn deadline(started: Instant, received: usize, timeout_per_chunk: Duration) -> Instant {
    let earned = Duration::from_secs(received as u64 / MIN_BYTES_PER_SECOND);
    (Instant::now() + timeout_per_chunk).min(started + timeout_per_chunk + earned)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body::{Frame, SizeHint};
    use http_body_util::Full;
    use tokio::time::{Sleep, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Gives its pieces, each after a pause.
    struct Slow {
        pieces: Vec<&'static str>,
        pause: Duration,
        clock: Pin<Box<Sleep>>,
        declared: u64,
    }

    fn slow(pieces: &[&'static str], pause: Duration) -> Slow {
        let mut pieces = pieces.to_vec();
        pieces.reverse();
        Slow { pieces, pause, clock: Box::pin(sleep(pause)), declared: 0 }
    }

    impl Body for Slow {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.clock.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.clock = Box::pin(sleep(self.pause));
            Poll::Ready(
                self.pieces
                    .pop()
                    .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))),
            )
        }

        fn size_hint(&self) -> SizeHint {
            let mut hint = SizeHint::new();
            hint.set_lower(self.declared);
            hint
        }
    }

    async fn check<B>(body: B, max_bytes: usize, expected: Result<&str, &str>)
    where
        B: Body<Data = Bytes, Error = Infallible>,
    {
        let read = read_capped(body, max_bytes, SECOND).await;
        let read = read
            .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
            .map_err(|error| error.to_string());
        assert_eq!(read, expected.map(str::to_owned).map_err(str::to_owned));
    }

    #[tokio::test(start_paused = true)]
    async fn sizes() {
        check(Full::from("12345"), 5, Ok("12345")).await;
        check(Full::from(""), 0, Ok("")).await;
        check(Full::from("123456"), 5, Err("the body is larger than 5 bytes")).await;
        check(slow(&["123", "45"], Duration::ZERO), 5, Ok("12345")).await;
        check(slow(&["123", "", "456"], Duration::ZERO), 5, Err("the body is larger than 5 bytes"))
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_declared_length_over_the_limit_is_refused_unread() {
        let mut body = slow(&["1"], Duration::from_secs(3600));
        body.declared = 6;
        let started = Instant::now();
        check(body, 5, Err("the body is larger than 5 bytes")).await;
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_body_is_given_up() {
        check(slow(&["1", "2"], SECOND * 2), 5, Err("the body came too slowly")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickled_body_is_given_up() {
        let started = Instant::now();
        check(slow(&["1"; 100], SECOND / 2), 1000, Err("the body came too slowly")).await;
        assert_eq!(started.elapsed(), SECOND);
    }

    #[tokio::test]
    async fn one_piece_is_not_copied() {
        let data = Bytes::from(vec![7_u8; 4096]);
        let read = read_capped(Full::new(data.clone()), 4096, SECOND).await.unwrap();
        assert_eq!(read.as_ptr(), data.as_ptr());
    }
}
