//! What the sources that read a PostgreSQL database share.
//!
//! Reading order: [`connection`] (the keys that say where a database is; `conn_string` and `ssl` are parts of it),
//! [`session`] (one connection, statements with a time limit; `link` is its wire), [`value`] (a column becomes JSON).
//!
//! A session has no task of its own: whoever uses it drives it, so that nothing outlives the source, and a server that
//! restarts is noticed where it matters.

mod conn_string;
pub(super) mod connection;
mod link;
pub(super) mod session;
mod ssl;
#[cfg(test)]
pub(super) mod tests;
mod value;
