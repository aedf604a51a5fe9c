//! Events that the program has and has not answered.

use std::collections::HashMap;

use tokio::sync::oneshot;

use crate::sink::SinkError;

/// Where the answer to an event goes.
pub(super) type Answer = oneshot::Sender<Result<(), SinkError>>;

/// Where the answers go, by the event's id. Somebody waits for most of them; of events whose time was up they are kept until
/// there are too many. Invariant: there are at most `most`, or as many as somebody waits for if those are more.
pub(super) struct Pending {
    answers: HashMap<u64, Answer>,
    most: usize,
}

impl Pending {
    /// So many are waited for at a time.
    pub(super) fn new(most: usize) -> Self {
        Self { answers: HashMap::new(), most }
    }

    /// The program gets this event.
    pub(super) fn insert(&mut self, id: u64, answer: Answer) {
        if self.answers.len() >= self.most {
            self.forget_given_up();
        }
        self.answers.insert(id, answer);
    }

    /// Whether nobody waits for an answer.
    pub(super) fn is_empty(&self) -> bool {
        self.answers.values().all(Answer::is_closed)
    }

    /// The program has answered.
    pub(super) fn tell(&mut self, id: u64, outcome: Result<(), SinkError>) {
        if let Some(answer) = self.answers.remove(&id) {
            tell(answer, outcome);
        }
    }

    /// The program will answer nothing more.
    pub(super) fn tell_all(&mut self, outcome: impl Fn() -> Result<(), SinkError>) {
        self.answers.drain().for_each(|(_, answer)| tell(answer, outcome()));
    }

    /// An event whose time was up may never come again: by then it can be a dead letter.
    fn forget_given_up(&mut self) {
        self.answers.retain(|_, answer| !answer.is_closed());
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
}
