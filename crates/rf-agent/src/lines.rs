//! Lines out of a stream, each within a bound.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt};

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;
/// Most lines that are handed out together.
const MAX_LINES: usize = 1000;

/// A line without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The bytes; at most as many as the reader was told.
    pub(crate) bytes: Bytes,
    /// It was longer, and the rest is gone.
    pub(crate) is_cut: bool,
}

impl Line {
    /// As text; bytes that are none are replaced.
    pub(crate) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

/// Splits a stream at `\n` or `\r\n`. Memory is bounded by the longest line and one read.
#[derive(Debug)]
pub(crate) struct LineReader<R> {
    input: R,
    splitter: Splitter,
    has_ended: bool,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// Lines longer than `max_bytes` are cut there.
    pub(crate) fn new(input: R, max_bytes: usize) -> Self {
        Self { input, splitter: Splitter::new(max_bytes), has_ended: false }
    }

    /// The next lines: waits for one, and takes all that are there with it. `None` at the end; what stands there without a
    /// line end is the last line.
    ///
    /// Cancel-safe: what was read stays.
    pub(crate) async fn next(&mut self) -> std::io::Result<Option<Vec<Line>>> {
        loop {
            let lines = self.splitter.take();
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
            if self.has_ended {
                return Ok(self.splitter.finish().map(|line| vec![line]));
            }
            self.splitter.buffer.reserve(READ_BYTES);
            self.has_ended = self.input.read_buf(&mut self.splitter.buffer).await? == 0;
        }
    }
}

/// Bytes in, lines out.
#[derive(Debug)]
pub(crate) struct Splitter {
    buffer: BytesMut,
    max_bytes: usize,
    /// The buffer has no line end before here.
    searched: usize,
    /// The rest of a line that was cut is passed over.
    is_skipping: bool,
}

impl Splitter {
    /// Lines longer than `max_bytes` are cut there.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { buffer: BytesMut::new(), max_bytes, searched: 0, is_skipping: false }
    }

    /// More of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The whole lines that are there, up to a bound; call again until there are none.
    pub(crate) fn take(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        while lines.len() < MAX_LINES {
            let Some(at) = memchr(b'\n', &self.buffer[self.searched..]) else {
                self.searched = self.buffer.len();
                lines.extend(self.cut());
                break;
            };
            let bytes = self.buffer.split_to(self.searched + at);
            self.buffer.advance(1);
            self.searched = 0;
            if !std::mem::take(&mut self.is_skipping) {
                lines.push(self.line(bytes.freeze()));
            }
        }
        lines
    }

    /// What stands behind the last line end.
    pub(crate) fn finish(&mut self) -> Option<Line> {
        self.searched = 0;
        let rest = self.buffer.split().freeze();
        let is_line = !std::mem::take(&mut self.is_skipping) && !rest.is_empty();
        is_line.then(|| self.line(rest))
    }

    /// The head of a line that is too long to wait for its end.
    fn cut(&mut self) -> Option<Line> {
        if self.is_skipping {
            self.buffer.clear();
            self.searched = 0;
            return None;
        }
        // The two bytes are for a line end that would still make it fit.
        if self.buffer.len() < self.max_bytes.saturating_add(2) {
            return None;
        }
        let rest = self.buffer.split().freeze();
        self.searched = 0;
        self.is_skipping = true;
        Some(self.line(rest))
    }

    fn line(&self, bytes: Bytes) -> Line {
        let bytes = bytes.strip_suffix(b"\r").map_or(bytes.clone(), |text| bytes.slice_ref(text));
        let is_cut = bytes.len() > self.max_bytes;
        Line { bytes: bytes.slice(..bytes.len().min(self.max_bytes)), is_cut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as text, `text..` for one that was cut.
    async fn check(pieces: &[&str], max_bytes: usize, expected: &[&str]) {
        let mut input = in_pieces(pieces);
        let mut reader = LineReader::new(&mut input, max_bytes);
        let mut found = Vec::new();
        while let Some(lines) = reader.next().await.expect("no error") {
            let told =
                |line: &Line| format!("{}{}", line.text(), if line.is_cut { ".." } else { "" });
            found.extend(lines.iter().map(told));
        }
        assert_eq!(found, expected, "{pieces:?}");
    }

    /// Gives one piece a read.
    fn in_pieces(pieces: &[&str]) -> impl AsyncRead + Unpin {
        let mut whole: Box<dyn AsyncRead + Unpin> = Box::new(tokio::io::empty());
        for piece in pieces.iter().rev() {
            let piece = std::io::Cursor::new(piece.as_bytes().to_vec());
            whole = Box::new(AsyncReadExt::chain(piece, whole));
        }
        whole
    }

    #[tokio::test]
    async fn lines_come_whole_however_they_are_torn() {
        check(&["a\nb\r\n", "", "\nc"], 10, &["a", "b", "", "c"]).await;
        check(&["a", "b", "\r", "\nc", "\n"], 10, &["ab", "c"]).await;
        check(&[], 10, &[]).await;
        check(&["\n"], 10, &[""]).await;
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_cut_and_its_rest_passed_over() {
        check(&["12345\r\n123456\nx\n"], 5, &["12345", "12345..", "x"]).await;
        check(&["1234567", "89\n", "x"], 5, &["12345..", "x"]).await;
        check(&["1234567", "89"], 5, &["12345.."]).await;
        check(&["12345", "\r", "\nx\n"], 5, &["12345", "x"]).await;
    }

    #[tokio::test]
    async fn many_lines_come_in_several_parts() {
        let text = "x\n".repeat(MAX_LINES * 2 + 1);
        let mut reader = LineReader::new(text.as_bytes(), 10);
        let mut counts = Vec::new();
        while let Some(lines) = reader.next().await.expect("no error") {
            counts.push(lines.len());
        }
        assert!(counts.iter().all(|count| *count <= MAX_LINES), "{counts:?}");
        assert_eq!(counts.iter().sum::<usize>(), MAX_LINES * 2 + 1);
    }
}
