//! Messages out of a TCP stream (RFC 6587): counted (`LEN SP MESSAGE`) or ended by a line feed, told apart by the first
//! character of each.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

/// More digits are no length of a message.
const MAX_DIGITS: usize = 9;
/// Most messages that are handed out together.
const MAX_FRAMES: usize = 1000;

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// At most as many bytes as allowed.
    pub(super) bytes: Bytes,
    /// It was longer, or its end has not come.
    pub(super) is_cut: bool,
}

/// The stream is not what it says: where the next message begins cannot be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadFraming {
    #[error("a length is not followed by a space")]
    NoBlank,
    #[error("a length is too large: it has more than {} digits", MAX_DIGITS)]
    TooLong,
}

/// Bytes in, messages out. Memory is bounded by the longest message and one read.
#[derive(Debug)]
pub(super) struct Framing {
    pub(super) buffer: BytesMut,
    max_bytes: usize,
    /// What is left to pass over of a message that was cut.
    skip: Skip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Skip {
    Nothing,
    Bytes(usize),
    Line,
}

impl Framing {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { buffer: BytesMut::new(), max_bytes, skip: Skip::Nothing }
    }

    /// The whole messages that are there, up to a bound; call again until there are none.
    pub(super) fn take(&mut self) -> Result<Vec<Frame>, BadFraming> {
        let mut frames = Vec::new();
        while frames.len() < MAX_FRAMES {
            match self.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                // What came before it is good.
                Err(_bad) if !frames.is_empty() => break,
                Err(bad) => return Err(bad),
            }
        }
        Ok(frames)
    }

    /// What stands behind the last end, when the stream has ended: a line, or as much as has come of a counted message.
    pub(super) fn finish(&mut self) -> Option<Frame> {
        let mut rest = self.buffer.split().freeze();
        if self.skip != Skip::Nothing || rest.is_empty() {
            return None;
        }
        // A whole one would have been taken.
        let is_counted = matches!(rest.first(), Some(b'1'..=b'9'));
        if is_counted {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            rest.advance((digits + 1).min(rest.len()));
        }
        Some(self.frame(rest, is_counted))
    }

    fn next(&mut self) -> Result<Option<Frame>, BadFraming> {
        if !self.pass_over() {
            return Ok(None);
        }
        // Some senders end counted messages with a line feed as well.
        while matches!(self.buffer.first(), Some(b'\n' | b'\r' | 0)) {
            self.buffer.advance(1);
        }
        match self.buffer.first() {
            None => Ok(None),
            Some(b'1'..=b'9') => self.counted(),
            Some(_) => Ok(self.line()),
        }
    }

    /// False when more has to come first.
    fn pass_over(&mut self) -> bool {
        match self.skip {
            Skip::Nothing => {}
            Skip::Bytes(count) => {
                let there = count.min(self.buffer.len());
                self.buffer.advance(there);
                self.skip = if there < count { Skip::Bytes(count - there) } else { Skip::Nothing };
            }
            Skip::Line => match memchr(b'\n', &self.buffer) {
                Some(at) => {
                    self.buffer.advance(at + 1);
                    self.skip = Skip::Nothing;
                }
                None => self.buffer.clear(),
            },
        }
        self.skip == Skip::Nothing
    }

    fn counted(&mut self) -> Result<Option<Frame>, BadFraming> {
        let digits =
            self.buffer.iter().take(MAX_DIGITS + 1).take_while(|b| b.is_ascii_digit()).count();
        match self.buffer.get(digits) {
            _ if digits > MAX_DIGITS => return Err(BadFraming::TooLong),
            None => return Ok(None),
            Some(b' ') => {}
            Some(_) => return Err(BadFraming::NoBlank),
        }
        let length = self.buffer[..digits]
            .iter()
            .fold(0_usize, |length, digit| length * 10 + usize::from(digit - b'0'));
        let kept = length.min(self.max_bytes);
        if self.buffer.len() < digits + 1 + kept {
            return Ok(None);
        }
        self.buffer.advance(digits + 1);
        let bytes = self.buffer.split_to(kept).freeze();
        if kept < length {
            self.skip = Skip::Bytes(length - kept);
        }
        Ok(Some(self.frame(bytes, kept < length)))
    }

    fn line(&mut self) -> Option<Frame> {
        if let Some(at) = memchr(b'\n', &self.buffer) {
            let bytes = self.buffer.split_to(at).freeze();
            self.buffer.advance(1);
            return Some(self.frame(bytes, false));
        }
        // The two bytes are for an end that would still make it fit.
        if self.buffer.len() < self.max_bytes.saturating_add(2) {
            return None;
        }
        let bytes = self.buffer.split().freeze();
        self.skip = Skip::Line;
        Some(self.frame(bytes, true))
    }

    fn frame(&self, bytes: Bytes, is_cut: bool) -> Frame {
        let ends = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
        let length = bytes.iter().rposition(|byte| !ends(byte)).map_or(0, |last| last + 1);
        let kept = length.min(self.max_bytes);
        Frame { is_cut: is_cut || kept < length, bytes: bytes.slice(..kept) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the stream in pieces of every size; messages as text, `..` behind those that were cut.
    fn check(stream: &str, max_bytes: usize, expected: &[&str]) {
        for size in 1..=stream.len() {
            let mut framing = Framing::new(max_bytes);
            let mut found = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                framing.buffer.extend_from_slice(piece);
                loop {
                    let frames = framing.take().expect("good framing");
                    if frames.is_empty() {
                        break;
                    }
                    found.extend(frames);
                }
            }
            found.extend(framing.finish());
            let told = |frame: &Frame| {
                let end = if frame.is_cut { ".." } else { "" };
                format!("{}{end}", String::from_utf8_lossy(&frame.bytes))
            };
            assert_eq!(found.iter().map(told).collect::<Vec<_>>(), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn counted_messages_and_lines_may_follow_each_other() {
        check("5 <1>ab<2>cd\n6 <3>e\nf<4>g", 100, &["<1>ab", "<2>cd", "<3>e\nf", "<4>g"]);
        check("4 <1>a\n\n4 <1>b\r\n", 100, &["<1>a", "<1>b"]);
        check("<1>a\r\n\0<1>b\0\n", 100, &["<1>a", "<1>b"]);
    }

    #[test]
    fn long_messages_are_cut_and_the_next_begins_where_it_should() {
        check("8 <1>abcde5 <1>xy", 5, &["<1>ab..", "<1>xy"]);
        check("<1>abcde\n<1>xy\n", 5, &["<1>ab..", "<1>xy"]);
        check("<1>ab\r\n<1>abc", 5, &["<1>ab", "<1>ab.."]);
    }

    #[test]
    fn a_counted_message_that_the_end_cuts_comes_without_its_length() {
        check("10 <1>abcd", 100, &["<1>abcd.."]);
        check("<1>a\n10 <1>abcd\n", 100, &["<1>a", "<1>abcd.."]);
        check("10 <1>abcd", 5, &["<1>ab.."]);
        // Nothing came but the length.
        check("<1>a\n10 ", 100, &["<1>a", ".."]);
        check("<1>a\n10", 100, &["<1>a", ".."]);
    }

    #[test]
    fn a_length_without_a_message_is_bad() {
        let check = |stream: &[u8], expected: &str| {
            let mut framing = Framing::new(100);
            framing.buffer.extend_from_slice(stream);
            assert_eq!(framing.take().map_err(|bad| bad.to_string()), Err(expected.to_owned()));
        };
        check(b"5x", "a length is not followed by a space");
        for stream in [&b"99999999999"[..], b"99999999999999999999 x"] {
            check(stream, "a length is too large: it has more than 9 digits");
        }
    }

    #[test]
    fn what_came_before_bad_framing_is_good() {
        let mut framing = Framing::new(100);
        framing.buffer.extend_from_slice(b"<1>a\n5x");
        assert_eq!(framing.take().map(|frames| frames.len()), Ok(1));
        assert_eq!(framing.take(), Err(BadFraming::NoBlank));
    }
}
