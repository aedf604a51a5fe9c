//! Durable bounded queues, leases, checkpoints and dead letters in one SQLite database.
//!
//! This is where nothing may get lost and nothing may grow without bound; every other crate relies on it for both. An
//! `Ok` of [`Store::commit`] means: on disk, as a whole, for as long as [`Durability`] says. The files together never
//! take more than [`StoreOptions::max_bytes`].
//!
//! The crate must not know HTTP, Lua, configuration files, or what an event is: content is bytes. It starts threads, not
//! tasks, and names no other crate of ours.
//!
//! # Reading order
//! `types` and `errors` (the words), `store` (the handle), `mailbox` (the hand-over to the writer thread; `handed`: a lease on
//! its way back), `thread` and `writer` (its loop), `transaction` (BEGIN to COMMIT, and what happens when either fails),
//! `failure` (what an error of the database means), `answers`, `ahead` (what is done before the rest of a commit), `admit` (does it fit),
//! `limits` (the arithmetic of that), `group`, `removal`, `state`, `queue_state`, `segments` and `shared` (what is done, what is counted,
//! where it lies, what others see of it), `sql` and `rows` (the statements, and reading with them), `sizes` (what reads have
//! found lately), `lease` and `ends` (who has been promised what, and until when), `parts` (appends too large for one
//! transaction), `housekeeping`, `tidy`, `space` (WAL, checkpoints, reserve), then `open` with `later`, `schema`, `aside`,
//! `salvage`, `migrate` and `adopt`; `find` and `dead` are for people who look. `clock` and `step` are for the tests: they set the time
//! back, and kill a process between two steps.
//!
//! # Files
//! | file | what |
//! | --- | --- |
//! | `NAME` | the database: 4 KiB pages, `auto_vacuum=INCREMENTAL`, `user_version` 2 |
//! | `NAME-wal`, `NAME-shm` | SQLite's log and its index; gone while the store sleeps or is closed |
//! | `NAME.lock` | locked as long as a process has the store |
//! | `NAME.reserve` | bytes that are given up when the disk is full |
//! | `NAME.damaged` | a note that damage was seen, or that salvaging has not ended |
//! | `NAME.emptied` | a note that the database was emptied, and nobody was told yet |
//! | `NAME.corrupt-TIME` | the newest damaged file |
//! | `NAME.corrupt-TIME.unfinished` | the one that was begun in its place, and was damaged before it had been salvaged |
//! | `NAME.original` | a database of the original program that is being taken over |
//!
//! # Tables
//! `queues` has a row for each queue with its counters: `next_id`, number, content bytes and bytes in the file of its
//! events, and the time of the newest. They move in the transaction of the rows that they count, so nothing is ever
//! counted by looking. `q_N (id, at, content)` and `q_N_M` have the events of queue N, cut
//! into segments (see `segments`); those up to `queues.removed` have left. Ids come from `next_id` and never from the rows:
//! an emptied queue does not start over. They begin at the second of creation times 65,536, so that a bucket that was
//! removed and made anew does not hand out ids that somebody may still acknowledge. `leases` has ranges of ids (see
//! `lease`), `checkpoints` values by name, `batches` the newest batch ids, `dead_letters` what nobody wanted, `settings`
//! what the command line must know.
//!
//! # The life of a commit
//! 1. The caller pushes it into the mailbox, which is bounded in number and bytes ([`FullReason::Busy`]), and waits.
//! 2. The writer thread takes all that waits. Under load the next group gathers while this one is synced, which is how
//!    groups grow by themselves; a lone commit goes at once.
//! 3. BEGIN IMMEDIATE. A batch id that is known makes the commit a no-op, also when the queue is full.
//! 4. Admission: the queue's limit, the pages of the file, the room in the WAL. A refusal leaves no trace. With
//!    [`WhenFull::DropOldest`] the oldest events go in the same transaction, or in one before it where their place is needed.
//! 5. Removes (at the front, a counter moves over them), burials, rows, checkpoints; then the next request, as long as the
//!    WAL has room; then the counters.
//! 6. COMMIT, which syncs. Only now are the counters published, readers woken and everybody answered.
//!
//! An error anywhere undoes the whole group: nothing of it stands, everybody in it is told, and the counters in memory are
//! read from the database again. On a full disk the requests of the group are tried again one by one, and appends refused.
//!
//! Two kinds of commit may take more than one transaction. *Many removes* of one that puts neither events nor letters into the
//! store, nor values that may be refused, and *several burials*, go ahead of the rest when the WAL cannot take them at once,
//! behind [`Commit::first`]; what was removed had been delivered, and what was buried is a letter, so a kill in between leaves
//! the safe side. *A large append* is written in parts that do not count until the last transaction moves `next_id` over them;
//! it is answered as soon as that is committed, before anything else can fail.
//!
//! # Who writes
//! The writer thread alone writes events, counters, leases, checkpoints. The checkpoint thread copies the WAL into the
//! database beside it. The command line ([`DeadLetters`]) has a connection of its own and writes `dead_letters` only; the
//! writer sees by `PRAGMA data_version` that somebody did and looks again. A lock file keeps a second process out.
//!
//! # The byte bound
//! Database, WAL, shm and reserve together stay within `max_bytes`, at every moment: see `limits` for the rule and its
//! estimates, which debug builds check at every COMMIT. How much of it is content when the store is full (measured):
//!
//! | `max_bytes` | events of 100 B | 700 B | 5 kB | 60 kB | largest single event |
//! | --- | --- | --- | --- | --- | --- |
//! | 1 MiB | 50 % | 53 % | 61 % | 57 % | 35 % |
//! | 2 MiB | 64 % | 68 % | 78 % | 77 % | 42 % |
//! | 10 MiB | 68 % | 72 % | 82 % | 82 % | 45 % |
//!
//! A single event needs its size twice, in the WAL and in the database. Free pages are given back once a quarter of the
//! file is free, within a second or two. Events that left at the front have their place for a while: see `segments`; a store
//! that is three quarters full, or that needs it, gives it back at once.
//!
//! # What a kill leaves
//! | killed | on disk | the caller was told | at the next start |
//! | --- | --- | --- | --- |
//! | before COMMIT | frames without a commit mark in the WAL | nothing | they are passed over: nothing was done |
//! | after COMMIT, before the answer | all of the group | nothing | all is there; a repeat with the batch id is a no-op |
//! | between two transactions of removes or burials | the first of them | nothing | what is left comes again |
//! | between pushing old letters out and the letter that needs their place | without the old ones | nothing | the event is in its queue still |
//! | between two parts of an append | rows from `next_id` on | nothing | they are removed |
//! | in a checkpoint | the WAL is whole still | whatever was told | SQLite reads the WAL |
//! | after a removal at the front | the rows, behind the counter | | nobody sees them; their segment is emptied later |
//! | while the file shrinks | some pages moved, each move whole | | the rest is given back later |
//! | while salvaging | the note, the damaged file, a part of the new one | | goes on; ids that are there are passed over |
//! | while taking over the original's file | the events so far, and how far that is | | goes on from there |
//!
//! Where no kill but a failing disk ends a COMMIT, the callers are told an error, and yet all of the group may be there at the
//! next start: its frames may have reached the WAL before the sync failed.
//!
//! With [`Durability::Process`] the same holds for a killed process; a loss of power may take the newest commits, always
//! whole ones from the end. The tests in `tests/crash` kill a process at each of these steps.
//!
//! # Leases
//! Ranges of ids, held until a moment or returned. The end is stored as wall time with its ttl and kept as monotonic time,
//! so that a clock that jumps ends no lease early (also not when a transaction is undone: see `ends`), and a start after a clock that was set back none later than its ttl.
//! Returned events come first, oldest first; nothing overtakes an event that did not fit the budget.
//!
//! # A full disk
//! The first failing write gives up the reserve: appends are refused ([`FullReason::Disk`]), removes go on in its room. Each
//! second the store looks whether the disk has room for the reserve and as much again, and takes a write; then it takes
//! events. A disk that may only be read is met in the same way. [`Store::trouble`] tells of both, and of requests that the
//! database has refused.
//!
//! A store that cannot even be opened, since the disk is full, may only be read or fails, may begin without its database
//! ([`Store::open_when_possible`], `later`): it refuses everything and tries again.
//!
//! # Damage
//! Files up to 32 MiB are checked at every start, larger ones after damage was seen, be it when they are opened. A damaged one
//! is set aside, what can be read of it goes into a new one, and [`Notice::Damaged`] says how much that was;
//! [`QueueUsage::dropped_damaged`] counts what is lost. A file that is empty or gone beside its reserve had events:
//! [`Notice::Emptied`], told by the first opening that does not fail. Damage that is met while running, or when the store wakes up, stops the store ([`Store::failed`]):
//! going on could answer `Ok` for what cannot be read back. Content has no checksum of its own: a page of it that is
//! overwritten with other bytes is not noticed. Where the page of `queues` is lost, events that have left and have their
//! place still come again.
//!
//! # Sleep
//! With [`StoreOptions::idle_close`] a store without work closes its files and ends its threads; the next request starts
//! them. It stays awake while a lease is held, and [`Store::is_due`] tells from memory when its age limit needs a
//! [`Store::poke`].

mod admit;
mod adopt;
mod ahead;
mod answers;
mod aside;
mod clock;
mod dead;
mod ends;
mod errors;
mod failure;
mod find;
mod group;
mod handed;
mod housekeeping;
mod later;
mod lease;
mod limits;
mod mailbox;
mod migrate;
mod open;
mod parts;
mod queue_state;
mod removal;
mod rows;
mod salvage;
mod schema;
mod segments;
mod shared;
mod sizes;
mod space;
mod sql;
mod state;
mod step;
mod store;
mod thread;
mod tidy;
mod transaction;
mod types;
mod writer;

pub use admit::fit_when_empty;
pub use answers::{CommitReply, PendingCommit};
pub use clock::{Clock, SystemClock};
pub use dead::{DeadLetters, Which};
pub use errors::{CommitError, FullReason, Notice, OpenError, StoreError};
pub use failure::may_pass;
pub use find::{Found, FoundEvent, FoundLetter, find};
pub use space::{FileNumber, file_number, is_at};
pub use store::{Opened, Store};
pub use types::{
    Append, Budget, Bury, Checkpoint, Commit, DeadLetter, DiskUsage, DropWatch, Dropped,
    Durability, Import, LeaseNote, Leased, Letter, MAX_BATCH_ID_BYTES, MAX_STORE_BYTES,
    MIN_STORE_BYTES, QueueId, QueueOptions, QueueUsage, Receipt, Remove, StoreOptions,
    StoreTrouble, StoredEvent, TellDrops, WhenFull,
};

#[cfg(test)]
mod tests;
