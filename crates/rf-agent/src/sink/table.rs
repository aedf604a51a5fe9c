//! What the sinks that keep tables share: `db`, `time_series` and `alert`.
//!
//! Promises: a batch is written in one transaction, and each of its events counts once, also when the batch is repeated
//! after a kill and when a sender delivers an event twice ([`applied`]); text becomes an SQL identifier through
//! [`identifier`] alone, and every value is bound; a query reads the users' tables and cannot do anything else
//! ([`connect`]), ends in time ([`reader`]) and answers in little memory ([`answer`]).
//!
//! Reading order: [`identifier`], [`schema`] and [`value`] (what a table is), [`connect`], [`database`], [`defaults`],
//! [`table_sink`]; writing: [`writer`] (the thread), [`call`] (an event, read), [`batch`] with [`applied`], [`known`] (tables
//! that were written lately), [`rows`] with [`row_table`] and [`index`](mod@index), [`retention`]; reading: [`reader`],
//! [`query`], [`format`](mod@format), [`answer`], [`api`], [`row_api`].

pub(crate) mod answer;
pub(crate) mod api;
pub(crate) mod api_error;
pub(crate) mod applied;
pub(crate) mod batch;
pub(crate) mod call;
pub(crate) mod connect;
mod contains;
pub(crate) mod database;
pub(crate) mod defaults;
pub(crate) mod failure;
pub(crate) mod format;
#[cfg(test)]
pub(crate) mod hostile;
#[cfg(test)]
pub(crate) mod hostile_events;
pub(crate) mod identifier;
pub(crate) mod index;
pub(crate) mod known;
pub(crate) mod query;
pub(crate) mod reader;
pub(crate) mod retention;
#[cfg(test)]
pub(crate) mod rig;
pub(crate) mod row_api;
pub(crate) mod row_table;
pub(crate) mod rows;
pub(crate) mod schema;
pub(crate) mod table_sink;
pub(crate) mod timestamp;
pub(crate) mod value;
pub(crate) mod writer;
