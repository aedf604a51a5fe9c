//! The one HTTP/1.1 client.
//!
//! Promises: any method and any path and query is sent byte for byte as given; headers are sent as given (names in lower
//! case, as HTTP libraries keep them), in order within a name, with `Host` and `Content-Length` added where missing; no
//! redirect is followed; connections are kept and used again; the answer of a peer that closes before it has taken all of a
//! request is read all the same; nothing waits for ever; an error names host and port and
//! never a path, a query or a header, which may hold secrets.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::percent_decode_str;

use crate::impatient::ImpatientConnector;
use crate::tls::{self, TlsError};

/// A peer that for so long neither takes anything of a request that it was sent nor answers: who asked has given it up long
/// before as a rule, and the connection, with the rest of the body, must not stay.
const WRITE_TIMEOUT: Duration = Duration::from_secs(600);

/// How a client dials and keeps its connections.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientOptions {
    /// For each address of the host. Default 10 s.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept. Default 30 s, well under what servers keep theirs.
    pub idle_timeout: Duration,
    /// How many unused connections are kept for each host. Default 64.
    pub max_idle_per_host: usize,
    /// A PEM file of authorities that are trusted besides the public ones. Default none.
    pub ca_file: Option<PathBuf>,
    /// How long a connection is silent before the kernel asks whether the peer is still there. Default: never asked.
    pub keepalive: Option<Duration>,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            max_idle_per_host: 64,
            ca_file: None,
            keepalive: None,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no connection, so the request was certainly not sent.
    #[error("cannot connect to {host}: {reason}")]
    Connect {
        /// Host and port.
        host: String,
        /// What the network, the name service or TLS says.
        reason: String,
    },
    /// No answer in time; the request may have been sent.
    #[error("no answer from {host} within {after:?}")]
    Timeout {
        /// Host and port.
        host: String,
        /// The time it had.
        after: Duration,
    },
    /// The connection broke or the peer does not speak HTTP; the request may have been sent.
    #[error("the request to {host} failed: {reason}")]
    Exchange {
        /// Host and port.
        host: String,
        /// What went wrong.
        reason: String,
    },
    /// The request has no `http` or `https` URL with a host: sending it again is of no use.
    #[error("the request has no http or https URL with a host")]
    NoTarget,
}

/// A pooled client; clones share the pool.
#[derive(Clone, Debug)]
pub struct Client {
    pool: legacy::Client<ImpatientConnector<HttpsConnector<HttpConnector>>, Full<Bytes>>,
}

impl Client {
    /// Sets up a client; dials nothing.
    ///
    /// # Errors
    /// [`TlsError`], as for a `ca_file` that cannot be read.
    pub fn new(options: &ClientOptions) -> Result<Client, TlsError> {
        let connector = ImpatientConnector::new(connector(options)?, WRITE_TIMEOUT);
        Ok(Client { pool: pooled(options).build(connector) })
    }

    /// Sends a request and waits up to `timeout` for the head of the answer, dialing included. The body of the answer is
    /// read with [`crate::body::read_capped`].
    ///
    /// A request that met a kept connection just as the peer closed it is sent again on another one, if none of it was
    /// sent yet.
    ///
    /// # Errors
    /// See [`ClientError`]; any answer of the peer, also 500, is `Ok`.
    pub async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, ClientError> {
        let host = host_and_port(request.uri()).ok_or(ClientError::NoTarget)?;
        declare_empty_body(&mut request);
        match tokio::time::timeout(timeout, self.pool.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => {
                Err(ClientError::Connect { host, reason: root_cause(&error) })
            }
            Ok(Err(error)) => Err(ClientError::Exchange { host, reason: root_cause(&error) }),
            Err(_elapsed) => Err(ClientError::Timeout { host, after: timeout }),
        }
    }
}

/// `Authorization: Basic` (RFC 7617), marked so that no log shows it.
pub fn basic_auth(username: &str, password: &str) -> HeaderValue {
    let credentials = STANDARD.encode(format!("{username}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {credentials}"))
        .expect("base64 is made of characters that a header takes");
    value.set_sensitive(true);
    value
}

/// What stands before the `@` of a URL, and the host with its port.
#[must_use]
pub fn split_user(url: &Uri) -> (Option<&str>, &str) {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    match authority.rsplit_once('@') {
        Some((user, server)) => (Some(user), server),
        None => (None, authority),
    }
}

/// The name and the password of a URL, as the header that they are sent in.
#[must_use]
pub fn url_login(url: &Uri) -> Option<HeaderValue> {
    let (user, _server) = split_user(url);
    let user = user?;
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let decoded = |text| percent_decode_str(text).decode_utf8_lossy();
    Some(basic_auth(&decoded(name), &decoded(password)))
}

/// What dials for [`ClientOptions`].
pub(crate) fn connector(
    options: &ClientOptions,
) -> Result<HttpsConnector<HttpConnector>, TlsError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(options.connect_timeout));
    tcp.set_keepalive(options.keepalive);
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(tls::client_config(options.ca_file.as_deref())?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp))
}

/// What keeps connections for [`ClientOptions`].
pub(crate) fn pooled(options: &ClientOptions) -> legacy::Builder {
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder
        .pool_idle_timeout(options.idle_timeout)
        .pool_max_idle_per_host(options.max_idle_per_host)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new());
    builder
}

/// hyper leaves the length of an empty body away, but servers may answer 411 to that where a body is usual (RFC 9110,
/// section 8.6).
fn declare_empty_body(request: &mut Request<Full<Bytes>>) {
    let usual = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    if usual && request.body().is_end_stream() {
        request
            .headers_mut()
            .entry(header::CONTENT_LENGTH)
            .or_insert(HeaderValue::from_static("0"));
    }
}

pub(crate) fn host_and_port(uri: &Uri) -> Option<String> {
    let default_port = match uri.scheme_str()? {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let host = uri.host().filter(|host| !host.is_empty())?;
    Some(format!("{host}:{}", uri.port_u16().unwrap_or(default_port)))
}

/// What rustls says, which are names of its own code, and what a person can do about it.
const TLS_WORDS: [(&str, &str); 3] = [
    ("InvalidContentType", "no TLS is spoken there: is it http:// instead of https://?"),
    (
        "CaUsedAsEndEntity",
        "the server shows an authority's certificate as its own: make one for the server, with basicConstraints=CA:FALSE",
    ),
    (
        "UnknownIssuer",
        "the server's certificate is of an authority that is not trusted: name the PEM file of the authority in caFile",
    ),
];

/// The innermost cause: the layers above it only say that the one below failed.
pub(crate) fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let text = cause.to_string();
    match TLS_WORDS.iter().find(|(name, _)| text.contains(name)) {
        Some((_, words)) => (*words).to_owned(),
        None => plain_names(&text),
    }
}

/// The names that a certificate is for, without the type that they have in code.
fn plain_names(text: &str) -> String {
    ["DnsName(", "IpAddress("].iter().fold(text.to_owned(), |text, kind| {
        let mut parts = text.split(kind);
        let before = parts.next().unwrap_or_default().to_owned();
        parts.fold(before, |told, part| told + &part.replacen(')', "", 1))
    })
}
