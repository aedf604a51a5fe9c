//! The agent: sources, queues and sinks, put together from the configuration file of a proxy or of a player.
//!
//! A proxy and a player are the same thing. They differ in their files only: a proxy's sinks are mostly relays and its
//! sources local, a player's source is a relay and its sinks are local.
//!
//! Must not know: how a relay stores its buckets, how the process was started, what signals are.
//!
//! Reading order: `pipeline` (the one promise), `source` and `sink` (the two traits and their tables), `worker` (how a queue
//! is emptied into a sink: batches, retries, dead letters), [`agent`] (start, run, stop), [`proxy`] and [`player`] (the
//! files; `settings` are the parts that both share, and what shows only in a whole file), `script` (what stands between a
//! source and its queues when there is one), `redact` (what is masked before an event is stored), `stats` (what is counted
//! and told), [`trace`] (what is remembered of single events), `server` (what a player shows).
//!
//! Beside them: [`child`] (programs of the user's own), `relay_client` (a player's questions to a relay), `lines` (lines out
//! of a stream), `machine` (what the machine reports about itself) and, in tests, `contract_table` (every kind of source and
//! sink is held to its contract) and `no_listener` (a place that is away).

pub mod agent;
pub mod child;
#[cfg(test)]
mod contract_table;
mod lines;
mod machine;
#[cfg(test)]
mod no_listener;
mod pipeline;
pub mod player;
pub mod proxy;
mod redact;
mod relay_client;
mod script;
mod server;
mod settings;
mod sink;
mod source;
mod stats;
pub mod trace;
mod worker;
