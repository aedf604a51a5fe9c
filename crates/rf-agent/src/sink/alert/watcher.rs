//! What is known of one table, and what its events and its silence mean. Pure: time comes in, notices come out.

use serde::{Deserialize, Serialize};

/// Events that a window may hold: a bit each.
pub(super) const MAX_WINDOW: u32 = 64;
/// Longest status that is kept and told, in characters.
const MAX_STATUS_CHARS: usize = 200;

/// When a table is in alarm. Times are in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// So many bad events ..
    pub(super) bad: u32,
    /// .. of the last so many raise the alarm; the same number: in a row.
    pub(super) of: u32,
    /// An event must come at least so often, grace included.
    pub(super) heartbeat: Option<i64>,
    /// An alarm is told again so often.
    pub(super) reminder: Option<i64>,
}

/// What a person is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// Too many bad events.
    Bad,
    /// Good again, so long after the first bad event.
    Recovered(i64),
    /// No event for so long.
    Missing(i64),
    /// Events again, after so long without.
    Back(i64),
    /// Still bad after so long.
    StillBad(i64),
    /// Still no event after so long.
    StillMissing(i64),
}

/// A table's state; kept over restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watch {
    /// Of the last event; empty before the first.
    pub(super) status: String,
    /// The last status that was bad.
    pub(super) bad_status: String,
    /// Whether the last events were bad: the newest in the lowest bit.
    window: u64,
    /// When the last event came.
    pub(super) last_us: Option<i64>,
    /// When the first bad event after a good one came.
    bad_from_us: Option<i64>,
    /// Since when the table is in alarm for bad events.
    pub(super) bad_since_us: Option<i64>,
    /// Since when events are missing: the time of the last one.
    pub(super) missing_since_us: Option<i64>,
    /// When somebody was told of the alarm last; `None`: nobody was.
    bad_told_us: Option<i64>,
    missing_told_us: Option<i64>,
}

impl Watch {
    /// An event came. While `silenced` nothing is told; an alarm that is on afterwards is told then.
    pub(super) fn event(
        &mut self,
        rule: &Rule,
        status: &str,
        now: i64,
        silenced: bool,
    ) -> Vec<Notice> {
        let mut notices = Vec::new();
        if let Some(since) = self.missing_since_us.take() {
            let was_told = self.missing_told_us.take().is_some();
            if was_told && !silenced {
                notices.push(Notice::Back(now - since));
            }
        }
        let is_bad = !is_ok(status);
        self.status = status.chars().take(MAX_STATUS_CHARS).collect();
        self.last_us = Some(now);
        self.window = self.window << 1 | u64::from(is_bad);
        if is_bad {
            self.bad_status.clone_from(&self.status);
            self.bad_from_us.get_or_insert(now);
        }
        let bad = (self.window & mask(rule.of)).count_ones();
        if bad >= rule.bad {
            if self.bad_since_us.is_none() {
                self.bad_since_us = Some(self.bad_from_us.unwrap_or(now));
            }
        } else if !is_bad {
            let since = self.bad_since_us.take();
            let was_told = self.bad_told_us.take().is_some();
            if let (Some(since), true, false) = (since, was_told, silenced) {
                notices.push(Notice::Recovered(now - since));
            }
            // Bad events of before the good ones that ended the alarm do not count towards the next one.
            if since.is_some() {
                self.window = 0;
            }
        }
        if !is_bad && self.bad_since_us.is_none() {
            self.bad_from_us = None;
        }
        notices.extend(self.tell(rule, now, silenced));
        notices
    }

    /// Time has passed. `started` is when this program began to listen: what it could not hear before is not missing.
    pub(super) fn tick(
        &mut self,
        rule: &Rule,
        now: i64,
        started: i64,
        silenced: bool,
    ) -> Vec<Notice> {
        // Where the clock was set back, waiting for the times that it had before would last as long as that.
        for time in [&mut self.last_us, &mut self.bad_told_us, &mut self.missing_told_us] {
            *time = time.map(|time| time.min(now));
        }
        if let (Some(heartbeat), None) = (rule.heartbeat, self.missing_since_us) {
            let heard = self.last_us.unwrap_or(started).max(started);
            if now - heard > heartbeat {
                self.missing_since_us = Some(self.last_us.unwrap_or(started));
            }
        }
        if rule.heartbeat.is_none() {
            (self.missing_since_us, self.missing_told_us) = (None, None);
        }
        self.tell(rule, now, silenced)
    }

    /// Tells the alarms that are on and were not told, or not for long enough.
    fn tell(&mut self, rule: &Rule, now: i64, silenced: bool) -> Vec<Notice> {
        if silenced {
            return Vec::new();
        }
        let is_due = |told: Option<i64>| {
            told.is_none_or(|told| rule.reminder.is_some_and(|every| now - told >= every))
        };
        let mut notices = Vec::new();
        if let Some(since) = self.bad_since_us.filter(|_| is_due(self.bad_told_us)) {
            let is_first = self.bad_told_us.replace(now).is_none();
            notices.push(if is_first { Notice::Bad } else { Notice::StillBad(now - since) });
        }
        if let Some(since) = self.missing_since_us.filter(|_| is_due(self.missing_told_us)) {
            let is_first = self.missing_told_us.replace(now).is_none();
            let length = now - since;
            notices.push(if is_first {
                Notice::Missing(length)
            } else {
                Notice::StillMissing(length)
            });
        }
        notices
    }

    /// Bad events among those that the rule looks at.
    pub(super) fn bad_events(&self, rule: &Rule) -> u32 {
        (self.window & mask(rule.of)).count_ones()
    }

    /// In one word.
    pub(super) fn state(&self) -> &'static str {
        match (self.missing_since_us, self.bad_since_us, self.last_us) {
            (Some(_), ..) => "missing",
            (None, Some(_), _) => "bad",
            (None, None, None) => "waiting",
            (None, None, Some(_)) => "ok",
        }
    }
}

/// Whether a status is a good one: nothing, or `ok` in any case.
pub(super) fn is_ok(status: &str) -> bool {
    let status = status.trim();
    status.is_empty() || status.eq_ignore_ascii_case("ok")
}

fn mask(events: u32) -> u64 {
    1_u64.checked_shl(events).map_or(u64::MAX, |bit| bit - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { bad: 3, of: 3, heartbeat: None, reminder: None };

    /// Feeds events by letter (`b`ad, `g`ood) or lets a second pass (`.`), and writes what was told.
    fn play(rule: &Rule, events: &str) -> String {
        let mut watch = Watch::default();
        let mut told = String::new();
        for (at, event) in events.chars().enumerate() {
            let now = i64::try_from(at).unwrap() * 1_000_000;
            let silenced = event.is_uppercase();
            let notices = match event.to_ascii_lowercase() {
                'b' => watch.event(rule, "down", now, silenced),
                'g' => watch.event(rule, "OK", now, silenced),
                _ => watch.tick(rule, now, 0, event == '_'),
            };
            told.push(event);
            for notice in notices {
                let name = match notice {
                    Notice::Bad => "!bad",
                    Notice::Recovered(_) => "!recovered",
                    Notice::Missing(_) => "!missing",
                    Notice::Back(_) => "!back",
                    Notice::StillBad(_) => "!still-bad",
                    Notice::StillMissing(_) => "!still-missing",
                };
                told.push_str(name);
            }
            // A state that is stored and read is the same state.
            let stored = serde_json::to_string(&watch).unwrap();
            assert_eq!(serde_json::from_str::<Watch>(&stored).unwrap(), watch);
        }
        told
    }

    #[test]
    fn three_bad_ones_in_a_row_are_told_once_and_a_good_one_re_arms() {
        assert_eq!(play(&RULE, "gbbgbbbbbgbbb"), "gbbgbbb!badbbg!recoveredbbb!bad");
    }

    #[test]
    fn some_of_many() {
        let rule = Rule { bad: 3, of: 5, ..RULE };
        assert_eq!(play(&rule, "bgbgbgggg"), "bgbgb!badg!recoveredggg");
        assert_eq!(play(&rule, "bggbggbgg"), "bggbggbgg");
    }

    #[test]
    fn missing_events_are_told_once_and_re_armed_by_the_next() {
        let rule = Rule { heartbeat: Some(2_000_000), ..RULE };
        assert_eq!(play(&rule, "g......g....."), "g...!missing...g!back...!missing..");
    }

    #[test]
    fn reminders() {
        let rule = Rule { reminder: Some(3_000_000), ..RULE };
        assert_eq!(play(&rule, "bbb....."), "bbb!bad...!still-bad..");
    }

    #[test]
    fn silence_ends_with_what_is_still_on() {
        // Upper case and `_`: while silenced.
        assert_eq!(play(&RULE, "BBB_."), "BBB_.!bad");
        assert_eq!(play(&RULE, "BBBG.bbb"), "BBBG.bbb!bad");
        assert_eq!(play(&RULE, "bbbG.bbb"), "bbb!badG.bbb!bad");
    }

    #[test]
    fn a_clock_that_is_set_back_delays_no_alarm() {
        let rule = Rule { heartbeat: Some(60), reminder: Some(50), ..RULE };
        let mut watch = Watch::default();
        watch.event(&rule, "ok", 9000, false);
        assert_eq!(watch.tick(&rule, 100, 0, false), []);
        assert_eq!(watch.tick(&rule, 160, 0, false), []);
        assert_eq!(watch.tick(&rule, 161, 0, false), [Notice::Missing(61)]);
        assert_eq!(watch.tick(&rule, 20, 0, false), []);
        assert!(matches!(watch.tick(&rule, 70, 0, false)[..], [Notice::StillMissing(_)]));
    }

    #[test]
    fn durations_are_those_of_the_alarm() {
        let rule = Rule { heartbeat: Some(60), ..RULE };
        let mut watch = Watch::default();
        for now in [10, 20, 30] {
            watch.event(&rule, "down", now, false);
        }
        assert_eq!(watch.event(&rule, "ok", 110, false), [Notice::Recovered(100)]);
        assert_eq!(watch.tick(&rule, 200, 190, false), [], "heard again since the start only");
        assert_eq!(watch.tick(&rule, 251, 190, false), [Notice::Missing(141)]);
        assert_eq!(watch.event(&rule, "ok", 310, false), [Notice::Back(200)]);
    }
}
