//! `buildPayload`: a text with `{{subject}}` and `{{message}}`.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::message::Message;
use crate::text::json_escaped;

const SUBJECT: &str = "subject";
const MESSAGE: &str = "message";

/// What keeps a value within its place in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escape {
    /// As the inside of a JSON string.
    Json,
    /// As a value of a form.
    Form,
    /// As text or an attribute of XML or HTML.
    Markup,
    /// There are no places.
    None,
}

impl Escape {
    /// For a payload of this media type.
    pub(crate) fn of(media_type: &str) -> Self {
        let name = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is =
            |kind: &str| name.ends_with(&format!("/{kind}")) || name.ends_with(&format!("+{kind}"));
        if is("json") {
            Self::Json
        } else if name == "application/x-www-form-urlencoded" {
            Self::Form
        } else if is("xml") || is("html") {
            Self::Markup
        } else {
            Self::None
        }
    }

    fn apply(self, value: &str) -> Cow<'_, str> {
        match self {
            Self::Json => json_escaped(value).into(),
            Self::Form => utf8_percent_encode(value, NON_ALPHANUMERIC).into(),
            Self::Markup => value.chars().map(markup).collect::<String>().into(),
            Self::None => value.into(),
        }
    }
}

/// A character of a text in XML or HTML; most control characters must not be there at all.
fn markup(c: char) -> Cow<'static, str> {
    match c {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '"' => "&quot;".into(),
        '\'' => "&#39;".into(),
        '\t' | '\n' | '\r' => c.to_string().into(),
        c if c.is_control() => "\u{fffd}".into(),
        c => c.to_string().into(),
    }
}

/// A payload to be filled in.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    text: String,
    escape: Escape,
}

impl Template {
    /// Of a payload whose values are escaped like this.
    pub(crate) fn new(text: &str, escape: Escape) -> Self {
        Self { text: text.to_owned(), escape }
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
                    rendered.push_str(&self.escape.apply(value));
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
        let template = Template::new(
            r#"{"s":"{{subject}}","m":"{{ message }}","k":"{{other}}{{"}"#,
            Escape::Json,
        );
        let parsed: Value = serde_json::from_str(&template.render(&hostile)).unwrap();
        assert_eq!(parsed["s"], hostile.subject);
        assert_eq!(parsed["m"], hostile.text);
        assert_eq!(parsed["k"], "{{other}}{{");
        let plain = Template::new("{{subject}}: {{message}}", Escape::None);
        assert_eq!(plain.render(&hostile), format!("{}: {}", hostile.subject, hostile.text));
    }

    #[test]
    fn a_value_stays_in_its_place_in_every_type_of_payload() {
        let hostile = Message {
            subject: "a&admin=1 50%+ü".to_owned(),
            text: "</m><x a='\"'>\u{0}&\n".to_owned(),
        };
        let check = |media_type: &str, payload: &str, expected: &str| {
            let template = Template::new(payload, Escape::of(media_type));
            assert_eq!(template.render(&hostile), expected, "{media_type}");
        };
        let form = "application/x-www-form-urlencoded";
        check(form, "user=1&text={{subject}}", "user=1&text=a%26admin%3D1%2050%25%2B%C3%BC");
        let markup = "<m>&lt;/m&gt;&lt;x a=&#39;&quot;&#39;&gt;\u{fffd}&amp;\n</m>";
        for media_type in ["text/xml", "application/soap+xml; charset=utf-8", "TEXT/HTML"] {
            check(media_type, "<m>{{message}}</m>", markup);
        }
        check("application/problem+json", "\"{{message}}\"", r#""</m><x a='\"'>\u0000&\n""#);
        check("text/plain", "{{subject}}", &hostile.subject);
    }
}
