//! A message, and how a burst of them becomes one.

use serde_json::Value;

use crate::text::{Room, cut, one_line, without_breaks};

/// So many messages of a burst are shown; the others are counted.
const SHOWN: usize = 10;
const SUBJECT_CHARS: usize = 200;
/// What a service puts around a subject that stands above the text.
const AROUND_SUBJECT: usize = 8;

/// What a person is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Message {
    /// One line; may be empty.
    pub subject: String,
    /// The text.
    pub text: String,
}

impl Message {
    /// Reads `{"subject"?, "message"}`, or takes any other text as the message.
    ///
    /// # Errors
    /// What is missing: a message without a text tells nobody anything.
    pub fn from_body(body: &[u8]) -> Result<Self, String> {
        let parsed: Option<Value> = serde_json::from_slice(body).ok();
        let message = match parsed.as_ref().and_then(Value::as_object) {
            Some(object) if object.contains_key("message") => Self {
                subject: one_line(&plain(object.get("subject")), SUBJECT_CHARS),
                text: plain(object.get("message")),
            },
            _ => Self { subject: String::new(), text: String::from_utf8_lossy(body).into_owned() },
        };
        if message.text.trim().is_empty() && message.subject.is_empty() {
            return Err("the notification has no message: expected {\"subject\", \"message\"} or a text as the body".to_owned());
        }
        Ok(message)
    }

    /// Subject and text as one, for services without a subject.
    pub(crate) fn joined(&self, subject: impl Fn(&str) -> String) -> String {
        match (self.subject.is_empty(), self.text.is_empty()) {
            (true, _) => self.text.clone(),
            (false, true) => subject(&self.subject),
            (false, false) => format!("{}\n{}", subject(&self.subject), self.text),
        }
    }

    /// Heading and text, for services that must have a text: without one the subject is it.
    pub(crate) fn parts(&self) -> (Option<&str>, &str) {
        match (self.subject.as_str(), self.text.as_str()) {
            ("", text) => (None, text),
            (subject, text) if text.trim().is_empty() => (None, subject),
            (subject, text) => (Some(subject), text),
        }
    }

    /// Several messages as one that fits into `room`: the first ten on a line each, repeats counted, the others as a number.
    /// One that came several times is no list.
    #[must_use]
    pub(crate) fn grouped(messages: &[Self], room: Room) -> Self {
        let mut different: Vec<(&Self, usize)> = Vec::new();
        for message in messages {
            match different.iter_mut().find(|(known, _)| *known == message) {
                Some((_, count)) => *count += 1,
                None => different.push((message, 1)),
            }
        }
        if let [(only, count)] = different.as_slice() {
            return only.repeated(*count);
        }
        let same_subject = messages.iter().all(|message| message.subject == messages[0].subject);
        let subject = if same_subject && !messages[0].subject.is_empty() {
            format!("{} ({} times)", messages[0].subject, messages.len())
        } else {
            format!("{} notifications", messages.len())
        };
        let hidden: usize = different.iter().skip(SHOWN).map(|(_, count)| count).sum();
        different.truncate(SHOWN);
        let rest = if hidden > 0 { format!("\nand {hidden} more") } else { String::new() };
        let used = room.size(&subject) + AROUND_SUBJECT + room.size(&rest);
        let mut text = lines(&different, room, room.limit.saturating_sub(used)).join("\n");
        text.push_str(&rest);
        Self { subject, text }
    }

    fn repeated(&self, count: usize) -> Self {
        let subject = match (count, self.subject.as_str()) {
            (1, subject) => subject.to_owned(),
            (count, "") => format!("{count} times"),
            (count, subject) => format!("{subject} ({count} times)"),
        };
        Self { subject, text: self.text.clone() }
    }
}

/// A line for each message, as much of it as fits beside the others.
fn lines(messages: &[(&Message, usize)], room: Room, limit: usize) -> Vec<String> {
    let shown: Vec<(String, String)> = messages
        .iter()
        .map(|(message, count)| {
            let times = if *count > 1 { format!(" ({count} times)") } else { String::new() };
            (without_breaks(&message.joined(|subject| format!("{subject}:"))), times)
        })
        .collect();
    let around: usize = shown.iter().map(|(_, times)| room.size("- \n") + room.size(times)).sum();
    let sizes = shown.iter().map(|(text, _)| room.size(text)).collect();
    let share = fair_share(sizes, limit.saturating_sub(around));
    let line =
        |(text, times): &(String, String)| format!("- {}{times}", cut(text, share, room.measure));
    shown.iter().map(line).collect()
}

/// The most that each may take so that all fit into `limit`: what the short ones leave is shared by the long ones.
fn fair_share(mut sizes: Vec<usize>, limit: usize) -> usize {
    sizes.sort_unstable();
    let mut left = limit;
    for (place, size) in sizes.iter().enumerate() {
        let share = left / (sizes.len() - place);
        if *size > share {
            return share;
        }
        left -= size;
    }
    usize::MAX
}

/// A text as it is, anything else as its JSON.
fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::KINDS;

    const ROOM: Room = Room { limit: 2000, measure: char::len_utf16 };

    fn message(subject: &str, text: &str) -> Message {
        Message { subject: subject.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_body_is_an_object_with_a_message_or_any_text() {
        let check = |body: &str, expected: Result<Message, ()>| {
            assert_eq!(Message::from_body(body.as_bytes()).map_err(drop), expected, "{body}");
        };
        check(r#"{"subject":"disk","message":"full"}"#, Ok(message("disk", "full")));
        check(r#"{"message":"full"}"#, Ok(message("", "full")));
        check(
            r#"{"subject":"a\r\nBcc: x","message":{"a":1}}"#,
            Ok(message("a Bcc: x", r#"{"a":1}"#)),
        );
        check(r#"{"status":"bad"}"#, Ok(message("", r#"{"status":"bad"}"#)));
        check("the disk is full", Ok(message("", "the disk is full")));
        check("", Err(()));
        check(" \n", Err(()));
        check(r#"{"message":""}"#, Err(()));
    }

    #[test]
    fn a_burst_becomes_one_message_that_counts_what_it_does_not_show() {
        let burst: Vec<Message> =
            (0..27).map(|n| message("", &format!("host {n} is down"))).collect();
        let grouped = Message::grouped(&burst, ROOM);
        assert_eq!(grouped.subject, "27 notifications");
        assert!(
            grouped.text.starts_with("- host 0 is down\n- host 1 is down\n"),
            "{}",
            grouped.text
        );
        assert!(grouped.text.ends_with("\n- host 9 is down\nand 17 more"), "{}", grouped.text);
    }

    #[test]
    fn repeats_within_a_burst_are_counted_and_one_message_stays_as_it_is() {
        let (a, b) = (message("disk", "full"), message("disk", "a\nb"));
        assert_eq!(Message::grouped(std::slice::from_ref(&b), ROOM), b);
        let grouped = Message::grouped(&[a.clone(), b, a.clone(), a], ROOM);
        assert_eq!(grouped, message("disk (4 times)", "- disk: full (3 times)\n- disk: a b"));
    }

    #[test]
    fn one_that_came_several_times_is_no_list() {
        let check = |one: Message, expected: Message| {
            assert_eq!(Message::grouped(&vec![one; 8], ROOM), expected);
        };
        check(message("disk", "a\nb"), message("disk (8 times)", "a\nb"));
        check(message("", "full"), message("8 times", "full"));
        check(message("disk", ""), message("disk (8 times)", ""));
    }

    #[test]
    fn what_the_short_ones_leave_is_shared_by_the_long_ones() {
        let check = |sizes: &[usize], limit, expected| {
            assert_eq!(fair_share(sizes.to_vec(), limit), expected, "{sizes:?} {limit}");
        };
        check(&[10, 20, 30], 60, usize::MAX);
        check(&[10, 20, 30], 59, 29);
        check(&[500, 10, 500], 110, 50);
        check(&[500, 500, 500], 300, 100);
        check(&[5, 5], 0, 0);
        let long = "x".repeat(3000);
        let grouped = Message::grouped(&[message("", "short"), message("", &long)], ROOM);
        assert!(grouped.text.starts_with("- short\n- xxx"), "{}", grouped.text);
        assert!(grouped.text.len() > 1900, "{}", grouped.text.len());
    }

    #[test]
    fn a_group_fits_into_what_each_service_takes() {
        for kind in KINDS {
            for text in ["x", "🦀", "\"", "&", "@", "[a](b)", "ä b\n"] {
                let long = |n: usize| message(&format!("host {n}"), &text.repeat(5_000));
                let burst: Vec<Message> = (0..25).chain(0..3).map(long).collect();
                let grouped = Message::grouped(&burst, kind.room);
                let whole = grouped.joined(|subject| format!("**{subject}**"));
                let size = kind.room.size(&whole);
                assert!(size <= kind.room.limit, "{}, {text:?}: {size}", kind.name);
                assert!(size > kind.room.limit * 9 / 10, "{}, {text:?}: {size}", kind.name);
                assert!(whole.ends_with("\nand 15 more"), "{}, {text:?}", kind.name);
            }
        }
    }
}
