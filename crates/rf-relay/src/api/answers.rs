//! Memory for events on their way out.
//!
//! An answer is in memory until its client has taken all of it, or has been cut off. Promises: all answers together take no
//! more than a bound; those of one bucket, and those of one token, no more than their part of it, so that who has the token of
//! one does not hold up the readers of all; the largest answer that there can be always fits once the others are gone.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use rf_core::protocol::MAX_PULLED_BYTES;
use rf_net::memory::{BodyMemory, Held};
use tokio::time::timeout;

use super::ApiError;
use super::shares::Shares;
use crate::auth::Tokens;
use crate::bucket::BucketName;

/// How long a pull waits for memory: other answers are taken within milliseconds, unless their readers hang.
const WAIT: Duration = Duration::from_secs(2);
/// Why a pull is refused.
const USED_UP: ApiError =
    ApiError::Busy("the memory for answers is used up (limits.bodyMemoryBytes)");

/// The memory that all answers share.
pub(crate) struct Answers {
    by_bucket: HashMap<BucketName, BodyMemory>,
}

/// Memory for one answer; given back when this is dropped.
pub(super) struct Reserved(Held);

impl Answers {
    /// `bytes` for the answers of the buckets that these tokens open.
    pub(crate) fn new(tokens: &Tokens, bytes: usize) -> Self {
        let bytes = bytes.max(2 * MAX_PULLED_BYTES);
        let shares = Shares::new(tokens, bytes, MAX_PULLED_BYTES);
        let of_one = |name: &BucketName| shares.of(name).part(bytes / 2, MAX_PULLED_BYTES);
        Self { by_bucket: tokens.ids().map(|(name, _)| (name.clone(), of_one(name))).collect() }
    }

    /// Memory for events of a bucket that are about to be read.
    ///
    /// # Errors
    /// [`ApiError::Busy`] when there is none for too long.
    pub(super) async fn reserve(
        &self,
        bucket: &BucketName,
        bytes: usize,
    ) -> Result<Reserved, ApiError> {
        let memory =
            self.by_bucket.get(bucket).expect("only buckets of the configuration are asked for");
        let held = timeout(WAIT, memory.wait_for(bytes)).await;
        held.map(Reserved).map_err(|_elapsed| USED_UP)
    }
}

impl Reserved {
    /// The answer, which holds the memory that it needs until its last byte has been handed to the system.
    ///
    /// # Errors
    /// [`ApiError::Busy`] when it is larger than what was reserved for it, and there is no more.
    pub(super) fn hold(mut self, answer: Bytes) -> Result<Bytes, ApiError> {
        self.grow_to(answer.len())?;
        self.0.shrink_to(answer.len());
        Ok(Bytes::from_owner(HeldAnswer { answer, _held: self }))
    }

    /// Takes what `bytes` need, where that is more than was reserved.
    ///
    /// # Errors
    /// [`ApiError::Busy`] when there is no more.
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<(), ApiError> {
        if self.0.grow_to(bytes) { Ok(()) } else { Err(USED_UP) }
    }
}

struct HeldAnswer {
    answer: Bytes,
    _held: Reserved,
}

impl AsRef<[u8]> for HeldAnswer {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

#[cfg(test)]
mod tests {
    use rf_core::config::Secret;

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn names() -> [BucketName; 3] {
        ["a", "b", "c"].map(|name| BucketName::new(name).unwrap())
    }

    fn answers(secrets: [&str; 3]) -> Answers {
        Answers::new(&Tokens::new(names().iter().zip(&secrets.map(Secret::new))), 0)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_what_it_needs_until_it_is_gone() {
        let [a, ..] = names();
        let answers = answers(["one"; 3]);
        let mut held = Vec::new();
        // Reserved are 8 MiB each, but only what the answers take is kept of it.
        for _ in 0..57 {
            let reserved = answers.reserve(&a, 8 * MIB).await.expect("memory");
            let answer = reserved.hold(vec![b'x'; MIB].into()).expect("memory");
            // A part of it is enough.
            held.push(answer.slice(10..20));
        }
        assert_eq!(answers.reserve(&a, 8 * MIB).await.err(), Some(USED_UP));
        assert!(answers.reserve(&a, 1000).await.is_ok(), "a small one takes nothing");
        held.clear();
        assert!(answers.reserve(&a, 64 * MIB).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn one_bucket_leaves_the_others_their_part_and_all_have_a_bound() {
        let [a, b, c] = names();
        let answers = answers(["one"; 3]);
        let of_a = answers.reserve(&a, MAX_PULLED_BYTES).await.expect("memory");
        assert_eq!(answers.reserve(&a, MIB).await.err(), Some(USED_UP));
        let of_b = answers.reserve(&b, MAX_PULLED_BYTES).await.expect("memory");
        assert_eq!(answers.reserve(&c, MIB).await.err(), Some(USED_UP), "both parts are all");
        drop(of_a);
        let of_a = answers.reserve(&a, MIB).await.expect("memory");
        let of_c = answers.reserve(&c, MIB).await.expect("memory");
        let larger = vec![0_u8; MAX_PULLED_BYTES].into();
        assert_eq!(of_c.hold(larger).err(), Some(USED_UP), "it grows only while there is room");
        drop((of_a, of_b));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_opens_many_buckets_leaves_the_others_their_part() {
        let [a, b, c] = names();
        let answers = answers(["one", "one", "two"]);
        let of_a = answers.reserve(&a, MAX_PULLED_BYTES).await.expect("memory");
        assert_eq!(answers.reserve(&b, MIB).await.err(), Some(USED_UP));
        assert!(answers.reserve(&c, MAX_PULLED_BYTES).await.is_ok());
        drop(of_a);
        assert!(answers.reserve(&b, MAX_PULLED_BYTES).await.is_ok());
    }
}
