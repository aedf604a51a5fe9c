//! What is wrong with a configuration, collected and printed.

use std::error::Error;
use std::fmt;

use super::document::Node;
use super::position::Position;

/// As many problems of each severity are kept; the others are only counted.
pub const MAX_KEPT: usize = 200;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but hardly means what was meant; `check` refuses it.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// One thing that is wrong, and where.
///
/// Prints as `proxy.json:12:5: error: sinks[0].url: missing`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// The name of the file, as the user gave it.
    pub file: String,
    /// The line from 1, or 0 when the problem is of the file as a whole.
    pub line: usize,
    /// The column in characters from 1, or 0 when the problem is of the file as a whole.
    pub column: usize,
    /// The key path, such as `sinks[0].config.maxPayloadBytes`; empty for the outermost value.
    pub key: String,
    /// What was expected and what was found; never the text of a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}: ", self.severity)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// All that is wrong with one or several files.
///
/// Prints one problem a line, errors first, each severity in the order of the files' text.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    errors: Listed,
    warnings: Listed,
}

#[derive(Debug, Clone, Default)]
struct Listed {
    kept: Vec<Problem>,
    count: usize,
}

impl Problems {
    /// Nothing wrong yet.
    pub fn new() -> Problems {
        Problems::default()
    }

    /// Reports an error about the value at a node.
    ///
    /// The message says what was expected; to quote the value, take [`Node::shown`].
    pub fn error(&mut self, at: &Node<'_>, message: impl Into<String>) {
        self.push(at.problem(Severity::Error, message.into()));
    }

    /// Reports a warning about the value at a node, as [`Problems::error`] does an error.
    pub fn warn(&mut self, at: &Node<'_>, message: impl Into<String>) {
        self.push(at.problem(Severity::Warning, message.into()));
    }

    /// Reports a problem whose place the caller knows.
    pub fn push(&mut self, problem: Problem) {
        let listed = match problem.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        listed.count += 1;
        if listed.kept.len() < MAX_KEPT {
            listed.kept.push(problem);
        }
    }

    /// The errors in the order in which they were found, [`MAX_KEPT`] at most.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.errors.kept.iter()
    }

    /// The warnings in the order in which they were found, [`MAX_KEPT`] at most.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.warnings.kept.iter()
    }

    /// Whether the configuration cannot be used.
    pub fn has_errors(&self) -> bool {
        self.error_count() > 0
    }

    /// Whether there is neither an error nor a warning.
    pub fn is_ok(&self) -> bool {
        self.error_count() + self.warning_count() == 0
    }

    /// The number of all errors, also of those that are not kept.
    pub fn error_count(&self) -> usize {
        self.errors.count
    }

    /// The number of all warnings, also of those that are not kept.
    pub fn warning_count(&self) -> usize {
        self.warnings.count
    }

    /// Takes over what another list holds, which was filled while one of several readings was tried.
    pub(super) fn append(&mut self, other: Problems) {
        for (mine, theirs) in
            [(&mut self.errors, other.errors), (&mut self.warnings, other.warnings)]
        {
            let room = MAX_KEPT.saturating_sub(mine.kept.len());
            mine.count += theirs.count;
            mine.kept.extend(theirs.kept.into_iter().take(room));
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line_break = "";
        for (listed, name) in [(&self.errors, "errors"), (&self.warnings, "warnings")] {
            let mut sorted: Vec<&Problem> = listed.kept.iter().collect();
            sorted.sort_by_key(|problem| (&problem.file, problem.line, problem.column));
            for problem in sorted {
                write!(f, "{line_break}{problem}")?;
                line_break = "\n";
            }
            if listed.count > listed.kept.len() {
                write!(f, "{line_break}and {} more {name}", listed.count - listed.kept.len())?;
            }
        }
        Ok(())
    }
}

impl Error for Problems {}

/// An error that is not about a value: of the file as a whole, or of its syntax at a position.
pub(super) fn file_error(file: &str, at: Option<Position>, message: impl Into<String>) -> Problem {
    Problem {
        severity: Severity::Error,
        file: file.to_owned(),
        line: at.map_or(0, |at| at.line),
        column: at.map_or(0, |at| at.column),
        key: String::new(),
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_KEPT, Problems, Severity, file_error};
    use crate::config::position::Position;

    #[test]
    fn prints_errors_first_and_in_the_order_of_the_text() {
        let mut problems = Problems::new();
        let at = |line, column| Some(Position { line, column });
        problems.push(super::Problem {
            severity: Severity::Warning,
            ..file_error("a.json", at(1, 1), "w")
        });
        problems.push(file_error("a.json", at(10, 1), "third"));
        problems.push(file_error("a.json", at(2, 7), "second"));
        problems.push(file_error("a.json", None, "first"));
        insta::assert_snapshot!(problems, @r"
        a.json: error: first
        a.json:2:7: error: second
        a.json:10:1: error: third
        a.json:1:1: warning: w
        ");
        assert!(problems.has_errors());
        assert!(!problems.is_ok());
    }

    #[test]
    fn counts_what_it_does_not_keep() {
        let mut problems = Problems::new();
        for _ in 0..MAX_KEPT + 3 {
            problems.push(file_error("a.json", None, "x"));
        }
        let mut all = problems.clone();
        all.append(problems);
        assert_eq!((all.errors().count(), all.error_count()), (MAX_KEPT, 2 * MAX_KEPT + 6));
        let more = format!("and {} more errors", MAX_KEPT + 6);
        assert_eq!(all.to_string().lines().last(), Some(more.as_str()));
    }
}
