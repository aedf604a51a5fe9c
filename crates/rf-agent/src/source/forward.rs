//! `http` with `forwardTo`: an inline reverse proxy that keeps a copy of what passes.
//!
//! Promises:
//! - the client gets the upstream's own answer: bodies are streamed both ways, trailers, 1xx and upgrades pass;
//! - the copy never waits and never refuses: it is made within a bound of bytes and handed over without waiting; where
//!   there is no room, or the queue takes no more, the copy is dropped and counted by reason, and traffic goes on;
//! - what is redacted is masked before the copy is written anywhere.
//!
//! So this is the one source that does not wait for `Output::send`: production comes first here, and the loss is counted.
//!
//! Reading order: [`config`] (the keys), [`service`] (one request on its way), [`headers`] (what passes and what is made
//! anew), [`bodies`] (streams with a copy), [`recording`] (the copy and its bounds), [`selection`] (what is copied),
//! [`copies`] (from the copy to the queue), [`pile`] (where copies wait), [`maker`] and [`event`] (the copy becomes an event),
//! [`busy`] (what the traffic needs).

mod bodies;
mod busy;
mod config;
mod copies;
mod event;
mod expect;
mod headers;
mod maker;
mod pile;
mod recording;
mod selection;
mod service;

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::service::service_fn;
use rf_core::lifecycle::Tasks;
use rf_net::address::Place;
use rf_net::per_core::serve_each;
use rf_net::serve::{ServeReport, ServerLimits};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub(super) use config::{build, schema};

use self::bodies::RequestBody;
use self::config::Settings;
use self::copies::Copies;
use self::service::{Forwarding, Tunnels};
use super::claimed_port::ClaimedPort;
use super::{HoldsUp, Listening, Source, SourceError};
use crate::pipeline::Output;

/// How long copies may take to reach the queue after the last connection has ended.
const FLUSH: Duration = Duration::from_secs(5);
/// A client that has closed its sending side may wait for its answer, or have left: then it counts as gone after this time.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(5);

type Upstream = rf_net::upstream::Upstream<RequestBody>;

/// The source, before it runs.
struct ForwardSource {
    id: String,
    port: ClaimedPort,
    settings: Settings,
}

impl Source for ForwardSource {
    fn holds_up(&self) -> HoldsUp {
        HoldsUp::PassingTraffic
    }

    fn places(&self) -> Vec<Place> {
        self.port.places()
    }

    fn start(&mut self) -> Result<Vec<Listening>, SourceError> {
        self.port.claim(&self.id)
    }

    fn run(
        self: Box<Self>,
        out: Output,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let id = self.id.clone();
            let fail = |reason: String| SourceError { id: id.clone(), reason };
            // Not a child of `stop`: the copies of what is in flight come after it.
            let copying_stop = CancellationToken::new();
            let copying = Tasks::new(copying_stop.clone());
            let settings = Arc::new(self.settings);
            // They run on the serving threads, and end with these at the latest.
            let tunnels = Arc::new(Tunnels {
                tasks: Tasks::new(stop.child_token()),
                room: Arc::new(Semaphore::new(settings.max_connections.get())),
            });
            let limits = limits(&settings, &self.port);
            let listeners = self.port.into_listeners();
            let threads = listeners.len();
            let copies = settings
                .capture
                .as_ref()
                .map(|capture| Copies::start(&id, Arc::clone(capture), out, threads, &copying))
                .transpose()
                .map_err(|error| fail(error.to_string()))?;
            let mut forwardings = Vec::new();
            for _ in &listeners {
                forwardings.push(Arc::new(Forwarding {
                    id: id.clone(),
                    settings: Arc::clone(&settings),
                    upstream: Upstream::new(&settings.client, settings.upstream_timeout)
                        .map_err(|error| fail(error.to_string()))?,
                    copies: copies.clone(),
                    tunnels: Arc::clone(&tunnels),
                    stop: stop.clone(),
                }));
            }
            drop(copies);
            let for_thread = || {
                let forwarding = forwardings.pop().expect("there is one for each listener");
                let is_watched = Cell::new(false);
                move |peer| {
                    if let Some(copies) = forwarding.copies.as_ref().filter(|_| !is_watched.get()) {
                        is_watched.set(copies.watch());
                    }
                    let forwarding = Arc::clone(&forwarding);
                    service_fn(move |request| {
                        let forwarding = Arc::clone(&forwarding);
                        async move { Ok::<_, Infallible>(forwarding.answer(peer, request).await) }
                    })
                }
            };
            let served = serve_each(listeners, for_thread, limits, stop).await;
            let reports = served.map_err(|error| fail(error.to_string()))?;
            let ServeReport { accepted, accept_errors, panics, cut } = reports.into_iter().sum();
            tracing::debug!(source = id, accepted, accept_errors, panics, cut, "forwarding closed");
            // With the last connection the last `Copies` has gone: their task ends by itself.
            copying_stop.cancel();
            if let Err(error) = copying.join(FLUSH).await {
                tracing::warn!(source = id, %error, "copies of requests could not all be stored before the stop");
            }
            Ok(())
        })
    }
}

/// What each accept loop takes from its clients.
fn limits(settings: &Settings, port: &ClaimedPort) -> ServerLimits {
    ServerLimits {
        max_connections: port.share(settings.max_connections),
        header_timeout: settings.request_timeout,
        idle_timeout: settings.idle_timeout,
        write_timeout: settings.client_timeout,
        half_closed_timeout: HALF_CLOSED_TIMEOUT,
        is_proxy: true,
        ..ServerLimits::default()
    }
}

#[cfg(test)]
mod tests {
    use rf_queue::WhenFull;
    use serde_json::json;
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;
    use crate::source::contract::build_source;

    /// Whether this process follows what the system counts of a thread.
    fn is_watching() -> bool {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let mut targets = open.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        targets.any(|target| target.ends_with("schedstat"))
    }

    #[tokio::test]
    async fn the_threads_that_serve_are_watched_for_the_sake_of_the_copies() {
        let to = json!({ "forwardTo": "http://127.0.0.1:1", "listenAddress": "127.0.0.1", "listenPort": 0 });
        let mut source = build_source("http", &to);
        let listening = source.start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (queues, out) = copies::tests::open(folder.path(), WhenFull::Block).await;
        let stop = CancellationToken::new();
        assert!(!is_watching(), "there is no connection yet");
        let connecting = async {
            let connection = TcpStream::connect(listening[0].address).await.unwrap();
            while !is_watching() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            drop(connection);
            stop.cancel();
        };
        let both = async { tokio::join!(source.run(out, stop.clone()), connecting) };
        let (ran, ()) = timeout(Duration::from_secs(20), both).await.expect("it is watched soon");
        ran.unwrap();
        queues.close().await;
    }
}
