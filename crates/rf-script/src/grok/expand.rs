//! A grok pattern becomes one regex.
//!
//! Placeholders are replaced by what they stand for until none is left. Every named group, be it of a placeholder with a name
//! or written out, gets a name of ours (`g0`, `g1`, ..), so that any name may be used, and more than once. On the way, what RE2
//! takes literally and the regex crate does not is escaped: a brace that is no repetition, and `[`, `&`, `~` in a class.

use super::{own::GrokPatterns, stock};

/// The expanded pattern may have so many bytes.
const MAX_EXPANDED_BYTES: usize = 256 * 1024;
/// Patterns may be nested so deep.
const MAX_DEPTH: usize = 64;
/// A name in a pattern may have so many bytes.
const MAX_NAME_BYTES: usize = 256;
/// Names that are farther from the unknown one than this are no help.
const MAX_DISTANCE: usize = 4;

/// What a capture becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int,
    Float,
}

/// A named group; its place in the list is the number in its name in the regex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Capture {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// A regex for a grok pattern.
#[derive(Debug, Default)]
pub(super) struct Expanded {
    pub(super) regex: String,
    pub(super) captures: Vec<Capture>,
}

/// Expands a pattern.
pub(super) fn expand(own: &GrokPatterns, pattern: &str) -> Result<Expanded, String> {
    let mut expander = Expander { own, done: Expanded::default(), within: Vec::new(), fast: false };
    expander.text(pattern)?;
    Ok(expander.done)
}

/// Expands a pattern that begins with a stock pattern of which there is a narrower form, using that one.
///
/// What the narrower form matches from the text's beginning, the full one matches with the same captures. That holds only where
/// the rest of the pattern offers no other way to match (no `|`, no repetition of the first placeholder) and where the parts
/// are the stock ones.
pub(super) fn expand_fast(own: &GrokPatterns, pattern: &str) -> Option<Expanded> {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    let end = pattern.starts_with("%{").then(|| pattern.find('}'))??;
    let (first, rest) = (pattern.get(..=end)?, pattern.get(end + 1..)?);
    if own.overrides_stock() || rest.contains('|') || rest.starts_with(['?', '*', '+', '{']) {
        return None;
    }
    let mut expander = Expander { own, done: Expanded::default(), within: Vec::new(), fast: true };
    expander.text(first).ok()?;
    expander.fast = false;
    expander.text(rest).ok()?;
    Some(expander.done)
}

struct Expander<'a> {
    own: &'a GrokPatterns,
    done: Expanded,
    within: Vec<String>,
    fast: bool,
}

impl Expander<'_> {
    fn text(&mut self, text: &str) -> Result<(), String> {
        let mut rest = text;
        while let Some(char) = rest.chars().next() {
            rest = match char {
                '%' if rest.starts_with("%{") => self.placeholder(rest)?,
                '\\' => self.escape(rest),
                '[' => self.class(rest),
                '(' => self.group(rest)?,
                '{' => self.brace(rest),
                _ => self.copy(rest, char.len_utf8()),
            };
            if self.done.regex.len() > MAX_EXPANDED_BYTES {
                return Err(format!("the pattern expands to more than {MAX_EXPANDED_BYTES} bytes"));
            }
        }
        Ok(())
    }

    /// Takes over so many bytes of the rest as they are; answers what is left.
    fn copy<'t>(&mut self, rest: &'t str, bytes: usize) -> &'t str {
        let (taken, left) = rest.split_at_checked(bytes).unwrap_or((rest, ""));
        self.done.regex.push_str(taken);
        left
    }

    fn placeholder<'t>(&mut self, rest: &'t str) -> Result<&'t str, String> {
        let (inside, left) = rest
            .strip_prefix("%{")
            .and_then(|rest| rest.split_once('}'))
            .ok_or("a placeholder `%{` is not closed with `}`")?;
        let mut parts = inside.splitn(3, ':');
        let name = parts.next().unwrap_or_default();
        let alias = parts.next();
        let kind = kind(inside, parts.next())?;
        match alias {
            Some(alias) => self.open(alias, kind)?,
            None => self.done.regex.push_str("(?:"),
        }
        self.nested(name)?;
        self.done.regex.push(')');
        Ok(left)
    }

    fn nested(&mut self, name: &str) -> Result<(), String> {
        let fast = self.fast.then(|| stock::fast(name)).flatten();
        let own = self.own;
        let Some(text) = fast.or_else(|| own.get(name)).or_else(|| stock::get(name)) else {
            return Err(unknown(own, name));
        };
        if self.within.iter().any(|outer| outer == name) {
            return Err(format!("pattern `{name}` contains itself"));
        }
        if self.within.len() >= MAX_DEPTH {
            return Err(format!("pattern `{name}` is nested deeper than {MAX_DEPTH}"));
        }
        self.within.push(name.to_owned());
        self.text(text)?;
        self.within.pop();
        Ok(())
    }

    /// Begins a named group.
    fn open(&mut self, name: &str, kind: Kind) -> Result<(), String> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(format!("a name of a capture has 1 to {MAX_NAME_BYTES} bytes"));
        }
        let group = format!("(?P<g{}>", self.done.captures.len());
        self.done.regex.push_str(&group);
        self.done.captures.push(Capture { name: name.to_owned(), kind });
        Ok(())
    }

    /// `(`, or the beginning of a group with a name.
    fn group<'t>(&mut self, rest: &'t str) -> Result<&'t str, String> {
        let named = rest.strip_prefix("(?P<").or_else(|| rest.strip_prefix("(?<"));
        match named {
            // Look-behind: the regex crate says that there is none.
            Some(named) if !named.starts_with(['=', '!']) => {
                let (name, left) =
                    named.split_once('>').ok_or("a group's name is not closed with `>`")?;
                self.open(name, Kind::Text)?;
                Ok(left)
            }
            _ => Ok(self.copy(rest, 1)),
        }
    }

    /// A backslash and what belongs to it.
    fn escape<'t>(&mut self, rest: &'t str) -> &'t str {
        if let Some(literal) = rest.strip_prefix("\\Q") {
            let (literal, left) = literal.split_once("\\E").unwrap_or((literal, ""));
            self.done.regex.push_str(&regex::escape(literal));
            return left;
        }
        let escaped = rest.chars().nth(1);
        let mut bytes = 1 + escaped.map_or(0, char::len_utf8);
        let braced = rest.get(bytes..).is_some_and(|rest| rest.starts_with('{'));
        if braced && escaped.is_some_and(|char| "pPxuU".contains(char)) {
            bytes = rest.find('}').map_or(rest.len(), |end| end + 1);
        }
        self.copy(rest, bytes)
    }

    /// A class, to its end.
    fn class<'t>(&mut self, rest: &'t str) -> &'t str {
        let mut rest = self.copy(rest, 1);
        if rest.starts_with('^') {
            rest = self.copy(rest, 1);
        }
        if rest.starts_with(']') {
            // A bracket in the first place is one of the class.
            self.done.regex.push('\\');
            rest = self.copy(rest, 1);
        }
        while let Some(char) = rest.chars().next() {
            rest = match char {
                ']' => return self.copy(rest, 1),
                '\\' => self.escape(rest),
                '[' if rest.starts_with("[:") && rest.contains(":]") => {
                    self.copy(rest, rest.find(":]").map_or(1, |end| end + 2))
                }
                '[' | '&' | '~' => {
                    self.done.regex.push('\\');
                    self.copy(rest, 1)
                }
                _ => self.copy(rest, char.len_utf8()),
            };
        }
        rest
    }

    /// A repetition, or a brace that stands for itself.
    fn brace<'t>(&mut self, rest: &'t str) -> &'t str {
        let inside = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let counts = |inside: &str| {
            let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
            !least.is_empty() && digits(least) && digits(most)
        };
        match inside {
            Some((inside, _)) if counts(inside) => self.copy(rest, inside.len() + 2),
            _ => {
                self.done.regex.push('\\');
                self.copy(rest, 1)
            }
        }
    }
}

fn kind(placeholder: &str, kind: Option<&str>) -> Result<Kind, String> {
    match kind {
        None | Some("string") => Ok(Kind::Text),
        Some("int") => Ok(Kind::Int),
        Some("float") => Ok(Kind::Float),
        Some(other) => Err(format!(
            "unknown type `{}` in `%{{{}}}`, expected int, float or string",
            shortened(other),
            shortened(placeholder)
        )),
    }
}

fn unknown(own: &GrokPatterns, name: &str) -> String {
    let shown = shortened(name);
    let wanted = shown.to_ascii_uppercase();
    let mut names: Vec<&str> = own.names().collect();
    for name in stock::names() {
        names.push(name);
    }
    let near = names.into_iter().map(|known| (distance(&wanted, known), known));
    match near.min() {
        Some((distance, known)) if distance <= MAX_DISTANCE => {
            format!("unknown pattern `{shown}`, the nearest known is `{known}`")
        }
        _ => format!("unknown pattern `{shown}`"),
    }
}

fn shortened(name: &str) -> String {
    name.chars().take(60).collect()
}

/// Edits from one name to the other, case apart.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<u8> = b.bytes().map(|byte| byte.to_ascii_uppercase()).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, a) in a.bytes().enumerate() {
        let mut corner = line;
        let mut left = line + 1;
        for (b, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let edited = (corner + usize::from(a != *b)).min(left + 1).min(*above + 1);
            corner = *above;
            *above = edited;
            left = edited;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{distance, expand, expand_fast};
    use crate::grok::own::GrokPatterns;

    fn check(pattern: &str, expected: Result<&str, &str>) {
        let expanded = expand(&GrokPatterns::default(), pattern).map(|expanded| expanded.regex);
        assert_eq!(expanded.as_deref().map_err(String::as_str), expected, "{pattern}");
    }

    #[test]
    fn placeholders_become_groups() {
        check("%{INT}", Ok("(?:[+-]?[0-9]+)"));
        check("%{INT:[a][b]}%{INT:@x.y:int}", Ok("(?P<g0>[+-]?[0-9]+)(?P<g1>[+-]?[0-9]+)"));
        check("(?<a>x)(?P<a>y)(z)", Ok("(?P<g0>x)(?P<g1>y)(z)"));
        check("100% \\%{INT", Ok("100% \\%\\{INT"));
    }

    #[test]
    fn what_re2_takes_literally_is_escaped() {
        check(r#"{"a":{1}"#, Ok(r#"\{"a":{1}"#));
        check("a{1,}b{1,2}c{,2}{x}", Ok(r"a{1,}b{1,2}c\{,2}\{x}"));
        check("[[a&&~][^]%{INT}][[:alpha:]x]", Ok(r"[\[a\&\&\~][^\]%{INT}][[:alpha:]x]"));
        check(r"\Qa.b{\E\p{L}\x{41}\b{x", Ok(r"a\.b\{\p{L}\x{41}\b\{x"));
    }

    #[test]
    fn bad_patterns_are_named() {
        check("%{IPP:a}", Err("unknown pattern `IPP`, the nearest known is `IP`"));
        check("%{number}", Err("unknown pattern `number`, the nearest known is `NUMBER`"));
        check("%{ABSOLUTELYNOTHING}", Err("unknown pattern `ABSOLUTELYNOTHING`"));
        check("%{INT", Err("a placeholder `%{` is not closed with `}`"));
        check("%{INT:}", Err("a name of a capture has 1 to 256 bytes"));
        check("(?<a", Err("a group's name is not closed with `>`"));
        check(
            "%{INT:a:date}",
            Err("unknown type `date` in `%{INT:a:date}`, expected int, float or string"),
        );
    }

    #[test]
    fn the_narrow_form_is_used_only_where_it_may_be() {
        let check = |pattern: &str, expected: bool| {
            let own = GrokPatterns::default();
            let full = expand(&own, pattern).expect("a pattern");
            let fast = expand_fast(&own, pattern);
            let differs = fast.as_ref().is_some_and(|fast| fast.regex != full.regex);
            assert_eq!(differs, expected, "{pattern}");
            assert!(fast.is_none_or(|fast| fast.captures == full.captures), "{pattern}");
        };
        check("%{COMBINEDAPACHELOG}", true);
        check("%{COMMONAPACHELOG:line} %{DATA:rest}$", true);
        check("%{COMMONAPACHELOG}|%{GREEDYDATA:other}", false);
        check("%{COMMONAPACHELOG}?x", false);
        check("%{GREEDYDATA:x} %{COMMONAPACHELOG}", false);
    }

    #[test]
    fn distances() {
        let check = |a, b, expected| assert_eq!(distance(a, b), expected, "{a} {b}");
        check("", "", 0);
        check("ABC", "", 3);
        check("IPP", "IP", 1);
        check("KITTEN", "SITTING", 3);
    }
}
