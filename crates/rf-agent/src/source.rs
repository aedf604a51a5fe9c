//! Sources: where events come from. A source is one file here and one line in [`SOURCES`].

mod claimed_port;
mod command;
#[cfg(test)]
pub(crate) mod contract;
mod defaults;
mod exec;
mod forward;
mod hand_over;
mod http;
mod keep_running;
mod listen;
mod local_event;
mod logfile;
mod pgcall;
mod postgres;
pub(crate) mod relay;
mod repeatfile;
mod stdin;
mod syslog;
mod system_stats;

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rf_core::config::{Node, Problems};
use rf_core::node_info::Wiring;
use rf_net::address::Place;
use schemars::Schema;
use tokio_util::sync::CancellationToken;

use crate::pipeline::Output;

/// Where a source listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listening {
    /// With the port that was chosen, where the file says 0.
    pub(crate) address: SocketAddr,
    /// `http`, `tcp` or `udp`.
    pub(crate) protocol: &'static str,
}

/// A source that is configured and checked, but touches nothing yet.
pub(crate) trait Source: Send {
    /// Claims what the source needs (a port), so that a start fails before anything runs. Where it listens.
    ///
    /// # Errors
    /// [`SourceError`], naming what is taken.
    fn start(&mut self) -> Result<Vec<Listening>, SourceError> {
        Ok(Vec::new())
    }

    /// Where it is to listen, as its file says.
    fn places(&self) -> Vec<Place> {
        Vec::new()
    }

    /// The relay and buckets that it pulls from, if it does.
    fn wired_to(&self) -> Option<Wiring> {
        None
    }

    /// Who is held up by it.
    fn holds_up(&self) -> HoldsUp {
        HoldsUp::Nobody
    }

    /// Reads until `stop`. An event is forgotten at its origin only after [`Output::send`] was `Ok`.
    ///
    /// # Errors
    /// [`SourceError`] when it cannot go on; the role ends then.
    fn run(
        self: Box<Self>,
        out: Output,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>>;
}

/// The nice value of what makes and stores copies of passing traffic: the lowest priority. On a busy processor it gets a
/// seventieth of what the traffic gets, and all of what is idle.
pub(crate) const COPIES_NICENESS: i32 = 19;

/// Who is held up by a source, which tells how urgent storing its events is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HoldsUp {
    /// It fetches its events itself.
    Nobody,
    /// Clients that are answered after the commit.
    ClientsUntilStored,
    /// Traffic that passes through, and that copies must not slow.
    PassingTraffic,
}

/// Why a source ended.
#[derive(Debug, thiserror::Error)]
#[error("source `{id}`: {reason}")]
pub struct SourceError {
    /// The source's id.
    pub id: String,
    /// What happened.
    pub reason: String,
}

/// What a source is told of the agent that it is built for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceContext<'a> {
    /// Its id in the file; names its checkpoints.
    pub(crate) id: &'a str,
    /// The agent's `envName`; may be empty.
    pub(crate) env_name: &'a str,
    /// The agent's `hostName`, or the machine's.
    pub(crate) host_name: &'a str,
    /// `hookInterval`: how often the script's timer runs, and for some sources how often they look.
    pub(crate) hook_interval: Option<Duration>,
}

/// One kind of source of a proxy's file.
pub(crate) struct SourceKind {
    /// The `type` in the file.
    pub(crate) name: &'static str,
    /// JSON Schema of its `params`.
    pub(crate) schema: fn() -> Schema,
    /// Builds it from its `params`; problems are reported at their place.
    pub(crate) build: fn(
        context: &SourceContext<'_>,
        params: &Node<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Source>>,
}

/// Every kind of source that a proxy's file may name. Each is held to the contract by the tests that `contract/kinds.rs` lists.
pub(crate) const SOURCES: &[SourceKind] = &[
    SourceKind { name: "http", schema: http::schema, build: http::build },
    SourceKind { name: "command", schema: command::schema, build: command::build },
    SourceKind { name: "pgcall", schema: pgcall::schema, build: pgcall::build },
    SourceKind { name: "listen", schema: listen::schema, build: listen::build },
    SourceKind { name: "exec", schema: exec::schema, build: exec::build },
    SourceKind { name: "logfile", schema: logfile::schema, build: logfile::build },
    SourceKind { name: "repeatfile", schema: repeatfile::schema, build: repeatfile::build },
    SourceKind { name: "stdin", schema: stdin::schema, build: stdin::build },
    SourceKind { name: "syslog", schema: syslog::schema, build: syslog::build },
    SourceKind { name: "system-stats", schema: system_stats::schema, build: system_stats::build },
];
