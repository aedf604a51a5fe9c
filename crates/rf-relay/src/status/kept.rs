//! Long answers, kept for who asks again at once: so that a flood of questions costs no more than a share of a processor.
//!
//! Promise: making an answer anew waits until a hundred times the processor time that it took the last time has passed, 5 s
//! at the most. What is made quickly is never kept, so only large systems are ever shown a state that is not of this moment.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rf_core::clock::thread_time;
use tokio::time::Instant;

/// An answer may take this share of a processor: one hundredth.
const REST: u32 = 100;
/// However long it took, it is not shown for longer.
const OLDEST: Duration = Duration::from_secs(5);
/// Answers that are made in less are always of the moment.
const QUICK: Duration = Duration::from_millis(10);
/// Different answers that are kept.
const MAX_KEPT: usize = 4;

/// The answers.
#[derive(Default)]
pub(super) struct Kept(Mutex<Vec<Answer>>);

struct Answer {
    question: String,
    body: Bytes,
    until: Instant,
}

impl Kept {
    /// What was answered to the same question, while that is good.
    pub(super) fn get(&self, question: &str) -> Option<Bytes> {
        let now = Instant::now();
        let answers = self.0.lock();
        let good = |answer: &&Answer| answer.question == question && now < answer.until;
        answers.iter().find(good).map(|answer| answer.body.clone())
    }

    /// Makes an answer on this thread, unless there is one that is good.
    pub(super) fn get_or_make(&self, question: String, make: impl FnOnce() -> Bytes) -> Bytes {
        if let Some(body) = self.get(&question) {
            return body;
        }
        let begun = thread_time();
        let body = make();
        let took = thread_time().saturating_sub(begun);
        let mut answers = self.0.lock();
        let now = Instant::now();
        answers.retain(|answer| now < answer.until && answer.question != question);
        if let Some(until) = good_until(now, took)
            && answers.len() < MAX_KEPT
        {
            answers.push(Answer { question, body: body.clone(), until });
        }
        body
    }
}

fn good_until(now: Instant, took: Duration) -> Option<Instant> {
    (took >= QUICK).then(|| now + (took * REST).min(OLDEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spin(time: Duration) {
        let begun = thread_time();
        while thread_time() - begun < time {
            std::hint::spin_loop();
        }
    }

    fn ask(kept: &Kept, question: &str, costs: Duration, answer: &'static [u8]) -> Bytes {
        kept.get_or_make(question.to_owned(), || {
            spin(costs);
            Bytes::from_static(answer)
        })
    }

    #[tokio::test(start_paused = true)]
    async fn what_took_long_is_kept_and_what_did_not_is_made_anew() {
        let kept = Kept::default();
        assert_eq!(ask(&kept, "long", QUICK * 2, b"1"), "1");
        assert_eq!(ask(&kept, "long", QUICK * 2, b"2"), "1");
        assert_eq!(kept.get("long").as_deref(), Some(&b"1"[..]));
        assert_eq!(ask(&kept, "quick", Duration::ZERO, b"1"), "1");
        assert_eq!(ask(&kept, "quick", Duration::ZERO, b"2"), "2");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_good_for_a_hundred_times_as_long_and_five_seconds_at_the_most() {
        let kept = Kept::default();
        ask(&kept, "a", QUICK, b"1");
        ask(&kept, "b", QUICK * 6, b"1");
        tokio::time::advance(Duration::from_millis(900)).await;
        assert!(kept.get("a").is_some() && kept.get("b").is_some());
        tokio::time::advance(Duration::from_millis(4100)).await;
        assert!(kept.get("a").is_none() && kept.get("b").is_none());
        assert_eq!(ask(&kept, "a", QUICK, b"2"), "2");
    }

    #[tokio::test(start_paused = true)]
    async fn many_questions_take_no_more_memory() {
        let kept = Kept::default();
        for number in 0..2 * MAX_KEPT {
            ask(&kept, &number.to_string(), QUICK, b"x");
        }
        assert_eq!(kept.0.lock().len(), MAX_KEPT);
    }
}
