//! The port of a source that serves HTTP, claimed once for each core.

use std::num::NonZeroUsize;

use rf_net::address::Place;
use rf_net::listen::listen_shared;
use tokio::net::TcpListener;

use super::{Listening, SourceError};

/// A port as the file names it, with its listeners once it is claimed.
pub(super) struct ClaimedPort {
    address: String,
    port: u16,
    listeners: Vec<TcpListener>,
}

impl ClaimedPort {
    /// Nothing is claimed yet.
    pub(super) fn new(address: String, port: u16) -> Self {
        Self { address, port, listeners: Vec::new() }
    }

    /// Where the source is to listen.
    pub(super) fn places(&self) -> Vec<Place> {
        vec![Place::tcp(&self.address, self.port)]
    }

    /// Claims the port for the source `id`. Where it listens.
    ///
    /// # Errors
    /// [`SourceError`], naming what is taken.
    pub(super) fn claim(&mut self, id: &str) -> Result<Vec<Listening>, SourceError> {
        let fail = |reason: String| SourceError { id: id.to_owned(), reason };
        let loops = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.listeners = listen_shared(&self.address, self.port, loops)
            .map_err(|error| fail(format!("listenPort: {error}")))?;
        let address = self.listeners[0].local_addr().map_err(|error| fail(error.to_string()))?;
        Ok(vec![Listening { address, protocol: "http" }])
    }

    /// How many of all connections each listener may have.
    pub(super) fn share(&self, max_connections: NonZeroUsize) -> NonZeroUsize {
        let share = max_connections.get().div_ceil(self.listeners.len().max(1));
        NonZeroUsize::new(share).unwrap_or(NonZeroUsize::MIN)
    }

    /// One for each core; none before the port is claimed.
    pub(super) fn into_listeners(self) -> Vec<TcpListener> {
        self.listeners
    }
}
