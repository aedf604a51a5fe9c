//! What is in a file that gzip has compressed (RFC 1952), in order.
//!
//! A file that somebody is still writing ends in the middle. What is in it so far comes all the same, and the rest when it
//! has been written, without unpacking the beginning again; and of a damaged file comes all that is before the damage. A
//! decoder that is a reader does neither: with its error it keeps to itself what it has unpacked, and cannot go on.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::content::{Reached, read_plain};
use super::trouble::{State, state_of};

/// Read of the file at once.
const INPUT_BYTES: usize = 32 * 1024;
/// Room for what one step unpacks, more than the decompressor holds back.
const OUTPUT_BYTES: usize = 64 * 1024;
/// What is passed over is unpacked in pieces of this.
const SKIP_BYTES: usize = 64 * 1024;
/// A header without its optional parts, and the longest one that is taken.
const MIN_HEADER: usize = 10;
const MAX_HEADER: usize = 256 * 1024;
const TRAILER: usize = 8;
/// How each member begins: the magic number, and the only method that there is.
const BEGINNING: [u8; 3] = [0x1f, 0x8b, 8];
/// Flags of a header: which optional parts it has, and those that mean nothing yet.
const HAS_CHECK: u8 = 1 << 1;
const HAS_EXTRA: u8 = 1 << 2;
const HAS_NAME: u8 = 1 << 3;
const HAS_COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0xe0;

const UNFINISHED: &str = "the file ends in the middle";
const NO_GZIP: &str = "what follows is not gzip";
const DAMAGED: &str = "the compressed data is damaged";
const WRONG_SUM: &str = "the checksum is wrong";

/// Compressed content, by position.
pub(super) struct Compressed {
    pub(super) file: Arc<File>,
    unpacker: Unpacker,
    /// Unpacked bytes from `start` on that were asked for and may be again.
    window: Vec<u8>,
    start: u64,
    /// The file as it was when damage was found.
    damaged: Option<State>,
}

impl Compressed {
    pub(super) fn new(file: Arc<File>) -> Self {
        let unpacker = Unpacker::new(Arc::clone(&file));
        Self { file, unpacker, window: Vec::new(), start: 0, damaged: None }
    }

    /// Its first bytes, up to so many.
    pub(super) fn head(&self, len: usize) -> io::Result<(Vec<u8>, Reached)> {
        let mut head = Vec::new();
        let reached = Unpacker::new(Arc::clone(&self.file)).fill(&mut head, len)?;
        head.truncate(len);
        Ok((head, reached))
    }

    /// The length of what it holds, as far as its last four bytes tell: without the higher ones. They say nothing while
    /// somebody is writing it.
    pub(super) fn told_len(&self) -> io::Result<ToldLen> {
        let mut told = [0; 4];
        if let Some(at) = self.file.metadata()?.len().checked_sub(told.len() as u64) {
            self.file.read_exact_at(&mut told, at)?;
        }
        Ok(ToldLen(u32::from_le_bytes(told)))
    }

    /// Fills `buffer` with `len` bytes from `from` on, or as many as there are. Going back begins anew.
    pub(super) fn read(
        &mut self,
        from: u64,
        len: usize,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Reached> {
        let state = state_of(&self.file.metadata()?);
        // Cut, or written over: what was unpacked of it means nothing any more.
        let is_another =
            state.0 < self.unpacker.at() || self.damaged.is_some_and(|damaged| damaged != state);
        if from < self.start || is_another {
            *self = Self::new(Arc::clone(&self.file));
        }
        let mut reached = Reached::Asked;
        while reached == Reached::Asked && self.start + (self.window.len() as u64) < from {
            self.start += self.window.len() as u64;
            self.window.clear();
            let want = usize::try_from(from - self.start).unwrap_or(SKIP_BYTES).min(SKIP_BYTES);
            reached = self.unpacker.fill(&mut self.window, want)?;
        }
        let passed =
            usize::try_from(from - self.start).unwrap_or(usize::MAX).min(self.window.len());
        self.window.drain(..passed);
        self.start += passed as u64;
        if reached == Reached::Asked {
            reached = self.unpacker.fill(&mut self.window, len)?;
        }
        if self.unpacker.is_damaged() {
            self.damaged.get_or_insert(state);
        }
        buffer.clear();
        buffer.extend_from_slice(self.window.get(..len).unwrap_or(&self.window));
        Ok(if self.window.len() > len { Reached::Asked } else { reached })
    }
}

/// A length, of which only the lower 32 bits are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToldLen(u32);

impl ToldLen {
    pub(super) fn may_be(self, len: u64) -> bool {
        u64::from(self.0) == len & u64::from(u32::MAX)
    }
}

/// Unpacks the members of a file one after the other.
struct Unpacker {
    input: Input,
    stage: Stage,
    /// A member was unpacked to its end.
    has_whole: bool,
    inflate: Decompress,
    crc: Crc,
}

/// What comes next in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    Body,
    Trailer,
    /// Nothing that can be read, and why.
    Damaged(&'static str),
}

impl Unpacker {
    fn new(file: Arc<File>) -> Self {
        Self {
            input: Input { file, at: 0, bytes: Vec::new(), used: 0 },
            stage: Stage::Header,
            has_whole: false,
            inflate: Decompress::new(false),
            crc: Crc::new(),
        }
    }

    /// How much of the file was unpacked.
    fn at(&self) -> u64 {
        self.input.at + self.input.used as u64
    }

    fn is_damaged(&self) -> bool {
        matches!(self.stage, Stage::Damaged(_))
    }

    /// Adds to `out` until it has `len` bytes, or somewhat more, or there is nothing to add.
    fn fill(&mut self, out: &mut Vec<u8>, len: usize) -> io::Result<Reached> {
        while out.len() < len {
            let end = match self.stage {
                Stage::Header => self.header()?,
                Stage::Body => self.body(out)?,
                Stage::Trailer => self.trailer()?,
                Stage::Damaged(what) => Some(Reached::Break(what)),
            };
            if let Some(end) = end {
                return Ok(end);
            }
        }
        Ok(Reached::Asked)
    }

    fn header(&mut self) -> io::Result<Option<Reached>> {
        let bytes = self.input.peek(MIN_HEADER)?;
        if bytes.is_empty() && self.has_whole {
            return Ok(Some(Reached::End));
        }
        let mut len = header_len(bytes);
        if len == Ok(None) {
            // It may have begun at the end of what was read, and names and comments may be long.
            let bytes = self.input.peek(MAX_HEADER)?;
            len = match header_len(bytes) {
                Ok(None) if bytes.len() >= MAX_HEADER => Err(NO_GZIP),
                len => len,
            };
        }
        self.stage = match len {
            Ok(Some(len)) => {
                self.input.consume(len);
                Stage::Body
            }
            Ok(None) => return Ok(Some(Reached::Break(UNFINISHED))),
            Err(what) => Stage::Damaged(what),
        };
        Ok(None)
    }

    fn body(&mut self, out: &mut Vec<u8>) -> io::Result<Option<Reached>> {
        let input = self.input.peek(1)?;
        let is_dry = input.is_empty();
        let (was_in, was_out) = (self.inflate.total_in(), out.len());
        out.reserve(OUTPUT_BYTES);
        let status = self.inflate.decompress_vec(input, out, FlushDecompress::None);
        let used = usize::try_from(self.inflate.total_in() - was_in).unwrap_or(usize::MAX);
        self.input.consume(used);
        self.crc.update(out.get(was_out..).unwrap_or_default());
        match status {
            Ok(Status::StreamEnd) => self.stage = Stage::Trailer,
            Ok(_) if used > 0 || out.len() > was_out => {}
            Ok(_) if is_dry => return Ok(Some(Reached::Break(UNFINISHED))),
            Ok(_) | Err(_) => self.stage = Stage::Damaged(DAMAGED),
        }
        Ok(None)
    }

    fn trailer(&mut self) -> io::Result<Option<Reached>> {
        let Some(told) = self.input.peek(TRAILER)?.first_chunk::<TRAILER>() else {
            return Ok(Some(Reached::Break(UNFINISHED)));
        };
        let found = (u64::from(self.crc.amount()) << 32) | u64::from(self.crc.sum());
        if u64::from_le_bytes(*told) != found {
            self.stage = Stage::Damaged(WRONG_SUM);
            return Ok(None);
        }
        self.input.consume(TRAILER);
        self.inflate.reset(false);
        self.crc.reset();
        (self.stage, self.has_whole) = (Stage::Header, true);
        Ok(None)
    }
}

/// Length of the header that `bytes` begin with; `None` when it goes on behind them.
fn header_len(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    if bytes.iter().zip(BEGINNING).any(|(byte, expected)| *byte != expected) {
        return Err(NO_GZIP);
    }
    let Some(&flags) = bytes.get(BEGINNING.len()) else { return Ok(None) };
    if flags & RESERVED != 0 {
        return Err(NO_GZIP);
    }
    let mut len = MIN_HEADER;
    if flags & HAS_EXTRA != 0 {
        let size = bytes.get(len..).and_then(|rest| rest.first_chunk::<2>());
        let Some(size) = size else { return Ok(None) };
        len += size.len() + usize::from(u16::from_le_bytes(*size));
    }
    for part in [HAS_NAME, HAS_COMMENT] {
        if flags & part != 0 {
            let end = bytes.get(len..).and_then(|rest| memchr::memchr(0, rest));
            let Some(end) = end else { return Ok(None) };
            len += end + 1;
        }
    }
    if flags & HAS_CHECK != 0 {
        len += size_of::<u16>();
    }
    Ok((len <= bytes.len()).then_some(len))
}

/// The bytes of the file, in order, with a look ahead.
struct Input {
    file: Arc<File>,
    /// `bytes` are those from here on; so many of them were used.
    at: u64,
    bytes: Vec<u8>,
    used: usize,
}

impl Input {
    /// What comes next: so many bytes or more, where the file has them by now.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.bytes.len() < self.used + count {
            self.at += self.used as u64;
            self.used = 0;
            let len = count.max(INPUT_BYTES);
            if let Err(error) = read_plain(&self.file, self.at, len, &mut self.bytes) {
                self.bytes.clear();
                return Err(error);
            }
        }
        Ok(self.bytes.get(self.used..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.used += count;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;
    use flate2::{Compression, GzBuilder};

    use super::*;

    fn packed(text: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn text(lines: u32) -> Vec<u8> {
        (0..lines)
            .flat_map(|n| format!("line {n} {}\n", n.wrapping_mul(2654435761)).into_bytes())
            .collect()
    }

    /// Reads all that is in the file so far, in pieces of an odd size.
    fn read(compressed: &mut Compressed, found: &mut Vec<u8>) -> Reached {
        let mut buffer = Vec::new();
        loop {
            let reached = compressed.read(found.len() as u64, 1009, &mut buffer).unwrap();
            found.extend_from_slice(&buffer);
            if reached != Reached::Asked {
                return reached;
            }
        }
    }

    fn check(packed: &[u8], expected: &[u8], end: Reached) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(packed).unwrap();
        let mut found = Vec::new();
        let reached = read(&mut Compressed::new(Arc::new(file)), &mut found);
        assert_eq!(reached, end);
        assert!(found == expected, "{} bytes of {}", found.len(), expected.len());
    }

    #[test]
    fn members_come_one_behind_the_other() {
        let (one, other) = (text(20_000), text(3));
        for level in [0, 1, 9] {
            let both = [packed(&one, level), packed(b"", level), packed(&other, level)].concat();
            check(&both, &[one.clone(), other.clone()].concat(), Reached::End);
        }
    }

    #[test]
    fn headers_may_have_names_wherever_they_begin() {
        let name = vec![b'n'; 1000];
        let header = GzBuilder::new().filename(name).comment("of a server").extra(vec![7; 999]);
        let mut encoder = header.write(Vec::new(), Compression::fast());
        encoder.write_all(b"named\n").unwrap();
        let named = encoder.finish().unwrap();
        check(&named, b"named\n", Reached::End);
        // More than is read at once, and than is looked ahead.
        check(&named.repeat(400), &b"named\n".repeat(400), Reached::End);
        let endless = [&BEGINNING[..], &[HAS_NAME], &[b'n'; 2 * MAX_HEADER]].concat();
        check(&endless, b"", Reached::Break(NO_GZIP));
    }

    #[test]
    fn what_is_before_the_damage_comes() {
        let content = text(1000);
        // Without compression each byte stands for itself.
        let stored = packed(&content, 0);
        let start = memchr::memmem::find(&stored, &content[..50]).unwrap();
        check(&stored[..start + 1000], &content[..1000], Reached::Break(UNFINISHED));
        check(&stored[..stored.len() - 1], &content, Reached::Break(UNFINISHED));
        check(&stored[..4], b"", Reached::Break(UNFINISHED));
        check(b"", b"", Reached::Break(UNFINISHED));
        check(&[&stored[..], b"rest"].concat(), &content, Reached::Break(NO_GZIP));
        let at = stored.len() - TRAILER;
        check(&[&stored[..at], &[0_u8; TRAILER]].concat(), &content, Reached::Break(WRONG_SUM));
        // A block of a kind that there is not.
        let header = &stored[..MIN_HEADER];
        check(&[header, &[0xff_u8; 100]].concat(), b"", Reached::Break(DAMAGED));
    }

    #[test]
    fn a_file_that_grows_is_unpacked_on_at_every_byte() {
        let content = text(300);
        let packed = [packed(&content, 6), packed(b"more\n", 6)].concat();
        let mut file = tempfile::tempfile().unwrap();
        let mut compressed = Compressed::new(Arc::new(file.try_clone().unwrap()));
        let mut found = Vec::new();
        for byte in packed.chunks(1) {
            assert!(matches!(
                read(&mut compressed, &mut found),
                Reached::Break(UNFINISHED) | Reached::End
            ));
            file.write_all(byte).unwrap();
        }
        assert_eq!(read(&mut compressed, &mut found), Reached::End);
        assert_eq!(found, [&content[..], b"more\n"].concat());
    }

    #[test]
    fn a_damaged_file_that_is_written_over_is_unpacked_anew() {
        let content = text(1000);
        let mut wrong = packed(&content, 6);
        let right = wrong.clone();
        let last = wrong.len() - 1;
        wrong[last] ^= 1;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&wrong).unwrap();
        let mut compressed = Compressed::new(Arc::new(file.reopen().unwrap()));
        let mut found = Vec::new();
        assert_eq!(read(&mut compressed, &mut found), Reached::Break(WRONG_SUM));
        // Again: it says the same, and not that this is the end.
        assert_eq!(read(&mut compressed, &mut found), Reached::Break(WRONG_SUM));
        file.as_file().write_all_at(&right[last..], last as u64).unwrap();
        file.as_file().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(read(&mut compressed, &mut found), Reached::End);
        assert!(found == content);
    }
}
