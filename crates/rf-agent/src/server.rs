//! The player's own HTTP server: the APIs of its sinks, files, the relay's status, and a page to look at all of it.
//!
//! Promises:
//! - it only reads and hands on; an event never waits for it, and it stops last;
//! - nothing is answered but `/ping` before `access` has let the request in: credentials where the file
//!   names some, else names and origins that belong to this machine;
//! - a path never leaves the folder of `files`; a request's body, its time and the number of connections are bounded.
//!
//! Reading order: `config` (keys become a plan), `access` and `password` (who may), `site` (which path is whose), `refused`,
//! `files`, `relay`, `page`.

mod access;
mod config;
pub(crate) mod files;
mod page;
mod password;
pub(crate) mod refused;
mod relay;
mod site;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode};
use hyper_util::service::TowerToHyperService;
use rf_core::lifecycle::Tasks;
use rf_net::address::Place;
use rf_net::listen::listen;
use rf_net::received::ReceivedBody;
use rf_net::serve::{ServeReport, ServerLimits, serve};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::{Service, ServiceExt};

use self::access::{Access, Peer};
use self::files::StaticFolder;
use self::relay::RelayStatus;
use crate::sink::Sink;

pub(crate) use self::config::{listener_keys, plan};

/// Connections of one listener at a time; further ones wait in the kernel.
const MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(256).expect("256 is not zero");
/// How long answers under way may take after the stop: nothing is lost with them. Longer than the 2 s for which a client that
/// was refused within a request may pause: otherwise one that idles would be named as cut off.
const DRAIN: Duration = Duration::from_secs(3);

/// A sink as its URLs show it.
pub(crate) struct ServedSink {
    /// The first part of its URLs.
    pub(crate) id: String,
    /// As in the file.
    pub(crate) name: String,
    /// Its `type`.
    pub(crate) kind: String,
    /// As in the file.
    pub(crate) metadata: Option<Value>,
    /// The sink.
    pub(crate) sink: Arc<dyn Sink>,
}

/// A checked configuration of the server.
pub(crate) struct ServerPlan {
    /// Address and port; `None`: only sinks that have a listener of their own are served.
    address: Option<(String, u16)>,
    sinks: Vec<ServedSink>,
    access: Access,
    folder: Option<StaticFolder>,
    relay: Option<RelayStatus>,
}

impl ServerPlan {
    /// Where it is to listen, besides the listeners of sinks.
    pub(crate) fn place(&self) -> Option<Place> {
        self.address.as_ref().map(|(address, port)| Place::tcp(address, *port))
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct ServerError {
    /// The key, or the sink.
    place: String,
    /// What happened.
    reason: String,
}

/// A server that has its ports and does not answer yet.
pub(crate) struct Server {
    listening: Vec<Listening>,
}

struct Listening {
    /// In messages.
    name: String,
    listener: TcpListener,
    router: Router,
}

impl Server {
    /// Claims the ports. The sinks have been started.
    pub(crate) fn bind(plan: ServerPlan) -> Result<Self, ServerError> {
        let ServerPlan { address, sinks, access, folder, relay } = plan;
        let access = Arc::new(access);
        let mut listening = Vec::new();
        for served in &sinks {
            let (Some((address, port)), Some(api)) =
                (served.sink.own_listener(), Arc::clone(&served.sink).api())
            else {
                continue;
            };
            let name = format!("sink `{}`", served.name);
            let api = site::of_one_sink(served, api);
            listening.push(Listening::bind(name, (&address, port), &access, api)?);
        }
        if let Some((address, port)) = &address {
            let site = site::router(sinks, folder, relay);
            let name = "exposedPort".to_owned();
            listening.push(Listening::bind(name, (address, *port), &access, site)?);
        }
        Ok(Self { listening })
    }

    /// Answers until the group is told to stop.
    pub(crate) fn spawn(self, tasks: &Tasks) {
        for Listening { name, listener, router } in self.listening {
            let stop = tasks.stop_token().clone();
            let limits = ServerLimits {
                max_connections: MAX_CONNECTIONS,
                drain: DRAIN,
                ..ServerLimits::default()
            };
            tasks.spawn(format!("server of {name}"), async move {
                let service_for = |peer| TowerToHyperService::new(from(peer, router.clone()));
                let ServeReport { accepted, accept_errors, panics, cut } =
                    serve(listener, service_for, limits, stop).await;
                tracing::info!(
                    server = name,
                    accepted,
                    accept_errors,
                    panics,
                    cut,
                    "server stopped"
                );
                Ok::<(), Infallible>(())
            });
        }
    }

    /// Where it listens.
    #[cfg(test)]
    fn addresses(&self) -> Vec<SocketAddr> {
        let address = |listening: &Listening| listening.listener.local_addr().expect("it is bound");
        self.listening.iter().map(address).collect()
    }
}

impl Listening {
    fn bind(
        name: String,
        (address, port): (&str, u16),
        access: &Arc<Access>,
        router: Router,
    ) -> Result<Self, ServerError> {
        let fail = |reason: String| ServerError { place: name.clone(), reason };
        let listener = listen(address, port).map_err(|error| fail(error.to_string()))?;
        let bound: SocketAddr = listener.local_addr().map_err(|error| fail(error.to_string()))?;
        tracing::info!(server = name, address = %bound, "server listening");
        let is_loopback = bound.ip().is_loopback();
        if !is_loopback && access.is_open() {
            tracing::warn!(
                server = name,
                address = %bound,
                "anyone who can reach this address can read the data of the sinks: set httpUsername and httpPassword, or httpTokens"
            );
        }
        let router = access::protect(router, access, is_loopback);
        Ok(Self { name, listener, router })
    }
}

/// Tells each request who sent it.
fn from(
    peer: SocketAddr,
    router: Router,
) -> impl Service<Request<ReceivedBody>, Response = Response, Error = Infallible, Future: Send>
+ Clone
+ Send {
    router.map_request(move |mut request: Request<ReceivedBody>| {
        request.extensions_mut().insert(Peer(peer));
        request
    })
}

/// An answer that says no, in the form that the sinks' APIs use.
fn refusal(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    (status, axum::Json(json!({ "error": text.into() }))).into_response()
}
