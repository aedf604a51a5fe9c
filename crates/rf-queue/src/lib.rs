//! Durable bounded queues, leases, checkpoints and dead letters in one SQLite database.
mod admit;
mod adopt;
mod clock;
mod dead;
mod failure;
mod group;
mod housekeeping;
mod lease;
mod limits;
mod mailbox;
mod migrate;
mod open;
mod rows;
mod salvage;
mod schema;
mod space;
mod sql;
mod state;
mod step;
mod store;
mod transaction;
mod types;
mod writer;

pub use clock::{Clock, SystemClock};
pub use dead::{DeadLetters, Which};
pub use store::{Opened, Store};
pub use types::{
    Append, Budget, Bury, Checkpoint, Commit, CommitError, DeadLetter, DiskUsage, Durability,
    FullReason, Import, Leased, MAX_BATCH_ID_BYTES, MIN_STORE_BYTES, Notice, OpenError, QueueId,
    QueueOptions, QueueUsage, Receipt, Remove, StoreError, StoreOptions, StoredEvent, WhenFull,
};

#[cfg(test)]
mod tests;
