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
        self.remember(key, Seen { since: now, last: now, phase: next, about: None });
        Some(note)
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
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Feeds messages, each with its second and key, and compares what the gate says.
    fn check(feed: &[(u64, u64, Option<Note>)]) {
        let begin = Instant::now();
        let mut gate = Gate::new(begin);
        for (second, key, expected) in feed {
            let now = begin + SECOND * u32::try_from(*second).expect("a small number");
            assert_eq!(gate.admit(*key, now), *expected, "key {key} at {second} s");
        }
    }

    /// How many of `lines` different messages pass at `now`.
    fn pass(gate: &mut Gate, keys: std::ops::Range<u64>, now: Instant) -> usize {
        keys.filter(|key| gate.admit(*key, now).is_some()).count()
    }

    #[test]
    fn the_third_time_is_muted_until_three_minutes_after_the_second() {
        check(&[
            (0, 1, Some(Note::Nothing)),
            (100, 1, Some(Note::MutedFromNow)),
            (101, 1, None),
            (279, 1, None),
            (280, 1, Some(Note::WasMuted(2))),
            (281, 1, Some(Note::MutedFromNow)),
            (282, 1, None),
        ]);
    }

    #[test]
    fn a_message_that_comes_seldom_is_never_muted() {
        check(&[
            (0, 1, Some(Note::Nothing)),
            (180, 1, Some(Note::Nothing)),
            (360, 1, Some(Note::Nothing)),
        ]);
    }

    #[test]
    fn a_mute_that_hid_nothing_is_not_mentioned() {
        check(&[
            (0, 1, Some(Note::Nothing)),
            (1, 1, Some(Note::MutedFromNow)),
            (181, 1, Some(Note::Nothing)),
        ]);
    }

    #[test]
    fn messages_do_not_mute_each_other() {
        check(&[
            (0, 1, Some(Note::Nothing)),
            (0, 2, Some(Note::Nothing)),
            (1, 1, Some(Note::MutedFromNow)),
            (2, 1, None),
            (2, 2, Some(Note::MutedFromNow)),
        ]);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let begin = Instant::now();
        let mut gate = Gate::new(begin);
        for key in 0..=MAX_SEEN as u64 {
            // Slow enough for the rate, all within one window.
            let now = begin + Duration::from_millis(key * 10);
            assert_eq!(gate.admit(key, now), Some(Note::Nothing));
        }
        assert_eq!(gate.seen.len(), MAX_SEEN);
        let now = begin + SECOND * 20;
        assert_eq!(gate.admit(1, now), Some(Note::MutedFromNow), "the second oldest is known");
        assert_eq!(gate.admit(0, now), Some(Note::Nothing), "the oldest was forgotten");
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let begin = Instant::now();
        let mut gate = Gate::new(begin);
        assert_eq!(pass(&mut gate, 0..5_000, begin), BURST_LINES as usize);
        assert_eq!(pass(&mut gate, 5_000..10_000, begin + SECOND), LINES_PER_SECOND as usize);
        let quiet = begin + SECOND * 60;
        assert_eq!(pass(&mut gate, 10_000..15_000, quiet), BURST_LINES as usize);
    }

    #[test]
    fn suppressed_lines_are_counted_once_and_announced_at_most_once_a_second() {
        let begin = Instant::now();
        let mut gate = Gate::new(begin);
        assert_eq!(gate.take_suppressed(begin), None);
        pass(&mut gate, 0..1_500, begin);
        assert_eq!(gate.take_suppressed(begin), Some(500));
        pass(&mut gate, 2_000..2_100, begin);
        assert_eq!(gate.take_suppressed(begin + SECOND / 2), None);
        assert_eq!(gate.take_suppressed(begin + SECOND), Some(100));
        assert_eq!(gate.take_suppressed(begin + SECOND * 2), None);
    }

    fn about(message: &str) -> About {
        let fields = Fields { message: message.to_owned(), values: Vec::new() };
        About { level: Level::WARN, target: "t", fields }
    }

    /// Shows a message twice, so that it is muted, and then hides it `hidden` times, each a second after the one before.
    fn mute(gate: &mut Gate, key: u64, hidden: u32, now: Instant) {
        assert_eq!(gate.admit(key, now), Some(Note::Nothing));
        assert_eq!(gate.admit(key, now), Some(Note::MutedFromNow));
        gate.describe(key, about(&key.to_string()));
        for time in 1..=hidden {
            assert_eq!(gate.admit(key, now + SECOND * time), None);
        }
    }

    #[test]
    fn a_mute_that_ends_in_silence_is_told_once() {
        let begin = Instant::now();
        let mut gate = Gate::new(begin);
        mute(&mut gate, 1, 7, begin);
        mute(&mut gate, 2, 0, begin);
        assert_eq!(gate.take_ended(begin + SECOND * 179), []);
        assert!(gate.is_muting());
        let note = Note::MuteEnded(7, SECOND * 173);
        assert_eq!(gate.take_ended(begin + SECOND * 180), [(about("1"), note)]);
        assert!(!gate.is_muting());
        assert_eq!(gate.take_ended(begin + SECOND * 181), []);
        assert_eq!(gate.admit(1, begin + SECOND * 182), Some(Note::Nothing), "it begins anew");
    }

    #[test]
    fn many_mutes_that_end_at_once_are_bounded_as_all_lines_are() {
        let begin = Instant::now();
        let mut gate = Gate::new(begin);
        for key in 0..900 {
            let now = begin + SECOND / 10 * u32::try_from(key).expect("a small number");
            mute(&mut gate, key, 1, now);
        }
        let end = begin + SECOND * 600;
        assert_eq!(pass(&mut gate, 5_000..5_600, end), 600);
        let told = gate.take_ended(end).len() as u64;
        assert_eq!(told, u64::from(BURST_LINES) - 600);
        assert!(gate.take_suppressed(end).is_some_and(|lines| lines >= 300), "the rest is counted");
    }

    #[test]
    fn a_mute_that_is_forgotten_early_is_told() {
        let begin = Instant::now();
        let mut gate = Gate::new(begin);
        mute(&mut gate, 0, 3, begin);
        for key in 1..=MAX_SEEN as u64 {
            assert!(gate.admit(key, begin + Duration::from_millis(key * 10)).is_some());
        }
        let note = Note::MuteEnded(3, SECOND * 17);
        assert_eq!(gate.take_ended(begin + SECOND * 20), [(about("0"), note)]);
    }

    #[test]
    fn a_suppressed_message_does_not_count_as_seen() {
        let begin = Instant::now();
        let mut gate = Gate::new(begin);
        pass(&mut gate, 0..u64::from(BURST_LINES), begin);
        let important = 9_999;
        assert_eq!(gate.admit(important, begin), None);
        assert_eq!(gate.admit(important, begin), None);
        assert_eq!(gate.admit(important, begin + SECOND), Some(Note::Nothing));
    }
}
