//! One batch through the script: what it becomes is one commit.

use std::collections::BTreeMap;

use bytes::Bytes;
use rf_core::trace::Step;
use rf_queue::{Append, Bury, Checkpoint, Commit, Letter, QueueId, Remove, StoredEvent};
use rf_script::{Emit, End, KvChange, OnError, Outcome, Session};
use uuid::Uuid;

use super::copies::tell_apart;
use super::handle::Tally;
use super::runner::Input;
use crate::trace::Trace;

/// Ids of copies that the journal names for an event.
const COPIES_TOLD: usize = 4;

/// What the script's thread knows of its source.
pub(super) struct Desk {
    /// The source's id.
    pub(super) source: String,
    /// Queues by the script's index of sinks.
    pub(super) sinks: Vec<QueueId>,
    /// Where an event goes that passes the script by.
    pub(super) routes: Vec<QueueId>,
    /// Where failures are listed.
    pub(super) letters: QueueId,
    pub(super) on_error: OnError,
    /// In front of the script's keys among the checkpoints.
    pub(super) kv_prefix: String,
    /// Names of `sinks`.
    pub(super) names: Vec<String>,
    pub(super) trace: Trace,
}

impl Desk {
    /// A value of the script as it is stored.
    pub(super) fn checkpoint(&self, key: &str, value: Option<Vec<u8>>) -> Checkpoint {
        Checkpoint { key: format!("{}{key}", self.kv_prefix), value }
    }
}

/// Adds later changes. Of a key that is changed again, what was there at first is still what was there before.
pub(super) fn add_changes(known: &mut BTreeMap<String, KvChange>, later: Vec<KvChange>) {
    for change in later {
        known
            .entry(change.key.clone())
            .and_modify(|known| known.value.clone_from(&change.value))
            .or_insert(change);
    }
}

/// What the events of one batch became so far.
pub(super) struct Work<'a> {
    desk: &'a Desk,
    appends: Vec<Append>,
    letters: Vec<Letter>,
    buried: Vec<Bury>,
    /// What was remembered, by key.
    kv: BTreeMap<String, KvChange>,
    tally: Tally,
}

impl<'a> Work<'a> {
    pub(super) fn new(desk: &'a Desk) -> Self {
        Self {
            desk,
            appends: Vec::new(),
            letters: Vec::new(),
            buried: Vec::new(),
            kv: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    pub(super) fn run(&mut self, session: &mut Session, input: &Input) {
        match input {
            Input::Batch(batch, _) => batch.events.iter().for_each(|e| self.event(session, e)),
            Input::Tick => self.tick(session),
            Input::Letters(letters) => letters.iter().for_each(|e| self.retried(session, e)),
        }
    }

    /// The host of the script has panicked: nothing that it had done counts.
    pub(super) fn panicked(&mut self, input: &Input) {
        let reason = "the host of the script panicked over this input; please report it";
        tracing::error!(source = self.desk.source, "{reason}");
        match input {
            Input::Batch(batch, _) => {
                batch.events.iter().for_each(|event| self.letter(event, reason.to_owned()));
            }
            Input::Tick => {}
            Input::Letters(letters) => {
                letters.iter().for_each(|event| self.bury(event, reason.to_owned()));
            }
        }
    }

    fn event(&mut self, session: &mut Session, content: &Bytes) {
        if let Some(reason) = self.process(session, content) {
            self.letter(content, reason);
        }
    }

    fn letter(&mut self, content: &Bytes, reason: String) {
        let (queue, content) = (self.desk.letters, content.clone());
        self.letters.push(Letter { queue, content, reason });
    }

    fn retried(&mut self, session: &mut Session, event: &StoredEvent) {
        if let Some(reason) = self.process(session, &event.content) {
            self.bury(event, reason);
        }
    }

    fn bury(&mut self, event: &StoredEvent, reason: String) {
        let (queue, id, attempts) = (self.desk.letters, event.id, event.attempts + 1);
        self.buried.push(Bury { queue, id, reason, attempts });
    }

    fn tick(&mut self, session: &mut Session) {
        match session.timer() {
            Ok(Outcome { end: End::Failed(reason), .. }) => {
                tracing::error!(source = self.desk.source, reason, "TimerHandler failed");
            }
            Ok(mut outcome) => {
                tell_apart(&mut outcome.emits);
                self.take(outcome);
            }
            Err(error) => {
                tracing::error!(source = self.desk.source, %error, "script cannot be reloaded");
            }
        }
    }

    /// Runs `Process`; a reason when the event belongs to the dead letters.
    fn process(&mut self, session: &mut Session, content: &Bytes) -> Option<String> {
        let mut outcome = match session.process(content) {
            Ok(outcome) => outcome,
            Err(error) => {
                return self.failed(content, format!("script cannot be reloaded: {error}"));
            }
        };
        let copies = tell_apart(&mut outcome.emits);
        match &outcome.end {
            End::Done => {
                self.tally.filtered += u64::from(outcome.emits.is_empty());
                self.trace_emits(content, &outcome.emits, &copies);
                self.take(outcome);
                None
            }
            End::Dropped(reason) => {
                self.trace(content, Step::Dropped, || format!("by the script: {reason}"));
                self.tally.dropped.push(reason.clone());
                self.take(outcome);
                None
            }
            End::Dead(reason) => {
                let reason = reason.clone();
                self.trace(content, Step::DeadLettered, || format!("by the script: {reason}"));
                tracing::warn!(
                    source = self.desk.source,
                    reason,
                    "script moved an event to the dead letters"
                );
                self.take(outcome);
                Some(reason)
            }
            End::Failed(reason) => self.failed(content, reason.clone()),
        }
    }

    fn failed(&mut self, content: &Bytes, reason: String) -> Option<String> {
        let source = &self.desk.source;
        match self.desk.on_error {
            OnError::DeadLetter => {
                tracing::error!(source, reason, "script failed, event moved to the dead letters");
                self.trace(content, Step::DeadLettered, || reason.clone());
                Some(reason)
            }
            OnError::Pass => {
                tracing::warn!(source, reason, "script failed, event passed on unchanged");
                self.trace(content, Step::Script, || {
                    format!("failed, passed on unchanged: {reason}")
                });
                for &queue in &self.desk.routes {
                    self.append(queue, content.clone());
                }
                None
            }
            OnError::Drop => {
                tracing::warn!(source, reason, "script failed, event dropped");
                self.tally.dropped_on_error += 1;
                self.trace(content, Step::Dropped, || format!("the script failed: {reason}"));
                None
            }
        }
    }

    /// For the journal, once it is committed; the word about it is made only if there is one.
    fn trace(&mut self, content: &[u8], step: Step, detail: impl FnOnce() -> String) {
        if let Some(id) = self.desk.trace.id(content) {
            self.tally.trace(id, step, detail());
        }
    }

    fn trace_emits(&mut self, content: &[u8], emits: &[Emit], copies: &[Uuid]) {
        let desk = self.desk;
        if emits.is_empty() {
            return self.trace(content, Step::Dropped, || "the script emitted nothing".to_owned());
        }
        self.trace(content, Step::Script, || {
            let mut names: Vec<&str> = emits
                .iter()
                .filter_map(|emit| desk.names.get(emit.sink))
                .map(String::as_str)
                .collect();
            names.dedup();
            let mut told = format!("emitted to {}", names.join(", "));
            if !copies.is_empty() {
                let ids: Vec<String> =
                    copies.iter().take(COPIES_TOLD).map(Uuid::to_string).collect();
                let rest = if copies.len() > COPIES_TOLD { ".." } else { "" };
                told = format!("{told}; further copies are {}{rest}", ids.join(", "));
            }
            told
        });
    }

    fn take(&mut self, outcome: Outcome) {
        for Emit { sink, content } in outcome.emits {
            if let Some(&queue) = self.desk.sinks.get(sink) {
                self.append(queue, content);
            }
        }
        add_changes(&mut self.kv, outcome.kv);
    }

    fn append(&mut self, queue: QueueId, content: Bytes) {
        self.tally.emitted += 1;
        match self.appends.iter_mut().find(|append| append.queue == queue) {
            Some(append) => append.events.push(content),
            None => self.appends.push(Append { queue, events: vec![content] }),
        }
    }

    /// Everything as one commit; what is to be remembered in it; and what is counted once it stands.
    pub(super) fn finish(self, input: Input) -> (Commit, Vec<KvChange>, Tally) {
        let dead_lettered = (self.letters.len() + self.buried.len()) as u64;
        let tally = Tally { dead_lettered, ..self.tally };
        let mut commit = Commit {
            appends: self.appends,
            letters: self.letters,
            dead: self.buried,
            ..Commit::default()
        };
        match input {
            Input::Batch(batch, batch_id) => {
                commit.batch_id = batch_id;
                commit.checkpoints = batch.checkpoints;
            }
            Input::Tick => {}
            Input::Letters(letters) => {
                let buried = |id: u64| commit.dead.iter().any(|bury| bury.id == id);
                let ids: Vec<u64> =
                    letters.iter().map(|event| event.id).filter(|id| !buried(*id)).collect();
                commit.removes.push(Remove { queue: self.desk.letters, ids });
            }
        }
        (commit, self.kv.into_values().collect(), tally)
    }
}
