//! The client of a proxy: bodies are streamed both ways, 1xx and upgrades pass, nothing is added.
//!
//! Promises: connections are kept and used again; the spelling of header names is kept, when the request brings it in its
//! extensions ([`crate::serve::ServerLimits::is_proxy`]); an answer may have up to 256 headers, also over several lines,
//! which become one; a request that met a kept connection just as the peer closed it is sent again on another one, if none
//! of it was sent yet; a connection ends when its peer takes nothing of a request for too long, also of one that was given
//! up, and with it what there is of the request's body; the answer of a peer that closes before it has taken all of a
//! request is read all the same; an error names host and port and never a path or a header.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::client::{ClientOptions, connector, host_and_port, pooled, root_cause};
use crate::impatient::{Impatient, ImpatientConnector};
use crate::tls::TlsError;

/// Headers of an answer; one with more is no answer. Memory for so many is set up for each head.
const MAX_HEADERS: usize = 256;

type Connector = ImpatientConnector<HttpsConnector<HttpConnector>>;
/// What [`Connector`] makes.
type Stream = Impatient<MaybeHttpsStream<TokioIo<TcpStream>>>;

/// Why the upstream gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// There is no connection, so nothing was sent.
    #[error("cannot connect to {host}: {reason}")]
    Away {
        /// Host and port.
        host: String,
        /// What the network, the name service or TLS says.
        reason: String,
        /// It did not refuse but stayed silent.
        is_timeout: bool,
    },
    /// The connection broke, or what came back was no HTTP.
    #[error("no answer from {host}: {reason}")]
    Broken {
        /// Host and port.
        host: String,
        /// What went wrong.
        reason: String,
        /// It took nothing of the request for too long.
        is_timeout: bool,
    },
}

/// A pooled client with request bodies of type `B`. It belongs to one thread: its connections live where it is called.
#[derive(Debug)]
pub struct Upstream<B> {
    pool: legacy::Client<Connector, B>,
}

impl<B> Upstream<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    /// Sets up a client; dials nothing. A connection ends when something waits to be sent, and for `write_timeout` the peer
    /// has neither taken nor sent anything; not after an upgrade.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(options: &ClientOptions, write_timeout: Duration) -> Result<Self, TlsError> {
        let pool = pooled(options)
            .http1_preserve_header_case(true)
            .http1_max_headers(MAX_HEADERS)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .build(ImpatientConnector::new(connector(options)?, write_timeout));
        Ok(Self { pool })
    }

    /// Sends a request and waits for the head of the answer, as long as it takes. Dropped, it gives the request up.
    ///
    /// # Errors
    /// [`UpstreamError`]; any answer is `Ok`.
    pub async fn send(&self, request: Request<B>) -> Result<Response<Incoming>, UpstreamError> {
        let uri = request.uri().clone();
        self.pool.request(request).await.map_err(|error| {
            let host = host_and_port(&uri).unwrap_or_default();
            let reason = root_cause(&error);
            let is_timeout = is_timeout(&error);
            if error.is_connect() {
                UpstreamError::Away { host, reason, is_timeout }
            } else {
                UpstreamError::Broken { host, reason, is_timeout }
            }
        })
    }
}

fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io_error = error.downcast_ref::<io::Error>();
        if io_error.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Moves bytes between two upgraded connections until both ends have closed, one breaks, or `stop`. `upstream` comes with an
/// answer of an [`Upstream`].
pub async fn tunnel(client: OnUpgrade, upstream: OnUpgrade, stop: CancellationToken) {
    let moving = async {
        let (client, upstream) = (client.await?, upstream.await?);
        let upstream = Stream::upgraded(upstream).map_err(|_other| "no stream of an upstream")?;
        copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(upstream)).await?;
        Ok::<(), Box<dyn Error + Send + Sync>>(())
    };
    // Dropping the copy closes both connections; half a message is nothing that could be saved.
    tokio::select! {
        outcome = moving => {
            if let Err(error) = outcome {
                tracing::debug!(%error, "an upgraded connection broke");
            }
        }
        () = stop.cancelled() => {}
    }
}
