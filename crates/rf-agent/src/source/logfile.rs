//! `logfile`: every line that is written to a file, through rotations and restarts.
//!
//! Promise: each line is stored once. How far a file was read is stored in the transaction of its lines, so a kill at any
//! point neither loses nor repeats one. A queue without room pauses the reading; what is not read yet stays in the file,
//! and one batch, and one read ahead, are all that is in memory.
//!
//! Reading order: `settings` (the file's keys, checked), `record` (what is remembered of a file), `print` and
//! `content` (how a file is known again) with `unpack` (what gzip has compressed), `encoding`, `lines` and `multiline`
//! (bytes become texts), `event` (texts become events), `discover` (which files there are) with `walk` (what a pattern
//! matches), `tracked` (one file, read on) with `trouble` (when it cannot be), `tailer` (all of them), `adopt` (which found
//! file is which remembered one) with `judge` (whether another is a copy), `watch` (waiting), `run` (the loop).
//!
//! # How a file is known again
//! By device, inode and time of birth, and by its content: a print of its beginning, which grows with the file up to
//! 1 KiB (or covers `fingerprintLines`), and a print of the bytes right before the place where reading goes on. Both are
//! compared at every read. So a rename is followed, an inode that is used again is a new file, and a file that was cut
//! and filled again is noticed however large it is by then. A copy, or a compressed copy, of a file whose rest was lost
//! (copytruncate; compressed while the agent was stopped) is found by the prints and read on from the same place; prints
//! at places between tell a shorter copy from another log that begins alike. While its original may still be read, a copy
//! waits: the two are never read beside each other. Where rotations lead into another
//! folder, a file belongs to the files there, too; and one that is first seen there as a compressed file is known again if
//! all of it was read.
//!
//! Besides the configured files, those beside them are read whose names a rotation makes (`app.log.1`,
//! `app.log-20260131.gz`, `app-2026-01-31.log`), unless they were there when their file was first seen.

mod adopt;
mod content;
mod discover;
mod encoding;
mod event;
mod judge;
mod lines;
mod multiline;
mod print;
mod record;
mod run;
mod settings;
mod tailer;
#[cfg(test)]
pub(super) mod tests;
mod tracked;
mod trouble;
mod unpack;
mod walk;
mod watch;

pub(super) use settings::{build, schema};
