//! `buildPayload`: a text with `{{subject}}` and `{{message}}`.

use crate::message::Message;
use crate::text::json_escaped;

const SUBJECT: &str = "subject";
const MESSAGE: &str = "message";

/// A payload to be filled in.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    text: String,
    is_json: bool,
}

impl Template {
    /// In JSON the values are escaped as the inside of a JSON string.
    pub(crate) fn new(text: &str, is_json: bool) -> Self {
        Self { text: text.to_owned(), is_json }
    }

    /// Fills in both names in one pass: a message that contains `{{subject}}` shows just that.
    pub(crate) fn render(&self, message: &Message) -> String {
        let mut rendered = String::with_capacity(self.text.len() + message.text.len());
        let mut rest = self.text.as_str();
        while let Some((before, after)) = rest.split_once("{{") {
            rendered.push_str(before);
            let value = after.split_once("}}").and_then(|(name, behind)| match name.trim() {
                SUBJECT => Some((&message.subject, behind)),
                MESSAGE => Some((&message.text, behind)),
                _ => None,
            });
            match value {
                Some((value, behind)) => {
                    if self.is_json {
                        rendered.push_str(&json_escaped(value));
                    } else {
                        rendered.push_str(value);
                    }
                    rest = behind;
                }
                None => {
                    rendered.push_str("{{");
                    rest = after;
                }
            }
        }
        rendered.push_str(rest);
        rendered
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn values_are_escaped_and_never_filled_in_again() {
        let hostile = Message {
            subject: "a \"quoted\"\\ line\nbreak {{message}}".to_owned(),
            text: "</script>\u{0}\u{2028}, \"x\": 1 {{subject}}".to_owned(),
        };
        let template =
            Template::new(r#"{"s":"{{subject}}","m":"{{ message }}","k":"{{other}}{{"}"#, true);
        let parsed: Value = serde_json::from_str(&template.render(&hostile)).unwrap();
        assert_eq!(parsed["s"], hostile.subject);
        assert_eq!(parsed["m"], hostile.text);
        assert_eq!(parsed["k"], "{{other}}{{");
        let plain = Template::new("{{subject}}: {{message}}", false);
        assert_eq!(plain.render(&hostile), format!("{}: {}", hostile.subject, hostile.text));
    }
}
