//! Lines that belong together.

use std::time::Duration;

use regex::Regex;

/// What a line that matches says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// It begins an event.
    Start,
    /// It belongs to the line before.
    Continue,
    /// It ends an event.
    End,
}

/// How lines are put together.
#[derive(Debug, Clone)]
pub(super) struct Multiline {
    pub(super) rule: Rule,
    pub(super) pattern: Regex,
    pub(super) max_lines: usize,
    /// Silence after which what there is counts as whole.
    pub(super) timeout: Duration,
}

impl Multiline {
    /// Whether `line` begins an event, where lines of one are before it.
    pub(super) fn begins(&self, line: &str) -> bool {
        match self.rule {
            Rule::Start => self.pattern.is_match(line),
            Rule::Continue => !self.pattern.is_match(line),
            Rule::End => false,
        }
    }

    /// Whether `line` ends its event.
    pub(super) fn ends(&self, line: &str) -> bool {
        self.rule == Rule::End && self.pattern.is_match(line)
    }
}
