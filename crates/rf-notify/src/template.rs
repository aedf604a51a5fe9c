//! `buildPayload`: a text with `{{subject}}` and `{{message}}`.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;

use crate::message::Message;
use crate::text::json_escaped;

const SUBJECT: &str = "subject";
const MESSAGE: &str = "message";
const CDATA: &str = "<![CDATA[";
const CDATA_END: &str = "]]>";
/// Ends a section and begins the next: what stands before and behind is one text.
const CDATA_BREAK: &str = "]]><![CDATA[";

/// What keeps a value within its place in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escape {
    /// As the inside of a JSON string.
    Json,
    /// As a value of a form.
    Form,
    /// As the inside of a JSON string in a value of a form.
    JsonInForm,
    /// As text or an attribute of XML or HTML.
    Markup,
    /// The same, of XML alone: in HTML a section like that of [`Escape::Cdata`] ends with the first `>`.
    Xml,
    /// As text of XML that is not looked at for markup.
    Cdata,
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
        } else if is("xml") {
            Self::Xml
        } else if is("html") {
            Self::Markup
        } else {
            Self::None
        }
    }

    fn apply(self, value: &str) -> Cow<'_, str> {
        match self {
            Self::Json => json_escaped(value).into(),
            Self::Form => utf8_percent_encode(value, NON_ALPHANUMERIC).into(),
            Self::JsonInForm => {
                utf8_percent_encode(&json_escaped(value), NON_ALPHANUMERIC).to_string().into()
            }
            Self::Markup | Self::Xml => value.chars().map(markup).collect::<String>().into(),
            Self::Cdata => within_section(value).into(),
            Self::None => value.into(),
        }
    }
}

/// A character of a text in XML or HTML.
fn markup(c: char) -> Cow<'static, str> {
    match c {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '"' => "&quot;".into(),
        '\'' => "&#39;".into(),
        c => allowed(c).to_string().into(),
    }
}

/// A text in a section of XML, which it does not end: not by itself, nor together with what stands before or behind it.
fn within_section(value: &str) -> String {
    let allowed: String = value.chars().map(allowed).collect();
    let mut text = allowed.replace(CDATA_END, &format!("]]{CDATA_BREAK}>"));
    if text.starts_with([']', '>']) {
        text.insert_str(0, CDATA_BREAK);
    }
    if text.ends_with(']') {
        text.push_str(CDATA_BREAK);
    }
    text
}

/// Most control characters, and two that are none, must not be in XML at all.
fn allowed(c: char) -> char {
    match c {
        '\t' | '\n' | '\r' => c,
        '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// A payload to be filled in.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

/// A part of a payload whose values are escaped alike.
#[derive(Debug, Clone)]
struct Part {
    text: String,
    escape: Escape,
}

impl Template {
    /// Of a payload whose values are escaped like this, unless it shows that they have to be otherwise.
    pub(crate) fn new(text: &str, escape: Escape) -> Self {
        let parts = match escape {
            Escape::Form => text.split_inclusive('&').map(field).collect(),
            Escape::Xml => text.split_inclusive(CDATA_END).flat_map(marked_up).collect(),
            // The original has JSON sent as any type, and escapes it always.
            Escape::None if is_json(&filled(text)) => vec![Part::new(text, Escape::Json)],
            escape => vec![Part::new(text, escape)],
        };
        Self { parts }
    }

    /// Fills in both names in one pass: a message that contains `{{subject}}` shows just that.
    pub(crate) fn render(&self, message: &Message) -> String {
        let size = self.parts.iter().map(|part| part.text.len()).sum::<usize>();
        let mut rendered = String::with_capacity(size + message.text.len());
        self.parts.iter().for_each(|part| part.render(message, &mut rendered));
        rendered
    }
}

impl Part {
    fn new(text: &str, escape: Escape) -> Self {
        Self { text: text.to_owned(), escape }
    }

    fn render(&self, message: &Message, rendered: &mut String) {
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
    }
}

/// A field of a form. Its value may be JSON, as with webhooks that look like those of Slack.
fn field(text: &str) -> Part {
    let (_, value) = text.split_once('=').unwrap_or_default();
    let value = filled(value.trim_end_matches('&')).replace('+', " ");
    let is_json = is_json(&percent_decode_str(&value).decode_utf8_lossy());
    Part::new(text, if is_json { Escape::JsonInForm } else { Escape::Form })
}

/// XML up to the end of a section that is not looked at for it.
fn marked_up(text: &str) -> Vec<Part> {
    match text.split_once(CDATA) {
        Some((before, inside)) => {
            let inside = format!("{CDATA}{inside}");
            vec![Part::new(before, Escape::Xml), Part::new(&inside, Escape::Cdata)]
        }
        None => vec![Part::new(text, Escape::Xml)],
    }
}

/// With numbers in all places, which can stand in JSON with quotes and without.
fn filled(text: &str) -> String {
    let message = Message { subject: "1".to_owned(), text: "2".to_owned() };
    let mut rendered = String::new();
    Part::new(text, Escape::None).render(&message, &mut rendered);
    rendered
}

fn is_json(text: &str) -> bool {
    matches!(serde_json::from_str(text), Ok(Value::Object(_) | Value::Array(_)))
}

#[cfg(test)]
mod tests {
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
            text: "</m><x a='\"'>\u{0}&\n]]>\u{ffff}".to_owned(),
        };
        let check = |media_type: &str, payload: &str, expected: &str| {
            let template = Template::new(payload, Escape::of(media_type));
            assert_eq!(template.render(&hostile), expected, "{media_type}");
        };
        let form = "application/x-www-form-urlencoded";
        check(form, "user=1&text={{subject}}", "user=1&text=a%26admin%3D1%2050%25%2B%C3%BC");
        let json_in_form = "to=a%26admin%3D1%2050%25%2B%C3%BC&payload={\"m\":\"%3C%2Fm%3E%3Cx%20a%3D%27%5C%22%27%3E%5Cu0000%26%5Cn%5D%5D%3E%EF%BF%BF\"}";
        check(form, "to={{subject}}&payload={\"m\":\"{{message}}\"}", json_in_form);
        check(
            form,
            "payload=%7B%22m%22:+%22{{subject}}%22%7D&x=1",
            "payload=%7B%22m%22:+%22a%26admin%3D1%2050%25%2B%C3%BC%22%7D&x=1",
        );
        let markup = "<m>&lt;/m&gt;&lt;x a=&#39;&quot;&#39;&gt;\u{fffd}&amp;\n]]&gt;\u{fffd}</m>";
        for media_type in ["text/xml", "application/soap+xml; charset=utf-8", "TEXT/HTML"] {
            check(media_type, "<m>{{message}}</m>", markup);
        }
        let cdata = "<m>a&amp;admin=1 50%+ü<![CDATA[</m><x a='\"'>\u{fffd}&\n]]]]><![CDATA[>\u{fffd}]]></m>";
        check("text/xml", "<m>{{subject}}<![CDATA[{{message}}]]></m>", cdata);
        // There a section is a comment that ends with the first `>`.
        let html = markup.replace("<m>", "<![CDATA[").replace("</m>", "]]>");
        check("text/html", "<![CDATA[{{message}}]]>", &html);
        let json = "\"</m><x a='\\\"'>\\u0000&\\n]]>\u{ffff}\"";
        check("application/problem+json", "\"{{message}}\"", json);
        check("text/plain", "{{subject}}", &hostile.subject);
        // As the original's users have it.
        check("text/plain", "{\"m\":\"{{message}}\"}", &format!("{{\"m\":{json}}}"));
    }

    #[test]
    fn no_value_ends_a_section_together_with_what_is_beside_it() {
        let check = |payload: &str, subject: &str, text: &str, expected: &str| {
            let message = Message { subject: subject.to_owned(), text: text.to_owned() };
            let rendered = Template::new(payload, Escape::Xml).render(&message);
            let (mut rest, mut told) = (rendered.as_str(), String::new());
            while let Some((inside, behind)) =
                rest.strip_prefix(CDATA).and_then(|xml| xml.split_once(CDATA_END))
            {
                told.push_str(inside);
                rest = behind;
            }
            assert_eq!((told.as_str(), rest), (expected, ""), "{rendered}");
        };
        check("<![CDATA[{{subject}}{{message}}]]>", "a]]", "><x/>", "a]]><x/>");
        check("<![CDATA[{{subject}}{{message}}]]>", "a]", "]><x/>", "a]]><x/>");
        check("<![CDATA[[[{{subject}}]]: [{{message}}]>]]>", "><x/>", "a]", "[[><x/>]]: [a]]>");
        check("<![CDATA[{{subject}}]{{message}}]]>", "]", "]>]]", "]]]>]]");
    }
}
