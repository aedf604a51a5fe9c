//! The relay: the meeting place of proxies and players, authenticated buckets behind an HTTP API.
//!
//! Must not know: Lua, and what is inside of an event. It stores text and hands it out. There are two exceptions: its journal
//! finds the id of an event as bytes, and the page shows an event as JSON to a person who has the bucket's token.
//!
//! Reading order:
//! - [`config`]: the user's file;
//! - `bucket`: names of buckets;
//! - `store`: what a store of buckets promises, and the embedded one, a database a bucket;
//! - `auth`: who may touch a bucket;
//! - `api`: the endpoints, one file a group;
//! - `stats`, `nodes`: what the relay counts, and what proxies and players told of themselves; both use `losses` (what was
//!   lost lately) and `absences` (when the relay was not there to hear anybody);
//! - `sampler`: adds points to the charts, and has `persistence` write what was counted to disk, for the next start;
//! - `data_dir_lock`: one relay at a time has the data folder;
//! - [`report`]: all of it at a glance, with what is wrong in words;
//! - `alerts`: what is wrong is told to people, once;
//! - `status`: the status port, where the report is shown to people and programs;
//! - [`run`](mod@run): all of it put together.
//!
//! Invariants:
//! - a 200 to a record is sent only when every named bucket has committed the events;
//! - no token is compared after anything was written, and none is told apart from an unknown bucket;
//! - an event leaves a bucket when it is acknowledged, when its age limit has passed, or when its bucket is full and
//!   configured to drop the oldest; the last two are counted.
//!
//! Killed at any point: events of a batch that was not answered may be stored in some of its buckets; the sender
//! repeats the batch, and its `RF-BATCH-ID` keeps the repeat out of those. Events that were handed out and not
//! acknowledged are handed out again when their leases have run out, which the store remembers.

mod absences;
mod alerts;
mod api;
mod auth;
mod bucket;
pub mod config;
mod data_dir_lock;
mod losses;
mod nodes;
mod persistence;
pub mod report;
pub mod run;
mod sampler;
mod stats;
mod status;
mod store;
#[cfg(test)]
mod tests;
