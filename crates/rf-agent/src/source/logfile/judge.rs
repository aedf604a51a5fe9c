//! What a found file is that no record names: a copy of something that is remembered, or new.
//!
//! A copy is told by its content alone, so everything here errs on the side of waiting: a file that may be a copy in the
//! making, or one of a file that is still to be read, is looked at again. It is decided when its original has been read, or
//! has been emptied; what is decided too early is read twice, or never.
//!
//! Copies are looked for in the family. Beyond it only one thing is told: that a compressed file is what one held that was
//! read and is gone, as where rotations lead into another folder. Other logs may begin, or end, as that one did, so its
//! beginning, its end and its length have to be the same.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use super::adopt::Round;
use super::content::{Content, Reached};
use super::discover::Found;
use super::print::{HEAD_BYTES, Print, TAIL_BYTES};
use super::record::Record;
use super::tailer::Tailer;
use super::tracked::{Family, Tracked};
use super::unpack::ToldLen;

/// What may be a copy in the making is judged when nothing was written to it for so long.
const COPYING: Duration = Duration::from_secs(2);
/// A compressed file with the length and the beginning of another is compared with it so far; about as much is unpacked for
/// its beginning.
const COMPARED_BYTES: u64 = 64 * 1024;

/// What is to be done with a found file that no record names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Read on where the record of this index was.
    Adopt(usize),
    /// A copy of what was, or is being, read.
    Read,
    /// It cannot be told yet.
    Later,
    New,
}

/// A file that was found, and opened.
pub(super) struct Suspect<'a> {
    pub(super) found: &'a Found,
    pub(super) content: Content,
    pub(super) size: u64,
    beginning: Beginning,
}

/// The first bytes of a file that is compared with many others: they are read, and each print of them is made, once.
struct Beginning {
    bytes: Vec<u8>,
    reached: Reached,
    asked: usize,
    prints: HashMap<usize, Print>,
}

/// How the content of a found file relates to that of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Same {
    /// It is another.
    No,
    /// It ends before the record's offset: all of it was read.
    Contained,
    /// It goes on, or ends, at the record's offset.
    Continues,
}

/// What one record says of a found file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Nothing,
    /// All of it was read.
    Read,
    /// More than it holds was read of what began as it does.
    Contained,
    /// So much of it was read, and the rest is nowhere else.
    Rest(u64),
    /// It is told when its original has been read, or emptied.
    Wait,
}

impl Tailer {
    /// What `suspect` is.
    ///
    /// # Errors
    /// When it, or a file that is read, cannot be read.
    pub(super) fn judge(
        &mut self,
        suspect: &mut Suspect<'_>,
        round: &mut Round,
    ) -> io::Result<Verdict> {
        if !suspect.found.is_live() && round.has_missed(&suspect.found.family) {
            // It may be a copy of that one, which nobody has looked at.
            return Ok(Verdict::Later);
        }
        let found = suspect.found;
        let family = Family::of(&found.family);
        let mut verdict = Verdict::New;
        let mut furthest = 0;
        for index in 0..self.files.len() {
            let file = &self.files[index];
            if !file.belongs_to(family) {
                continue;
            }
            match says(file, round, suspect, &mut self.scratch)? {
                Says::Nothing => {}
                Says::Wait => return Ok(Verdict::Later),
                Says::Read => return Ok(Verdict::Read),
                Says::Rest(offset) if offset >= furthest => {
                    (verdict, furthest) = (Verdict::Adopt(index), offset);
                }
                Says::Contained if verdict == Verdict::New => verdict = Verdict::Read,
                Says::Rest(_) | Says::Contained => {}
            }
        }
        match verdict {
            Verdict::New => self.judge_moved(suspect, round),
            verdict => Ok(verdict),
        }
    }

    /// Whether a file that no family knows is the compressed form of one of another family, which is gone. Most of them may
    /// not be, by their length alone: only if one may, the head of the suspect is read, once.
    fn judge_moved(&mut self, suspect: &mut Suspect<'_>, round: &mut Round) -> io::Result<Verdict> {
        let Content::Compressed(compressed) = &suspect.content else { return Ok(Verdict::New) };
        let (told, is_young) = (compressed.told_len()?, suspect.is_young());
        let found = suspect.found;
        let (family, plain) = (Family::of(&found.family), found.uncompressed());
        let mut gone = Vec::new();
        for (index, file) in self.files.iter().enumerate() {
            let was_read = file.content.is_some() || file.record.head.len > 0;
            if !was_read || file.record.packed || file.belongs_to(family) {
                continue;
            }
            if round.seen.contains(&file.key) {
                if plain.as_ref() == Some(&file.record.path) {
                    // While both are there, the one is being made of the other.
                    return Ok(Verdict::Later);
                }
            } else if is_young || file.len().is_ok_and(|len| told.may_be(len)) {
                gone.push(index);
            }
        }
        if gone.is_empty() {
            return Ok(Verdict::New);
        }
        let heads = gone.iter().map(|index| self.files[*index].record.head.len);
        suspect.read_head(heads.fold(HEAD_BYTES, usize::max))?;
        let mut verdict = Verdict::New;
        for index in gone {
            let file = &self.files[index];
            // What cannot be read is told when it is looked at itself, and holds up no other log.
            let says = says_gone(file, round, suspect, told).unwrap_or(Says::Nothing);
            if says == Says::Wait {
                verdict = Verdict::Later;
            }
            if says == Says::Read && ends_as(&mut suspect.content, &file.record, &mut self.scratch)?
            {
                // What is still open may have been written to since.
                let is_open = file.content.is_some();
                return Ok(if is_open { Verdict::Read } else { Verdict::Adopt(index) });
            }
        }
        Ok(verdict)
    }
}

/// What a file that is gone says of one of another family, whose length is told so; its end is not compared.
fn says_gone(
    file: &Tracked,
    round: &mut Round,
    suspect: &mut Suspect<'_>,
    told: ToldLen,
) -> io::Result<Says> {
    let record = &file.record;
    let begins_as_read = suspect.begins_with(record.head)?;
    let begins_so = match &file.content {
        // Most are told apart without another look into their files.
        Some(content)
            if !begins_as_read
                && suspect.beginning.bytes.len() >= record.head.len
                && round.is_current(file, content)? =>
        {
            false
        }
        Some(content) => {
            let head = &suspect.beginning.bytes;
            !head.is_empty() && content.head(head.len())? == *head
        }
        None => begins_as_read,
    };
    if !begins_so {
        return Ok(Says::Nothing);
    }
    let len = file.len()?;
    let is_read = record.offset == len && begins_as_read;
    // That one is still to be read; or, with another length, this one may be in the making.
    Ok(if is_read && told.may_be(len) { Says::Read } else { Says::Wait })
}

/// Whether `content` ends where the record does, and as it does.
fn ends_as(content: &mut Content, record: &Record, scratch: &mut Vec<u8>) -> io::Result<bool> {
    let len = record.tail.len;
    content.peek(record.offset.saturating_sub(len as u64), len + 1, scratch)?;
    Ok(scratch.len() == len && record.tail.begins(scratch))
}

fn says(
    file: &Tracked,
    round: &mut Round,
    suspect: &mut Suspect<'_>,
    scratch: &mut Vec<u8>,
) -> io::Result<Says> {
    let (record, size) = (&file.record, suspect.size);
    let is_seen = round.seen.contains(&file.key);
    let is_live = suspect.found.is_live();
    let may_grow = suspect.may_grow();
    if let Some(original) = &file.content
        && suspect.content.is_compressed()
        && !round.is_current(file, original)?
    {
        // It was emptied and filled again, and nobody has noticed: this may be what it holds now.
        return Ok(Says::Wait);
    }
    if let Some(original) = &file.content
        && !is_live
        && suspect.is_copy_of(original, record)?
    {
        // Everything begins as an empty file does: only a young one is waited for.
        return Ok(match size {
            0 if !may_grow => Says::Nothing,
            _ if may_grow || record.offset < size => Says::Wait,
            // It was emptied and filled again, and nobody has noticed: how far it was read means nothing.
            _ if !round.is_current(file, original)? => Says::Wait,
            // Files that are asked for may well begin alike: lines twice are better than lines lost.
            _ if suspect.found.asked && size < HEAD_BYTES as u64 => Says::Nothing,
            _ => Says::Read,
        });
    }
    if record.head.len == 0 {
        return Ok(Says::Nothing);
    }
    // At the path itself a new file may well begin as the old one did: only much that is the same tells.
    if is_live && record.head.len < HEAD_BYTES {
        return Ok(Says::Nothing);
    }
    let is_lost = file.content.is_none() && !is_seen && !record.done;
    if !is_lost && file.content.is_none() && !may_be_closed(file, is_seen, suspect) {
        return Ok(Says::Nothing);
    }
    if may_grow && size < record.head.len as u64 {
        // The print covers more than there is; a file that is open has been compared itself.
        return Ok(if is_lost { Says::Wait } else { Says::Nothing });
    }
    if !suspect.begins_with(record.head)? {
        return Ok(Says::Nothing);
    }
    Ok(match compare_rest(&mut suspect.content, size, record, scratch)? {
        Same::No => Says::Nothing,
        _ if may_grow => Says::Wait,
        Same::Continues if is_lost => Says::Rest(record.offset),
        Same::Contained if is_live || is_seen && file.content.is_none() => Says::Nothing,
        Same::Contained => match &file.content {
            // It was compared with the file itself, and is no beginning of it: logs may begin alike.
            Some(original @ Content::Plain(_))
                if !suspect.content.is_compressed() && round.is_current(file, original)? =>
            {
                Says::Nothing
            }
            _ => Says::Contained,
        },
        Same::Continues if suspect.content.has_len(record.offset)? => Says::Read,
        // A copy of a file that has more than was read of it: what is not read there, because it is emptied now, is read
        // here.
        Same::Continues if file.content.is_some() => Says::Wait,
        Same::Continues => Says::Nothing,
    })
}

/// Whether a file that was read and closed is compared: its end must be known. One that is gone may come back compressed;
/// beside one that is there only much that is the same, under a name that rotations make, is a copy and no twin.
fn may_be_closed(file: &Tracked, is_seen: bool, suspect: &Suspect<'_>) -> bool {
    let is_much = file.record.offset >= HEAD_BYTES as u64 && !suspect.found.asked;
    !suspect.found.is_live() && file.record.tail.len > 0 && (!is_seen || is_much)
}

impl<'a> Suspect<'a> {
    pub(super) fn new(found: &'a Found, content: Content, size: u64) -> Self {
        let (bytes, prints) = (Vec::new(), HashMap::new());
        let beginning = Beginning { bytes, reached: Reached::Asked, asked: 0, prints };
        Self { found, content, size, beginning }
    }

    /// Has the first bytes, at least so many, where it has them.
    fn read_first(&mut self, len: usize) -> io::Result<()> {
        if len > self.beginning.asked {
            let asked = len.max(HEAD_BYTES);
            let (bytes, reached) = self.content.first(asked)?;
            self.beginning = Beginning { bytes, reached, asked, prints: HashMap::new() };
        }
        Ok(())
    }

    /// The same; an error where it has fewer because somebody may still be writing them.
    fn read_head(&mut self, len: usize) -> io::Result<()> {
        self.read_first(len)?;
        if self.beginning.bytes.len() >= len {
            return Ok(());
        }
        self.content.check_whole(self.beginning.reached)
    }

    /// Whether it begins with what this is the print of; everything begins with nothing.
    fn begins_with(&mut self, print: Print) -> io::Result<bool> {
        self.read_head(print.len)?;
        let Beginning { bytes, prints, .. } = &mut self.beginning;
        let Some(bytes) = bytes.get(..print.len) else { return Ok(false) };
        Ok(print.len == 0 || *prints.entry(print.len).or_insert_with(|| Print::of(bytes)) == print)
    }

    /// Somebody wrote to it just now.
    fn is_young(&self) -> bool {
        self.found.modified.elapsed().is_ok_and(|age| age < COPYING)
    }

    /// It may be a copy that somebody is writing.
    fn may_grow(&self) -> bool {
        self.is_young() && !self.found.is_live() && !self.content.is_compressed()
    }

    /// Whether it is what `original` holds, or the beginning of that. Compressed ones are told by the record where there
    /// is something to compare.
    fn is_copy_of(&self, original: &Content, record: &Record) -> io::Result<bool> {
        if self.content.is_compressed() && record.head.len > 0 {
            return Ok(false);
        }
        original.begins_as(&self.content, self.size)
    }
}

/// How `content` relates to what a record knows; `size` is that of the file.
pub(super) fn compare(
    content: &mut Content,
    size: u64,
    record: &Record,
    scratch: &mut Vec<u8>,
) -> io::Result<Same> {
    if record.head.len > 0 && !record.head.begins(&content.head(record.head.len)?) {
        return Ok(Same::No);
    }
    compare_rest(content, size, record, scratch)
}

/// The same of what begins as the record does.
fn compare_rest(
    content: &mut Content,
    size: u64,
    record: &Record,
    scratch: &mut Vec<u8>,
) -> io::Result<Same> {
    // Unpacking all of it is spared where its length says that it was read.
    if content.is_compressed() && record.head.len > 0 && content.has_len(record.offset)? {
        let is_so = goes_on_so(content, COMPARED_BYTES, record, scratch)?;
        return Ok(if is_so { Same::Continues } else { Same::No });
    }
    let mut most = size;
    if content.is_compressed() || size >= record.offset {
        let from = record.offset.saturating_sub(record.tail.len as u64);
        content.peek(from, record.tail.len, scratch)?;
        if scratch.len() >= record.tail.len {
            let is_so = record.tail.begins(scratch);
            return Ok(if is_so { Same::Continues } else { Same::No });
        }
        most = record.offset;
    }
    let is_so = goes_on_so(content, most, record, scratch)?;
    Ok(if is_so { Same::Contained } else { Same::No })
}

/// Whether what begins as the record does goes on so, up to `most` bytes or its end, as far as the last mark there tells.
fn goes_on_so(
    content: &mut Content,
    most: u64,
    record: &Record,
    scratch: &mut Vec<u8>,
) -> io::Result<bool> {
    for (end, print) in record.marks.before(most) {
        content.peek(end.saturating_sub(TAIL_BYTES as u64), TAIL_BYTES, scratch)?;
        if scratch.len() == TAIL_BYTES {
            return Ok(print.begins(scratch));
        }
    }
    Ok(true)
}
