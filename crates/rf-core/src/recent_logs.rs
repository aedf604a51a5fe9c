//! The newest log lines of each source and sink, for status pages.
//!
//! The log writes here, pages read: a line is kept when it names a source or a sink and was not muted. Bounded by lines,
//! by characters and by components; the oldest make room.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::node_info::{LogLine, MAX_TEXT_CHARS};

/// Lines of one component, as the original.
pub const MAX_LINES: usize = 100;
/// Components that lines are kept of.
const MAX_COMPONENTS: usize = 1000;

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A source.
    Source,
    /// A sink.
    Sink,
}

/// Lines by component, and how many there were in all.
#[derive(Debug, Default)]
pub struct RecentLogs {
    lines: Mutex<BTreeMap<(Part, String), VecDeque<LogLine>>>,
    warnings: AtomicU64,
    errors: AtomicU64,
}

impl RecentLogs {
    /// Counts a warning or error, whoever logged it.
    pub fn count(&self, level: &str) {
        match level {
            "warn" => self.warnings.fetch_add(1, Ordering::Relaxed),
            "error" => self.errors.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// Keeps a line.
    pub fn keep(&self, part: Part, id: &str, mut line: LogLine) {
        if let Some((cut, _)) = line.text.char_indices().nth(MAX_TEXT_CHARS) {
            line.text.truncate(cut);
        }
        let mut lines = self.lines.lock();
        let key = (part, id.to_owned());
        if !lines.contains_key(&key) && lines.len() >= MAX_COMPONENTS {
            return;
        }
        let kept = lines.entry(key).or_default();
        if kept.len() >= MAX_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }

    /// The newest lines of a component, oldest first, at most `most`.
    pub fn of(&self, part: Part, id: &str, most: usize) -> Vec<LogLine> {
        let lines = self.lines.lock();
        let Some(kept) = lines.get(&(part, id.to_owned())) else { return Vec::new() };
        kept.iter().skip(kept.len().saturating_sub(most)).cloned().collect()
    }

    /// Warnings logged since the start.
    pub fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::Relaxed)
    }

    /// Errors logged since the start.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> LogLine {
        LogLine { at_ms: 1, level: "warn".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn the_newest_lines_of_each_component_are_kept() {
        let logs = RecentLogs::default();
        for number in 0..MAX_LINES + 5 {
            logs.keep(Part::Sink, "a", line(&number.to_string()));
        }
        logs.keep(Part::Source, "a", line(&"é".repeat(MAX_TEXT_CHARS + 9)));
        let texts = |part, most| {
            let lines = logs.of(part, "a", most);
            lines.into_iter().map(|line| line.text).collect::<Vec<_>>()
        };
        assert_eq!(texts(Part::Sink, 1000).len(), 100);
        assert_eq!(texts(Part::Sink, 2), ["103", "104"]);
        assert_eq!(texts(Part::Source, 9), ["é".repeat(MAX_TEXT_CHARS)]);
        assert!(logs.of(Part::Sink, "b", 9).is_empty());
    }

    #[test]
    fn components_are_bounded() {
        let logs = RecentLogs::default();
        for number in 0..MAX_COMPONENTS + 1 {
            logs.keep(Part::Sink, &number.to_string(), line("x"));
        }
        assert!(logs.of(Part::Sink, &MAX_COMPONENTS.to_string(), 1).is_empty());
        assert_eq!(logs.of(Part::Sink, "0", 1).len(), 1);
    }
}
