//! Who may: credentials, and guards for the browser of somebody who has them.
//!
//! Three doors stand open without guards: a page of another site can send requests with the credentials that a browser
//! keeps (so a request that changes something must come from our own page); a foreign name can be made to point at
//! 127.0.0.1 (so a server on loopback without credentials answers only to names of this machine); a password can be tried
//! (so a wrong one costs a pause, and hashes are computed one at a time).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, HOST, HeaderName, ORIGIN, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use rf_net::body::{BodyError, read_capped};
use rf_net::own_host::OwnHosts;
use tower_http::compression::CompressionLayer;

use super::password::{Password, Verifier};
use super::refusal;

/// Largest body of a request: the APIs read, and take a few small orders.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// How long a piece of a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Before wrong credentials are answered.
const WRONG_PAUSE: Duration = Duration::from_millis(500);
/// What other programs ask to know whether the server is there; open to all.
const PING: &str = "/ping";

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// The rules of the file.
pub(super) struct Access {
    /// `httpUsername` and `httpPassword`.
    pub(super) login: Option<(String, Password)>,
    /// `httpTokens`.
    pub(super) tokens: Vec<Password>,
    /// `httpHosts`, the listener's own name, and the machine's.
    pub(super) hosts: OwnHosts,
    pub(super) verifier: Verifier,
}

impl Access {
    /// Whether no credentials are asked for.
    pub(super) fn is_open(&self) -> bool {
        self.login.is_none() && self.tokens.is_empty()
    }

    async fn accepts(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Ok(value) = value.to_str() else { return false };
        let Some((scheme, rest)) = value.split_once(' ') else { return false };
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.accepts_token(rest.trim().as_bytes()).await;
        }
        scheme.eq_ignore_ascii_case("basic") && self.accepts_login(rest.trim()).await
    }

    async fn accepts_token(&self, candidate: &[u8]) -> bool {
        let mut is_known = false;
        // All that needs no computation, so that the time does not tell which.
        for token in &self.tokens {
            is_known |= self.verifier.recalls(token, candidate);
        }
        if is_known {
            return true;
        }
        for token in &self.tokens {
            if self.verifier.verify(token, candidate).await {
                return true;
            }
        }
        false
    }

    async fn accepts_login(&self, encoded: &str) -> bool {
        let Some((name, password)) = &self.login else { return false };
        let Ok(decoded) = STANDARD.decode(encoded) else { return false };
        let Some(colon) = decoded.iter().position(|byte| *byte == b':') else { return false };
        let (candidate, rest) = decoded.split_at(colon);
        let is_name = rf_core::config::Secret::new(name.as_str()).matches(candidate);
        self.verifier.verify(password, &rest[1..]).await && is_name
    }
}

/// Puts the guards, limits and gzip before a router.
pub(super) fn protect(router: Router, access: &Arc<Access>, is_loopback: bool) -> Router {
    let guard = Arc::new(Guard { access: Arc::clone(access), is_loopback });
    let check = move |request: Request, next: Next| {
        let guard = Arc::clone(&guard);
        async move { guard.answer(request, next).await }
    };
    router.layer(CompressionLayer::new().gzip(true)).layer(middleware::from_fn(check))
}

struct Guard {
    access: Arc<Access>,
    is_loopback: bool,
}

/// Why a request was not let in.
struct Refused {
    status: StatusCode,
    text: String,
}

impl Refused {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    fn answer(self) -> Response {
        let mut response = refusal(self.status, self.text);
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = "Basic realm=\"ReplayForge\", charset=\"UTF-8\"";
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

impl Guard {
    async fn answer(&self, request: Request, next: Next) -> Response {
        let mut response = match self.admit(request).await {
            Ok(request) => next.run(request).await,
            Err(refused) => refused.answer(),
        };
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        // Data of sinks is stale at once, and must not stay in a cache of the browser.
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response
    }

    /// The request with its body read, or why not.
    async fn admit(&self, request: Request) -> Result<Request, Refused> {
        let (head, body) = request.into_parts();
        if head.uri.path() != PING {
            self.check_host(&head.headers)?;
            self.check_credentials(&head).await?;
            check_origin(&head.method, &head.headers)?;
        }
        let body = read_capped(body, MAX_BODY_BYTES, BODY_TIMEOUT).await.map_err(|error| {
            let status = match error {
                BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                BodyError::Timeout => StatusCode::REQUEST_TIMEOUT,
                BodyError::NoMemory => StatusCode::SERVICE_UNAVAILABLE,
                BodyError::Broken(_) => StatusCode::BAD_REQUEST,
            };
            Refused::new(status, error.to_string())
        })?;
        Ok(Request::from_parts(head, Body::from(body)))
    }

    fn check_host(&self, headers: &HeaderMap) -> Result<(), Refused> {
        if !self.access.is_open() || !self.is_loopback || self.access.hosts.know(headers) {
            return Ok(());
        }
        Err(Refused::new(
            StatusCode::FORBIDDEN,
            "the server does not know this host name: add it to httpHosts, or set httpUsername and httpPassword",
        ))
    }

    async fn check_credentials(&self, head: &Parts) -> Result<(), Refused> {
        if self.access.is_open() || self.access.accepts(&head.headers).await {
            return Ok(());
        }
        if head.headers.contains_key(AUTHORIZATION) {
            let peer = head.extensions.get::<Peer>().map(|peer| peer.0.ip());
            tracing::warn!(peer = peer.map(tracing::field::display), "wrong credentials");
            tokio::time::sleep(WRONG_PAUSE).await;
            // Not what of them is wrong: that would help who guesses.
            return Err(Refused::new(StatusCode::UNAUTHORIZED, "wrong credentials"));
        }
        Err(Refused::new(StatusCode::UNAUTHORIZED, "credentials are needed"))
    }
}

/// A request that may change something is taken from a browser only when our own page sent it.
fn check_origin(method: &Method, headers: &HeaderMap) -> Result<(), Refused> {
    let is_own = match (headers.get(SEC_FETCH_SITE), headers.get(ORIGIN)) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, Some(origin)) => {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
            host.is_some() && origin.map(|(_, host)| host) == host
        }
        (None, None) => true,
    };
    if method.is_safe() || is_own {
        return Ok(());
    }
    let text = "a page of another site may not change anything here";
    Err(Refused::new(StatusCode::FORBIDDEN, text))
}

#[cfg(test)]
mod tests {
    use rf_core::config::Secret;

    use super::*;

    const TEXT: &str = "token-1";
    const HASH_OF_HUNTER2: &str = "$2y$05$mkWg0d5JmR7BjJB.R7ZmiuK2cX5TcJKJHNVq/wwr76EWXXtH/Cwe2";

    #[tokio::test]
    async fn a_token_is_held_against_each_hash_once() {
        // With another salt it is the hash of something else.
        let other = HASH_OF_HUNTER2.replace("mkWg", "nkWg");
        let tokens = [TEXT, other.as_str(), HASH_OF_HUNTER2]
            .map(|text| Password::new(Secret::new(text)).unwrap())
            .to_vec();
        let hosts = OwnHosts::default();
        let access = Access { login: None, tokens, hosts, verifier: Verifier::new() };
        for (token, expected, computed) in
            [(TEXT, true, 0), ("hunter2", true, 2), ("wrong", false, 4), (TEXT, true, 4)]
        {
            for _ in 0..10 {
                assert_eq!(access.accepts_token(token.as_bytes()).await, expected, "{token}");
            }
            assert_eq!(access.verifier.computed(), computed, "{token}");
        }
    }
}
