//! Sequences of lines, each with its second, and what the gate says.

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
fn a_change_of_state_is_not_muted_and_its_repeats_are() {
    let begin = Instant::now();
    let mut gate = Gate::new(begin);
    for second in (0..50).step_by(10) {
        let now = begin + SECOND * second;
        assert_eq!(gate.admit_change(1, now), Some(Note::Nothing));
        assert_eq!(gate.admit(1, now + SECOND), Some(Note::MutedFromNow));
        gate.describe(1, about("1"));
        assert_eq!(gate.admit(1, now + SECOND * 2), None);
        gate.settle(|about| about.fields.message == "1");
    }
    assert_eq!(gate.take_ended(begin + SECOND * 300), [], "all of it is over");
}

#[test]
fn a_change_of_state_tells_what_was_hidden_before_it() {
    let begin = Instant::now();
    let mut gate = Gate::new(begin);
    mute(&mut gate, 1, 4, begin);
    assert_eq!(gate.admit_change(1, begin + SECOND * 9), Some(Note::WasMuted(4)));
}

#[test]
fn what_flaps_is_muted_in_the_end_until_the_window_is_over() {
    let begin = Instant::now();
    let mut gate = Gate::new(begin);
    let notes: Vec<_> = (0..100).map(|n| gate.admit_change(1, begin + SECOND * n)).collect();
    let shown = MAX_CHANGES as usize;
    assert!(notes[..shown].iter().all(|note| *note == Some(Note::Nothing)), "{notes:?}");
    assert_eq!(notes[shown], Some(Note::MutedFromNow));
    assert!(notes[shown + 1..].iter().all(Option::is_none), "{notes:?}");
    let hidden = 100 - MAX_CHANGES - 1;
    let later = begin + SECOND * 180;
    assert_eq!(gate.admit_change(1, later), Some(Note::WasMuted(u64::from(hidden))));
    assert_eq!(gate.admit_change(1, later + SECOND), Some(Note::Nothing));
}

#[test]
fn only_what_is_over_is_settled() {
    let begin = Instant::now();
    let mut gate = Gate::new(begin);
    mute(&mut gate, 1, 3, begin);
    mute(&mut gate, 2, 5, begin);
    gate.settle(|about| about.fields.message == "1");
    let note = Note::MuteEnded(5, SECOND * 175);
    assert_eq!(gate.take_ended(begin + SECOND * 180), [(about("2"), note)]);
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
