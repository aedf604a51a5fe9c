//! What an agent counts, and whom it tells.
//!
//! Sources and sinks count into meters: atomics, and a lock that is held for a copy of a few bytes, so that no reader can hold
//! up the data path. Everything else is made of them when somebody asks: the status port (`/statusz` in the original's shape,
//! `/metrics`, `/healthz`, `/readyz`) and the node-info that each relay is told every `nodeInfoEvery`.
//!
//! Reading order: `meters` and `losses` (what is counted), `sight` (everything that can be told), `machine`, `statusz`,
//! `metrics`, `health`, `port` (the HTTP side), `tell` (node-info), `notify` (systemd).

mod health;
mod losses;
mod machine;
mod meters;
mod metrics;
mod notify;
mod port;
mod sight;
mod statusz;
mod tell;

pub(crate) use losses::{Counts, Loss};
pub(crate) use meters::{SinkMeter, SourceMeter};
pub(crate) use notify::notify_systemd;
pub(crate) use port::StatusPort;
pub(crate) use sight::Sight;
pub(crate) use tell::{Telling, tell};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rf_core::node_info::Role;
use rf_core::recent_logs::RecentLogs;

use crate::relay_client::{BucketKey, RelayClient};

/// The original's port of a proxy's status page, where status is on without a port.
pub(crate) const DEFAULT_STATUS_PORT: u16 = 5253;

/// Who an agent is, and whom it tells about itself.
pub struct StatsPlan {
    /// Which program.
    pub role: Role,
    /// `envName`.
    pub(crate) env_name: String,
    /// The machine, as it is told.
    pub(crate) host_name: String,
    /// `traceSteps`.
    pub(crate) trace_steps: usize,
    /// `nodeInfoEvery`.
    pub(crate) every: Duration,
    /// `dataDir`: its file system is measured.
    pub(crate) data_dir: PathBuf,
    /// Address and port of the status page, if there shall be one.
    pub(crate) status: Option<(String, u16)>,
    /// `statusHosts`.
    pub(crate) status_hosts: Vec<String>,
    /// The relays that are told.
    pub(crate) relays: Vec<ToldRelay>,
    /// Lines of the log; set by the program.
    pub logs: Arc<RecentLogs>,
}

impl StatsPlan {
    /// Where its status page listens, if it has one.
    pub fn status(&self) -> Option<(&str, u16)> {
        self.status.as_ref().map(|(address, port)| (address.as_str(), *port))
    }

    /// Who is told goes another way than what is told.
    pub(crate) fn apart(mut self) -> (Self, Vec<ToldRelay>) {
        let relays = std::mem::take(&mut self.relays);
        (self, relays)
    }
}

/// A relay that is told, by way of one of its buckets.
pub(crate) struct ToldRelay {
    pub(crate) client: Arc<RelayClient>,
    pub(crate) bucket: BucketKey,
}
