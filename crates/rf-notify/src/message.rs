//! A message, and how a burst of them becomes one.

use serde_json::Value;

use crate::text::one_line;

/// So many messages of a burst are shown; the others are counted.
const SHOWN: usize = 10;
/// As much of each is shown.
const SHOWN_CHARS: usize = 300;
const SUBJECT_CHARS: usize = 200;

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

    /// Several messages as one: the first ten on a line each, repeats counted, the others as a number.
    #[must_use]
    pub fn grouped(messages: &[Self]) -> Self {
        if let [one] = messages {
            return one.clone();
        }
        let mut different: Vec<(&Self, usize)> = Vec::new();
        for message in messages {
            match different.iter_mut().find(|(known, _)| *known == message) {
                Some((_, count)) => *count += 1,
                None => different.push((message, 1)),
            }
        }
        let mut lines: Vec<String> = different.iter().take(SHOWN).map(line).collect();
        let hidden: usize = different.iter().skip(SHOWN).map(|(_, count)| count).sum();
        if hidden > 0 {
            lines.push(format!("and {hidden} more"));
        }
        let same_subject = messages.iter().all(|message| message.subject == messages[0].subject);
        let subject = if same_subject && !messages[0].subject.is_empty() {
            format!("{} ({} times)", messages[0].subject, messages.len())
        } else {
            format!("{} notifications", messages.len())
        };
        Self { subject, text: lines.join("\n") }
    }
}

fn line((message, count): &(&Message, usize)) -> String {
    let shown = one_line(&message.joined(|subject| format!("{subject}:")), SHOWN_CHARS);
    let times = if *count > 1 { format!(" ({count} times)") } else { String::new() };
    format!("- {shown}{times}")
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
        let grouped = Message::grouped(&burst);
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
        assert_eq!(Message::grouped(std::slice::from_ref(&b)), b);
        let grouped = Message::grouped(&[a.clone(), b, a.clone(), a]);
        assert_eq!(grouped, message("disk (4 times)", "- disk: full (3 times)\n- disk: a b"));
    }
}
