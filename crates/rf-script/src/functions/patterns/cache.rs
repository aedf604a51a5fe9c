//! Compiled patterns, kept while there is room.

use std::collections::HashMap;
use std::rc::Rc;

use regex::bytes::{Regex, RegexBuilder};

/// Patterns kept.
const MAX_PATTERNS: usize = 256;
/// Compiled bytes kept, by the size class of each.
const MAX_KEPT_BYTES: usize = 64 * 1024 * 1024;
/// A pattern's text may be so long.
const MAX_PATTERN_BYTES: usize = 64 * 1024;
/// What a search may use beside the pattern, for states that it finds as it goes.
const SEARCH_BYTES: usize = 1024 * 1024;

/// Size of a compiled pattern, and how long a text it may be given. The worst time of a search is the product of both.
const CLASSES: [(usize, usize); 3] =
    [(256 * 1024, usize::MAX), (1024 * 1024, 4 * 1024 * 1024), (10 * 1024 * 1024, 256 * 1024)];

/// Why a pattern cannot be had.
#[derive(Debug)]
pub(super) enum BadPattern {
    Syntax(String),
    Size(String),
}

/// A pattern ready for use.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    pub(super) regex: Rc<Regex>,
    pub(super) max_text_bytes: usize,
    size_bytes: usize,
}

/// The patterns of one VM. Invariant: at most [`MAX_PATTERNS`], of at most [`MAX_KEPT_BYTES`] in all.
#[derive(Debug, Default)]
pub(super) struct Cache {
    patterns: HashMap<String, (Compiled, u64)>,
    kept_bytes: usize,
    /// Counts uses, to tell which pattern was not used for longest.
    uses: u64,
}

impl Cache {
    pub(super) fn get(&mut self, pattern: &str) -> Result<Compiled, BadPattern> {
        self.uses += 1;
        if let Some((compiled, used)) = self.patterns.get_mut(pattern) {
            *used = self.uses;
            return Ok(compiled.clone());
        }
        let compiled = compile(pattern)?;
        self.make_room(compiled.size_bytes);
        self.kept_bytes += compiled.size_bytes;
        self.patterns.insert(pattern.to_owned(), (compiled.clone(), self.uses));
        Ok(compiled)
    }

    fn make_room(&mut self, size_bytes: usize) {
        while self.patterns.len() >= MAX_PATTERNS || self.kept_bytes + size_bytes > MAX_KEPT_BYTES {
            let oldest = self.patterns.iter().min_by_key(|(_, (_, used))| *used);
            let Some(oldest) = oldest.map(|(pattern, _)| pattern.clone()) else {
                return;
            };
            if let Some((removed, _)) = self.patterns.remove(&oldest) {
                self.kept_bytes -= removed.size_bytes;
            }
        }
    }
}

/// Tries one size class after the other, since a compiled pattern does not tell its size.
fn compile(pattern: &str) -> Result<Compiled, BadPattern> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(BadPattern::Size(format!("longer than {MAX_PATTERN_BYTES} bytes")));
    }
    for (size_bytes, max_text_bytes) in CLASSES {
        let mut builder = RegexBuilder::new(pattern);
        builder.size_limit(size_bytes).dfa_size_limit(SEARCH_BYTES);
        match builder.build() {
            Ok(regex) => return Ok(Compiled { regex: Rc::new(regex), max_text_bytes, size_bytes }),
            Err(regex::Error::CompiledTooBig(_)) => {}
            Err(error) => return Err(BadPattern::Syntax(error.to_string())),
        }
    }
    let [.., (largest, _)] = CLASSES;
    Err(BadPattern::Size(format!("compiled it is larger than {largest} bytes")))
}

#[cfg(test)]
mod tests {
    use super::{Cache, MAX_KEPT_BYTES, MAX_PATTERNS};

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut cache = Cache::default();
        for number in 0..MAX_PATTERNS {
            cache.get(&number.to_string()).expect("a pattern");
        }
        cache.get("0").expect("a pattern");
        cache.get("new").expect("a pattern");
        assert_eq!(cache.patterns.len(), MAX_PATTERNS);
        assert!(cache.patterns.contains_key("0"));
        assert!(!cache.patterns.contains_key("1"));
        let sum: usize = cache.patterns.values().map(|(compiled, _)| compiled.size_bytes).sum();
        assert_eq!(cache.kept_bytes, sum);
    }

    #[test]
    fn large_patterns_push_out_others() {
        let mut cache = Cache::default();
        cache.get("small").expect("a pattern");
        for number in 0..8 {
            let large = format!("(?-u)(?:{number}{{1000}}){{40}}");
            let compiled = cache.get(&large).expect("a pattern");
            assert!(compiled.max_text_bytes < usize::MAX);
        }
        assert!(cache.kept_bytes <= MAX_KEPT_BYTES);
        assert!(!cache.patterns.contains_key("small"));
    }

    #[test]
    fn a_pattern_has_a_bound() {
        let mut cache = Cache::default();
        assert!(cache.get(&"a".repeat(64 * 1024 + 1)).is_err());
        assert!(cache.get("((a{100}){100}){100}").is_err());
        assert!(cache.patterns.is_empty());
    }
}
