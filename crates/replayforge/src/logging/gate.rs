//! Which lines may pass: muting of identical messages, then a bound on the rate of all.
//!
//! Pure but for the time, which is passed in. A line that the rate suppresses does not count as
//! seen: otherwise a message could be muted without ever having been shown.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Level;

use super::fields::Fields;

/// For how long an identical message is muted after its second time.
const MUTE_WINDOW: Duration = Duration::from_secs(3 * 60);

/// So many changes of state of one kind pass in a window; what flaps more often is muted as everything else is.
const MAX_CHANGES: u32 = 20;

/// How many messages are remembered; beyond it the oldest is forgotten, so its next time is its
/// first.
const MAX_SEEN: usize = 1024;

/// Lines a second of all messages together, in the long run.
const LINES_PER_SECOND: u32 = 200;

/// Lines that may pass at once after a quiet time.
const BURST_LINES: u32 = 1000;

const LINE_INTERVAL: Duration = Duration::from_micros(1_000_000 / LINES_PER_SECOND as u64);

/// How often suppressed lines are announced at most, since under a flood each announcement is a
/// line too.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);

/// What a line that passes says about the ones that do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    Nothing,
    /// From now on this message is muted.
    MutedFromNow,
    /// The mute is over; so many were muted.
    WasMuted(u64),
    /// The mute is over without the message; so many were muted, the last of them so long ago.
    MuteEnded(u64, Duration),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::MutedFromNow => write!(f, " (muted for {} minutes)", MUTE_WINDOW.as_secs() / 60),
            Self::WasMuted(1) => f.write_str(" (was muted once)"),
            Self::WasMuted(count) => write!(f, " (was muted {count} times)"),
            Self::MuteEnded(count, ago) => {
                let times = if *count == 1 { "once".to_owned() } else { format!("{count} times") };
                write!(f, " (was muted {times}, last {} s ago)", ago.as_secs())
            }
        }
    }
}

/// What a line that tells of a change of state says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Something does not work any more.
    Down,
    /// It works again.
    Up,
}

/// A message, as far as it is needed to say later how often it was muted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct About {
    pub(crate) level: Level,
    pub(crate) target: &'static str,
    pub(crate) fields: Fields,
}

/// Decides for each line whether it passes.
#[derive(Debug)]
pub(crate) struct Gate {
    seen: HashMap<u64, Seen>,
    /// The bucket of tokens as one instant: how far ahead of the clock the lines that passed have
    /// used up the rate.
    used_until: Instant,
    suppressed: u64,
    announced_at: Option<Instant>,
    /// Mutes that were forgotten before their end.
    forgotten: Vec<Hidden>,
}

impl Gate {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            seen: HashMap::new(),
            used_until: now,
            suppressed: 0,
            announced_at: None,
            forgotten: Vec::new(),
        }
    }

    /// May the line of the message `key` pass, and with which note?
    pub(crate) fn admit(&mut self, key: u64, now: Instant) -> Option<Note> {
        let (next, note) = match self.seen.get_mut(&key) {
            None => (Phase::Once, Note::Nothing),
            Some(seen) if now.duration_since(seen.since) >= MUTE_WINDOW => match seen.phase {
                Phase::Once | Phase::Muted(0) => (Phase::Once, Note::Nothing),
                Phase::Muted(count) => (Phase::Once, Note::WasMuted(count)),
            },
            Some(Seen { phase: Phase::Muted(count), last, .. }) => {
                *count += 1;
                *last = now;
                return None;
            }
            Some(Seen { phase: Phase::Once, .. }) => (Phase::Muted(0), Note::MutedFromNow),
        };
        if !self.take_token(now) {
            self.suppress(1);
            return None;
        }
        let changes = self.changes(key, now);
        self.remember(key, Seen { since: now, last: now, phase: next, about: None, changes });
        Some(note)
    }

    /// The same for a line that tells of a change of state: it is not muted, and the next time that the same is said without
    /// a change is the second time.
    pub(crate) fn admit_change(&mut self, key: u64, now: Instant) -> Option<Note> {
        let mut changes = self.changes(key, now);
        if changes.count >= MAX_CHANGES {
            return self.admit(key, now);
        }
        if !self.take_token(now) {
            self.suppress(1);
            return None;
        }
        changes.count += 1;
        let note = match self.seen.get(&key).map(|seen| seen.phase) {
            None | Some(Phase::Once | Phase::Muted(0)) => Note::Nothing,
            Some(Phase::Muted(count)) => Note::WasMuted(count),
        };
        let phase = Phase::Once;
        self.remember(key, Seen { since: now, last: now, phase, about: None, changes });
        Some(note)
    }

    /// How often the message has told of a change within the window.
    fn changes(&self, key: u64, now: Instant) -> Changes {
        let known = self.seen.get(&key).map(|seen| seen.changes);
        known
            .filter(|changes| now.duration_since(changes.since) < MUTE_WINDOW)
            .unwrap_or(Changes { since: now, count: 0 })
    }

    /// What these muted messages say is over: how often they were hidden is not told any more.
    pub(crate) fn settle(&mut self, is_over: impl Fn(&About) -> bool) {
        for seen in self.seen.values_mut() {
            if let (Phase::Muted(count), Some(about)) = (&mut seen.phase, &seen.about)
                && is_over(about)
            {
                *count = 0;
            }
        }
        self.forgotten.retain(|hidden| !is_over(&hidden.about));
    }

    /// Says what the message `key` is, whose mute has just been announced.
    pub(crate) fn describe(&mut self, key: u64, about: About) {
        if let Some(seen) = self.seen.get_mut(&key) {
            seen.about = Some(about);
        }
    }

    /// The mutes that are over, but for those that hid nothing. They are lines, too, so that of many at once some are
    /// suppressed.
    pub(crate) fn take_ended(&mut self, now: Instant) -> Vec<(About, Note)> {
        let over = |seen: &Seen| now.duration_since(seen.since) >= MUTE_WINDOW;
        let mut ended = std::mem::take(&mut self.forgotten);
        let silent = self.seen.extract_if(|_, seen| over(seen));
        ended.extend(silent.filter_map(|(_, seen)| seen.hidden()));
        ended.retain(|_| {
            let fits = self.take_token(now);
            self.suppressed += u64::from(!fits);
            fits
        });
        let note = |Hidden { about, count, last }| {
            (about, Note::MuteEnded(count, now.duration_since(last)))
        };
        ended.into_iter().map(note).collect()
    }

    /// Whether something is muted.
    pub(crate) fn is_muting(&self) -> bool {
        let muted = |seen: &Seen| matches!(seen.phase, Phase::Muted(_));
        !self.forgotten.is_empty() || self.seen.values().any(muted)
    }

    /// Counts lines that nobody could see.
    pub(crate) fn suppress(&mut self, lines: u64) {
        self.suppressed += lines;
    }

    /// How many lines were suppressed since the last answer, when it is time to say so.
    pub(crate) fn take_suppressed(&mut self, now: Instant) -> Option<u64> {
        let due = self.announced_at.is_none_or(|at| now.duration_since(at) >= ANNOUNCE_INTERVAL);
        if self.suppressed == 0 || !due {
            return None;
        }
        self.announced_at = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }

    fn take_token(&mut self, now: Instant) -> bool {
        let used_until = self.used_until.max(now) + LINE_INTERVAL;
        let fits = used_until.duration_since(now) <= LINE_INTERVAL * BURST_LINES;
        if fits {
            self.used_until = used_until;
        }
        fits
    }

    fn remember(&mut self, key: u64, seen: Seen) {
        if self.seen.len() >= MAX_SEEN && !self.seen.contains_key(&key) {
            // A scan of a thousand entries is cheaper than the line that is about to be written.
            let oldest = self.seen.iter().min_by_key(|(_, seen)| seen.since).map(|(key, _)| *key);
            let forgotten = oldest.and_then(|oldest| self.seen.remove(&oldest));
            match forgotten.and_then(Seen::hidden) {
                Some(hidden) if self.forgotten.len() < MAX_SEEN => self.forgotten.push(hidden),
                Some(_) => self.suppress(1),
                None => {}
            }
        }
        self.seen.insert(key, seen);
    }
}

/// A message that passed.
#[derive(Debug)]
struct Seen {
    /// When the phase began.
    since: Instant,
    /// When the message came last.
    last: Instant,
    phase: Phase,
    /// Of a muted one.
    about: Option<About>,
    changes: Changes,
}

/// How often a message has told of a change of state, and since when that is counted.
#[derive(Debug, Clone, Copy)]
struct Changes {
    since: Instant,
    count: u32,
}

impl Seen {
    fn hidden(self) -> Option<Hidden> {
        match self.phase {
            Phase::Once | Phase::Muted(0) => None,
            Phase::Muted(count) => Some(Hidden { about: self.about?, count, last: self.last }),
        }
    }
}

/// What a mute has hidden, how often, and when for the last time.
#[derive(Debug)]
struct Hidden {
    about: About,
    count: u64,
    last: Instant,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// It was shown, and the next time will be the second.
    Once,
    /// It is muted, and was so many times.
    Muted(u64),
}

#[cfg(test)]
mod tests;
