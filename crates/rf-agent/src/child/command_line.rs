//! How a file names a program: as a list, or as a line for the shell.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

const EXPECTED: &str =
    "a program and its arguments as a list, or with \"shell\": true a line for the shell";

/// The shell that runs lines.
const SHELL: &str = "/bin/sh";

/// Program and arguments. Invariant: there is a program, after [`CommandLine::checked`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct CommandLine {
    argv: Vec<String>,
    is_line: bool,
}

impl CommandLine {
    /// A program without arguments.
    pub(crate) fn program(path: String) -> Self {
        Self { argv: vec![path], is_line: false }
    }

    /// Program and arguments.
    pub(crate) fn argv(&self) -> &[String] {
        &self.argv
    }

    /// Holds the form against the key `shell`.
    ///
    /// # Errors
    /// What was expected instead.
    pub(crate) fn checked(self, shell: bool) -> Result<Self, String> {
        let is_empty = self.argv.first().is_none_or(|first| first.trim().is_empty());
        match (self.is_line, shell) {
            _ if is_empty => Err("expected the name of a program, found nothing".to_owned()),
            (true, true) => {
                let argv = [SHELL, "-c"].map(str::to_owned).into_iter().chain(self.argv).collect();
                Ok(Self { argv, is_line: false })
            }
            (false, false) => Ok(self),
            (true, false) => Err(
                "a text needs a shell: set \"shell\": true, or write program and arguments as a list".to_owned(),
            ),
            (false, true) => {
                Err("\"shell\": true expects a text, the line for the shell, not a list".to_owned())
            }
        }
    }
}

impl fmt::Debug for CommandLine {
    /// Without arguments, which may hold what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandLine").field("words", &self.argv.len()).finish_non_exhaustive()
    }
}

impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LineVisitor)
    }
}

struct LineVisitor;

impl<'de> Visitor<'de> for LineVisitor {
    type Value = CommandLine;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, line: &str) -> Result<CommandLine, E> {
        Ok(CommandLine { argv: vec![line.to_owned()], is_line: true })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<CommandLine, A::Error> {
        let mut argv = Vec::new();
        while let Some(word) = words.next_element()? {
            argv.push(word);
        }
        Ok(CommandLine { argv, is_line: false })
    }
}

impl JsonSchema for CommandLine {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "CommandLine".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["array", "string"], "items": { "type": "string" }, "title": EXPECTED })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::CommandLine;

    fn check(value: serde_json::Value, shell: bool, expected: Result<&[&str], &str>) {
        let line: CommandLine = serde_json::from_value(value).expect("one of both forms");
        match (line.checked(shell), expected) {
            (Ok(line), Ok(argv)) => assert_eq!(line.argv(), argv),
            (Err(told), Err(part)) => assert!(told.contains(part), "{told}"),
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn a_list_is_run_as_it_is_and_a_line_by_the_shell() {
        check(json!(["df", "-h"]), false, Ok(&["df", "-h"]));
        check(json!("df | tail -1"), true, Ok(&["/bin/sh", "-c", "df | tail -1"]));
    }

    #[test]
    fn forms_that_do_not_fit_are_told() {
        check(json!("df -h"), false, Err("set \"shell\": true"));
        check(json!(["df"]), true, Err("expects a text"));
        check(json!([]), false, Err("found nothing"));
        check(json!(" "), true, Err("found nothing"));
    }
}
