//! How a line looks.
//!
//! Invariant: a rendered line holds exactly one line break, at its end, and no control character of
//! a message or field: what a peer or a script put there cannot forge a line or steer a terminal.

use std::fmt::{self, Write};

use serde_json::{Map, Value};
use tracing::Level;

use super::fields::Fields;
use super::gate::Note;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Text,
    ColouredText,
    Json,
}

/// All that a line says.
pub(crate) struct Line<'a> {
    pub(crate) time: &'a str,
    pub(crate) level: Level,
    pub(crate) target: &'a str,
    pub(crate) fields: &'a Fields,
    pub(crate) note: Note,
}

impl Line<'_> {
    pub(crate) fn render(&self, look: Look) -> String {
        match look {
            Look::Text => self.text(""),
            Look::ColouredText => self.text(colour(self.level)),
            Look::Json => self.json(),
        }
    }

    fn text(&self, colour: &str) -> String {
        let reset = if colour.is_empty() { "" } else { "\x1b[0m" };
        let message = Escaped { text: &self.fields.message, quotes: Quotes::Keep };
        let mut line = format!(
            "{} {colour}{:>5}{reset} {message}{}",
            self.time,
            self.level.as_str(),
            self.note
        );
        for (name, value) in &self.fields.values {
            line.push(' ');
            line.push_str(name);
            line.push('=');
            line.push_str(&field_text(value));
        }
        line.push('\n');
        line
    }

    /// The fields are an object of their own, so that none can hide the line's own keys.
    fn json(&self) -> String {
        let fields: Map<String, Value> = self
            .fields
            .values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), self.time.into());
        line.insert("level".to_owned(), self.level.as_str().to_ascii_lowercase().into());
        line.insert("target".to_owned(), self.target.into());
        line.insert("message".to_owned(), format!("{}{}", self.fields.message, self.note).into());
        if !fields.is_empty() {
            line.insert("fields".to_owned(), fields.into());
        }
        format!("{}\n", JsonLine(Value::Object(line)))
    }
}

/// JSON escapes the control characters of ASCII only; a terminal acts on others, too.
struct JsonLine(Value);

impl fmt::Display for JsonLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.to_string().chars() {
            if c.is_control() {
                write!(f, "\\u{:04x}", u32::from(c))?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// A value of a field: in quotes only when it could not be told from its surroundings without.
fn field_text(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let needs_quotes = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '=');
    if text.is_empty() || text.contains(needs_quotes) {
        format!("\"{}\"", Escaped { text, quotes: Quotes::Escape })
    } else {
        text.clone()
    }
}

/// Whether quotes (and so backslashes too) are escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Keep,
    Escape,
}

/// A text without control characters.
struct Escaped<'a> {
    text: &'a str,
    quotes: Quotes,
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.text.chars() {
            let quoted = self.quotes == Quotes::Escape && matches!(c, '"' | '\\');
            if quoted || c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(message: &str, values: &[(&'static str, Value)]) -> Fields {
        Fields { message: message.to_owned(), values: values.to_vec() }
    }

    fn check(look: Look, level: Level, note: Note, fields: &Fields, expected: &str) {
        let line = Line { time: "T", level, target: "rf_relay::api", fields, note };
        assert_eq!(line.render(look), format!("{expected}\n"));
    }

    fn check_text(fields: &Fields, expected: &str) {
        check(Look::Text, Level::INFO, Note::Nothing, fields, expected);
    }

    #[test]
    fn text_is_time_level_message_fields() {
        let values = [
            ("sink", json!("shop")),
            ("records", json!(12)),
            ("ratio", json!(0.5)),
            ("retry", json!(true)),
        ];
        check_text(
            &fields("batch sent", &values),
            "T  INFO batch sent sink=shop records=12 ratio=0.5 retry=true",
        );
    }

    #[test]
    fn notes_follow_the_message() {
        let full = fields("queue is full", &[("sink", json!("a"))]);
        let (warn, error) = (Level::WARN, Level::ERROR);
        let check = |level, note, expected| check(Look::Text, level, note, &full, expected);
        check(error, Note::Nothing, "T ERROR queue is full sink=a");
        check(warn, Note::MutedFromNow, "T  WARN queue is full (muted for 3 minutes) sink=a");
        check(warn, Note::WasMuted(1), "T  WARN queue is full (was muted once) sink=a");
        check(warn, Note::WasMuted(41), "T  WARN queue is full (was muted 41 times) sink=a");
    }

    #[test]
    fn values_are_quoted_when_they_must_be() {
        check_text(&fields("m", &[("a", json!(""))]), r#"T  INFO m a="""#);
        check_text(&fields("m", &[("a", json!("two words"))]), r#"T  INFO m a="two words""#);
        check_text(&fields("m", &[("a", json!("x=1"))]), r#"T  INFO m a="x=1""#);
        check_text(&fields("m", &[("a", json!(r#"say "\"#))]), r#"T  INFO m a="say \"\\""#);
        check_text(&fields("m", &[("a", json!("C:\\é"))]), r"T  INFO m a=C:\é");
    }

    #[test]
    fn nothing_can_forge_a_line_or_steer_a_terminal() {
        check_text(&fields("a\nb\u{1b}[2Jc\u{9b}", &[]), r"T  INFO a\nb\u{1b}[2Jc\u{9b}");
        check_text(&fields("m", &[("a", json!("x\r\ny"))]), r#"T  INFO m a="x\r\ny""#);
        check(
            Look::Json,
            Level::INFO,
            Note::Nothing,
            &fields("a\nb", &[]),
            r#"{"timestamp":"T","level":"info","target":"rf_relay::api","message":"a\nb"}"#,
        );
        check(
            Look::Json,
            Level::INFO,
            Note::Nothing,
            &fields("\u{9b}2J\u{7f}é", &[]),
            r#"{"timestamp":"T","level":"info","target":"rf_relay::api","message":"\u009b2J\u007fé"}"#,
        );
    }

    #[test]
    fn json_keeps_types_and_own_keys() {
        check(
            Look::Json,
            Level::WARN,
            Note::MutedFromNow,
            &fields("full", &[("level", json!("x")), ("records", json!(3)), ("ok", json!(false))]),
            concat!(
                r#"{"timestamp":"T","level":"warn","target":"rf_relay::api","#,
                r#""message":"full (muted for 3 minutes)","#,
                r#""fields":{"level":"x","records":3,"ok":false}}"#,
            ),
        );
    }

    #[test]
    fn only_the_level_is_coloured() {
        check(
            Look::ColouredText,
            Level::ERROR,
            Note::Nothing,
            &fields("bad", &[("a", json!(1))]),
            "T \u{1b}[31mERROR\u{1b}[0m bad a=1",
        );
    }
}
