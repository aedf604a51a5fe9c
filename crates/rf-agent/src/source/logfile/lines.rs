//! The bytes of a window become the texts of events: line by line, or in groups of lines.

use std::borrow::Cow;

use super::encoding::Encoding;
use super::multiline::Multiline;
use super::record::Within;

/// What of the end of a window may be taken although more may come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flush {
    /// A line without its end.
    pub(super) partial: bool,
    /// Lines whose event may go on.
    pub(super) group: bool,
    /// Nothing will ever come: the end of the window is the end of its last line.
    pub(super) last: bool,
}

/// How lines are told apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) encoding: Encoding,
    pub(super) max_line: usize,
    pub(super) multiline: Option<&'a Multiline>,
}

/// The text of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) text: Cow<'a, str>,
    /// Its bytes, where they are not what the encoding says.
    pub(super) broken: Option<&'a [u8]>,
    /// Its end has not come yet.
    pub(super) partial: bool,
    /// Its beginning was sent before.
    pub(super) continued: bool,
    /// It is too long, and its rest is left out.
    pub(super) truncated: bool,
}

/// Takes a window apart.
pub(super) struct Lines<'a> {
    window: &'a [u8],
    rules: Rules<'a>,
    flush: Flush,
    /// Bytes taken: up to here all is in pieces that were returned, or left out.
    pub(super) taken: usize,
    /// Where in a line that is.
    pub(super) within: Within,
}

/// What begins at a place of the window.
enum Raw {
    /// A line up to `end`; the next one begins at `next`.
    Line { end: usize, next: usize },
    /// The first part, up to this, of a line that is too long.
    Long(usize),
    /// A line whose end is not in the window.
    Open,
    /// Nothing, or less than a unit of which more may come.
    Empty,
}

impl<'a> Lines<'a> {
    /// `within` is the state at the window's start.
    pub(super) fn new(window: &'a [u8], within: Within, rules: Rules<'a>, flush: Flush) -> Self {
        Self { window, rules, flush, taken: 0, within }
    }

    /// The next event's text; `None` when the window holds no whole one any more.
    pub(super) fn next(&mut self) -> Option<Piece<'a>> {
        if self.within == Within::Cut && !self.skip_line() {
            return None;
        }
        if self.within == Within::Partial {
            match self.rest_of_line() {
                Rest::Piece(piece) => return Some(piece),
                Rest::Open => return None,
                Rest::Over => {}
            }
        }
        match self.rules.multiline {
            Some(multiline) => self.group(multiline),
            None => self.line(),
        }
    }

    /// Leaves out the rest of a line; false when its end is not in the window.
    fn skip_line(&mut self) -> bool {
        let rest = self.from(self.taken);
        let Some(end) = self.rules.encoding.line_end(rest) else {
            self.taken += rest.len() - rest.len() % self.rules.encoding.unit();
            return false;
        };
        self.taken += end + self.rules.encoding.unit();
        self.within = Within::Nothing;
        true
    }

    fn rest_of_line(&mut self) -> Rest<'a> {
        let piece = match self.raw(self.taken) {
            Raw::Line { end, next } => {
                let piece = self.piece(self.taken, end);
                (self.taken, self.within) = (next, Within::Nothing);
                if piece.text.is_empty() {
                    return Rest::Over;
                }
                piece
            }
            Raw::Long(end) => self.long(end),
            Raw::Open if self.flush.partial || self.flush.last => self.open(),
            Raw::Open | Raw::Empty => return Rest::Open,
        };
        Rest::Piece(Piece { continued: true, ..piece })
    }

    fn line(&mut self) -> Option<Piece<'a>> {
        match self.raw(self.taken) {
            Raw::Line { end, next } => {
                let piece = self.piece(self.taken, end);
                self.taken = next;
                Some(piece)
            }
            Raw::Long(end) => Some(self.long(end)),
            Raw::Open if self.flush.partial || self.flush.last => Some(self.open()),
            Raw::Open | Raw::Empty => None,
        }
    }

    /// Lines up to the first that begins another event, or is one too many.
    fn group(&mut self, multiline: &Multiline) -> Option<Piece<'a>> {
        let start = self.taken;
        let (mut at, mut lines) = (start, 0);
        let mut text = String::new();
        let mut broken = false;
        loop {
            let (end, next) = match self.raw(at) {
                Raw::Line { end, next } => (end, next),
                Raw::Open if self.flush.last => (self.window.len(), self.window.len()),
                Raw::Long(end) if lines == 0 => return Some(self.long(end)),
                Raw::Open if lines == 0 => return self.flush.partial.then(|| self.open()),
                Raw::Long(_) => break,
                Raw::Open | Raw::Empty => {
                    let is_whole = self.flush.group || self.flush.last;
                    if lines == 0 || !is_whole {
                        return None;
                    }
                    break;
                }
            };
            let line = self.rules.encoding.decode(self.from(at).get(..end - at)?);
            let is_over = lines == multiline.max_lines
                || end - start > self.rules.max_line
                || multiline.begins(&line.text);
            if lines > 0 && is_over {
                break;
            }
            if lines > 0 {
                text.push('\n');
            }
            text.push_str(&line.text);
            broken |= line.broken;
            (at, lines) = (next, lines + 1);
            if multiline.ends(&line.text) {
                break;
            }
        }
        self.taken = at;
        let broken = broken.then(|| self.window.get(start..at)).flatten();
        Some(Piece { broken, ..Piece::of(Cow::Owned(text)) })
    }

    /// The first part of a line that is too long.
    fn long(&mut self, end: usize) -> Piece<'a> {
        let piece = self.piece(self.taken, end);
        (self.taken, self.within) = (end, Within::Cut);
        Piece { truncated: true, ..piece }
    }

    /// All that there is of a line. Half a unit waits for its other half: after it nothing would be read aright.
    fn open(&mut self) -> Piece<'a> {
        let rest = self.from(self.taken).len();
        let torn = if self.flush.last { 0 } else { rest % self.rules.encoding.unit() };
        let end = self.taken + rest - torn;
        let piece = self.piece(self.taken, end);
        self.taken = end;
        self.within = if self.flush.last { Within::Nothing } else { Within::Partial };
        Piece { partial: !self.flush.last, ..piece }
    }

    fn raw(&self, at: usize) -> Raw {
        let (rest, max, unit) = (self.from(at), self.rules.max_line, self.rules.encoding.unit());
        // A break behind the longest line does not count: the line is too long.
        let seen = rest.get(..max + 2 * unit).unwrap_or(rest);
        match self.rules.encoding.line_end(seen) {
            Some(end) if end <= max => Raw::Line { end: at + end, next: at + end + unit },
            _ if rest.len() > max + unit => Raw::Long(at + self.rules.encoding.cut(rest, max)),
            _ if rest.is_empty() || (rest.len() < unit && !self.flush.last) => Raw::Empty,
            _ => Raw::Open,
        }
    }

    fn piece(&self, start: usize, end: usize) -> Piece<'a> {
        let bytes = self.window.get(start..end).unwrap_or_default();
        let decoded = self.rules.encoding.decode(bytes);
        Piece { broken: decoded.broken.then_some(bytes), ..Piece::of(decoded.text) }
    }

    fn from(&self, at: usize) -> &'a [u8] {
        self.window.get(at..).unwrap_or_default()
    }
}

enum Rest<'a> {
    Piece(Piece<'a>),
    /// Its end has not come.
    Open,
    /// There is no more of it.
    Over,
}

impl<'a> Piece<'a> {
    pub(super) fn of(text: Cow<'a, str>) -> Self {
        Self { text, broken: None, partial: false, continued: false, truncated: false }
    }
}
