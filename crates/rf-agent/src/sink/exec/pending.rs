//! Events that the program has and has not answered.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::sink::SinkError;

/// Where the answer to an event goes.
pub(super) type Answer = oneshot::Sender<Result<(), SinkError>>;

/// Where the answers go, by the event's id. Somebody waits for most of them; of events whose time was up they are kept until
/// there are too many. Invariant: there are at most `most`, or as many as somebody waits for if those are more.
pub(super) struct Pending {
    /// With the time when the program got the event.
    answers: HashMap<u64, (Instant, Answer)>,
    most: usize,
    /// Since when the program owes an answer and has given none at all.
    silent_since: Option<Instant>,
}

impl Pending {
    /// So many are waited for at a time.
    pub(super) fn new(most: usize) -> Self {
        Self { answers: HashMap::new(), most, silent_since: None }
    }

    /// The program gets this event.
    pub(super) fn insert(&mut self, id: u64, answer: Answer) {
        if self.answers.len() >= self.most {
            self.forget_given_up();
        }
        let now = Instant::now();
        self.silent_since.get_or_insert(now);
        self.answers.insert(id, (now, answer));
    }

    /// Whether nobody waits for an answer.
    pub(super) fn is_empty(&self) -> bool {
        self.answers.values().all(|(_, answer)| answer.is_closed())
    }

    /// Since when the program owes an answer and has given none at all.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.silent_since
    }

    /// The program has answered.
    pub(super) fn tell(&mut self, id: u64, outcome: Result<(), SinkError>) {
        if let Some((_, answer)) = self.answers.remove(&id) {
            tell(answer, outcome);
        }
        // Any answer is a sign of life, also one that comes too late.
        self.silent_since = (!self.is_empty()).then(Instant::now);
    }

    /// The program hangs: that counts for the event that it has had for longest, and not for those behind it. It would have
    /// answered what came before the one that it hangs at.
    pub(super) fn give_up(&mut self, timeout: Duration, why: &str) {
        let waiting = self.answers.values().filter(|(_, answer)| !answer.is_closed());
        let oldest = waiting.map(|(since, _)| *since).min();
        for (_, (since, answer)) in self.answers.drain() {
            let reason = why.to_owned();
            let counts = Some(since) == oldest && since.elapsed() >= timeout;
            tell(
                answer,
                Err(if counts {
                    SinkError::Retry { reason, after: None }
                } else {
                    SinkError::Away(reason)
                }),
            );
        }
    }

    /// The program will answer nothing more.
    pub(super) fn tell_all(&mut self, outcome: impl Fn() -> Result<(), SinkError>) {
        self.answers.drain().for_each(|(_, (_, answer))| tell(answer, outcome()));
    }

    /// An event whose time was up may never come again: by then it can be a dead letter.
    fn forget_given_up(&mut self) {
        self.answers.retain(|_, (_, answer)| !answer.is_closed());
    }
}

/// Tells whoever waits for the answer.
pub(super) fn tell(answer: Answer, outcome: Result<(), SinkError>) {
    // Whoever asked has given up waiting.
    answer.send(outcome).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_are_never_answered_are_not_kept_for_ever() {
        let mut pending = Pending::new(3);
        let (answer, mut answered) = oneshot::channel();
        pending.insert(1, answer);
        for id in 2..100 {
            // Its time is up at once.
            let (answer, _) = oneshot::channel();
            pending.insert(id, answer);
            assert!(pending.answers.len() <= 3, "{id}");
        }
        assert!(!pending.is_empty());
        pending.tell(1, Ok(()));
        assert_eq!(answered.try_recv(), Ok(Ok(())));
        assert!(pending.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_is_silent_from_its_first_event_or_its_last_answer_on() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut pending = Pending::new(2);
        assert_eq!(pending.silent_since(), None);
        let (first, _first) = oneshot::channel();
        pending.insert(1, first);
        tokio::time::advance(second).await;
        let (answer, mut answered) = oneshot::channel();
        pending.insert(2, answer);
        assert_eq!(pending.silent_since(), Some(start));
        pending.tell(1, Ok(()));
        assert_eq!(pending.silent_since(), Some(start + second));
        let (at_once, mut told_at_once) = oneshot::channel();
        let (behind, mut told_behind) = oneshot::channel();
        tokio::time::advance(Duration::from_millis(1)).await;
        pending.insert(3, at_once);
        tokio::time::advance(second).await;
        pending.insert(4, behind);
        pending.give_up(second, "it hangs");
        let reason = || "it hangs".to_owned();
        let retry = Err(SinkError::Retry { reason: reason(), after: None });
        assert_eq!(answered.try_recv(), Ok(retry));
        assert_eq!(told_at_once.try_recv(), Ok(Err(SinkError::Away(reason()))));
        assert_eq!(told_behind.try_recv(), Ok(Err(SinkError::Away(reason()))));
        // Nobody waits for what it owes.
        let (given_up, _) = oneshot::channel();
        pending.insert(5, given_up);
        pending.tell(9, Ok(()));
        assert_eq!(pending.silent_since(), None);
    }
}
