//! Lua's patterns, matched by backtracking as Lua 5.4 does it.
//!
//! Invariant: every loop pays into [`Budget`], so a match ends soon after its call's time is up.

use std::cell::Cell;

use crate::guard::Guard;

/// Captures of one pattern.
pub(super) const MAX_CAPTURES: usize = 32;
/// Nested tries of one match; Lua has the same.
const MAX_DEPTH: u32 = 200;
/// Work between two looks at the clock, about bytes compared: some tens of microseconds.
const WORK_BETWEEN_LOOKS: usize = 16 * 1024;
/// What a try of an item costs beside the bytes that it compares.
const TRY_COST: usize = 4;
const ESCAPE: u8 = b'%';

/// Boxed, so that the result of the hot path stays small.
pub(super) type Fault = Box<mlua::Error>;

pub(super) fn fault(text: impl Into<String>) -> Fault {
    Box::new(mlua::Error::RuntimeError(text.into()))
}

/// The work done since the last look at the clock, over all matches of a VM: many short ones are seen, too.
#[derive(Debug)]
pub(super) struct Budget {
    guard: Guard,
    work: Cell<usize>,
}

impl Budget {
    pub(super) fn new(guard: Guard) -> Self {
        Self { guard, work: Cell::new(0) }
    }

    #[inline]
    pub(super) fn spend(&self, work: usize) -> Result<(), Fault> {
        let work = self.work.get().saturating_add(work);
        self.work.set(work);
        if work < WORK_BETWEEN_LOOKS { Ok(()) } else { self.look() }
    }

    #[cold]
    fn look(&self) -> Result<(), Fault> {
        self.work.set(0);
        self.guard.check().map_err(Box::new)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Open,
    Position,
    Bytes(usize),
}

#[derive(Debug, Clone, Copy)]
struct Capture {
    start: usize,
    length: Length,
}

/// What a capture holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Captured<'a> {
    Text(&'a [u8]),
    /// Counted from 1.
    Position(usize),
}

/// One subject and one pattern (without its leading `^`).
pub(super) struct Matcher<'a> {
    subject: &'a [u8],
    pattern: &'a [u8],
    budget: &'a Budget,
    level: usize,
    captures: [Capture; MAX_CAPTURES],
    depth: u32,
}

type Found = Result<Option<usize>, Fault>;

impl<'a> Matcher<'a> {
    pub(super) fn new(subject: &'a [u8], pattern: &'a [u8], budget: &'a Budget) -> Self {
        let captures = [Capture { start: 0, length: Length::Open }; MAX_CAPTURES];
        Self { subject, pattern, budget, level: 0, captures, depth: 0 }
    }

    /// Where a match that begins at `at` ends.
    #[inline]
    pub(super) fn match_at(&mut self, at: usize) -> Found {
        self.level = 0;
        self.depth = 0;
        self.matches(at, 0)
    }

    /// The first match at `from` or later: where it begins and ends.
    pub(super) fn first(
        &mut self,
        from: usize,
        anchored: bool,
    ) -> Result<Option<(usize, usize)>, Fault> {
        for at in from..=self.subject.len() {
            if let Some(end) = self.match_at(at)? {
                return Ok(Some((at, end)));
            }
            if anchored {
                break;
            }
        }
        Ok(None)
    }

    /// Pays for work that is done with the match.
    pub(super) fn spend(&self, work: usize) -> Result<(), Fault> {
        self.budget.spend(work)
    }

    /// How many captures the match has.
    pub(super) fn count(&self) -> usize {
        self.level
    }

    /// Capture `index`, from 0. A match without captures has itself as its first.
    pub(super) fn capture(
        &self,
        index: usize,
        start: usize,
        end: usize,
    ) -> Result<Captured<'a>, Fault> {
        if index >= self.level {
            if index != 0 {
                return Err(fault(format!("invalid capture index %{}", index + 1)));
            }
            return Ok(Captured::Text(self.subject.get(start..end).unwrap_or_default()));
        }
        let capture = self.captures[index];
        match capture.length {
            Length::Open => Err(fault("unfinished capture")),
            Length::Position => Ok(Captured::Position(capture.start + 1)),
            Length::Bytes(length) => {
                let range = capture.start..capture.start + length;
                Ok(Captured::Text(self.subject.get(range).unwrap_or_default()))
            }
        }
    }

    fn byte(&self, item: usize) -> Option<u8> {
        self.pattern.get(item).copied()
    }

    fn matches(&mut self, at: usize, item: usize) -> Found {
        if self.depth == MAX_DEPTH {
            return Err(fault("pattern too complex"));
        }
        self.depth += 1;
        let end = self.items(at, item);
        self.depth -= 1;
        end
    }

    /// Goes on from item to item without nesting as long as there is one way to do so.
    fn items(&mut self, mut at: usize, mut item: usize) -> Found {
        loop {
            self.budget.spend(TRY_COST)?;
            let Some(first) = self.byte(item) else { return Ok(Some(at)) };
            match first {
                b'(' if self.byte(item + 1) == Some(b')') => {
                    return self.open(at, item + 2, Length::Position);
                }
                b'(' => return self.open(at, item + 1, Length::Open),
                b')' => return self.close(at, item + 1),
                b'$' if item + 1 == self.pattern.len() => {
                    return Ok((at == self.subject.len()).then_some(at));
                }
                ESCAPE => match self.byte(item + 1) {
                    Some(b'b') => {
                        let Some(end) = self.balance(at, item + 2)? else { return Ok(None) };
                        (at, item) = (end, item + 4);
                        continue;
                    }
                    Some(b'f') => {
                        let Some(next) = self.frontier(at, item + 2)? else { return Ok(None) };
                        item = next;
                        continue;
                    }
                    Some(digit @ b'0'..=b'9') => {
                        let Some(end) = self.same_again(at, digit)? else { return Ok(None) };
                        (at, item) = (end, item + 2);
                        continue;
                    }
                    _ => {}
                },
                _ => {}
            }
            let next = self.item_end(item)?;
            let here = self.single(at, item, next)?;
            match self.byte(next) {
                Some(b'?') if here => {
                    if let Some(end) = self.matches(at + 1, next + 1)? {
                        return Ok(Some(end));
                    }
                    item = next + 1;
                }
                Some(b'+') if here => return self.longest(at + 1, item, next),
                Some(b'*') if here => return self.longest(at, item, next),
                Some(b'-') if here => return self.shortest(at, item, next),
                Some(b'?' | b'*' | b'-') => item = next + 1,
                _ if here => (at, item) = (at + 1, next),
                _ => return Ok(None),
            }
        }
    }

    /// Where the single-character item that begins at `item` ends.
    fn item_end(&self, item: usize) -> Result<usize, Fault> {
        let next = item + 1;
        match self.byte(item) {
            Some(ESCAPE) if next >= self.pattern.len() => {
                Err(fault("malformed pattern (ends with '%')"))
            }
            Some(ESCAPE) => Ok(next + 1),
            Some(b'[') => self.set_end(next),
            _ => Ok(next),
        }
    }

    fn set_end(&self, mut at: usize) -> Result<usize, Fault> {
        if self.byte(at) == Some(b'^') {
            at += 1;
        }
        let begin = at;
        // The first character belongs to the set even if it is the bracket that would end it.
        loop {
            match self.byte(at) {
                None => return Err(fault("malformed pattern (missing ']')")),
                Some(ESCAPE) => at += 2,
                Some(_) => at += 1,
            }
            if self.byte(at) == Some(b']') {
                self.budget.spend(at - begin)?;
                return Ok(at + 1);
            }
        }
    }

    #[inline]
    fn single(&self, at: usize, item: usize, next: usize) -> Result<bool, Fault> {
        let Some(&byte) = self.subject.get(at) else { return Ok(false) };
        match self.pattern[item] {
            b'.' => Ok(true),
            ESCAPE => Ok(in_class(byte, self.pattern[item + 1])),
            b'[' => {
                self.budget.spend(next - item)?;
                Ok(in_set(byte, &self.pattern[item + 1..next - 1]))
            }
            literal => Ok(literal == byte),
        }
    }

    fn longest(&mut self, at: usize, item: usize, next: usize) -> Found {
        let mut end = at;
        while self.single(end, item, next)? {
            end += 1;
        }
        self.budget.spend(end - at)?;
        loop {
            if let Some(found) = self.matches(end, next + 1)? {
                return Ok(Some(found));
            }
            if end == at {
                return Ok(None);
            }
            end -= 1;
        }
    }

    fn shortest(&mut self, mut at: usize, item: usize, next: usize) -> Found {
        loop {
            if let Some(found) = self.matches(at, next + 1)? {
                return Ok(Some(found));
            }
            if !self.single(at, item, next)? {
                return Ok(None);
            }
            at += 1;
        }
    }

    fn open(&mut self, at: usize, item: usize, length: Length) -> Found {
        let Some(capture) = self.captures.get_mut(self.level) else {
            return Err(fault("too many captures"));
        };
        *capture = Capture { start: at, length };
        self.level += 1;
        let found = self.matches(at, item)?;
        if found.is_none() {
            self.level -= 1;
        }
        Ok(found)
    }

    fn close(&mut self, at: usize, item: usize) -> Found {
        let open =
            self.captures[..self.level].iter().rposition(|capture| capture.length == Length::Open);
        let Some(open) = open else { return Err(fault("invalid pattern capture")) };
        self.captures[open].length = Length::Bytes(at - self.captures[open].start);
        let found = self.matches(at, item)?;
        if found.is_none() {
            self.captures[open].length = Length::Open;
        }
        Ok(found)
    }

    /// `%b()`.
    fn balance(&self, at: usize, arguments: usize) -> Found {
        let (Some(open), Some(close)) = (self.byte(arguments), self.byte(arguments + 1)) else {
            return Err(fault("malformed pattern (missing arguments to '%b')"));
        };
        if self.subject.get(at) != Some(&open) {
            return Ok(None);
        }
        let mut depth = 1_usize;
        let rest = self.subject.get(at + 1..).unwrap_or_default();
        for (offset, &byte) in rest.iter().enumerate() {
            self.budget.spend(1)?;
            if byte == close {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(at + offset + 2));
                }
            } else if byte == open {
                depth += 1;
            }
        }
        Ok(None)
    }

    /// `%f[set]`: where the set ends, if the frontier is here.
    fn frontier(&self, at: usize, set: usize) -> Found {
        if self.byte(set) != Some(b'[') {
            return Err(fault("missing '[' after '%f' in pattern"));
        }
        let next = self.set_end(set + 1)?;
        let members = &self.pattern[set + 1..next - 1];
        let before = at.checked_sub(1).map_or(0, |before| self.subject[before]);
        let here = self.subject.get(at).copied().unwrap_or(0);
        Ok((!in_set(before, members) && in_set(here, members)).then_some(next))
    }

    /// `%1`: what the capture holds, once more.
    fn same_again(&self, at: usize, digit: u8) -> Found {
        let index = usize::from(digit).wrapping_sub(usize::from(b'1'));
        let capture = self.captures[..self.level].get(index);
        let Some(capture) = capture.filter(|capture| capture.length != Length::Open) else {
            let number = i32::from(digit) - i32::from(b'0');
            return Err(fault(format!("invalid capture index %{number}")));
        };
        let Length::Bytes(length) = capture.length else { return Ok(None) };
        self.budget.spend(length)?;
        let held = self.subject.get(capture.start..capture.start + length);
        let here = self.subject.get(at..).and_then(|rest| rest.get(..length));
        Ok((here.is_some() && here == held).then_some(at + length))
    }
}

/// `%a` and its like; an upper-case letter is the complement, anything else stands for itself.
#[inline]
fn in_class(byte: u8, class: u8) -> bool {
    let member = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'g' => byte.is_ascii_graphic(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => matches!(byte, b' ' | b'\t'..=b'\r'),
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return byte == class,
    };
    member != class.is_ascii_uppercase()
}

/// Whether the byte is in the set whose text between the brackets is `members`.
fn in_set(byte: u8, members: &[u8]) -> bool {
    let (wanted, mut rest) = match members {
        [b'^', rest @ ..] => (false, rest),
        all => (true, all),
    };
    loop {
        rest = match rest {
            [] => return !wanted,
            [ESCAPE, class, rest @ ..] => {
                if in_class(byte, *class) {
                    return wanted;
                }
                rest
            }
            [low, b'-', high, rest @ ..] => {
                if (*low..=*high).contains(&byte) {
                    return wanted;
                }
                rest
            }
            [literal, rest @ ..] => {
                if *literal == byte {
                    return wanted;
                }
                rest
            }
        };
    }
}
