//! `/relay-proxy/`: the relay's status port, for those who reach the player and not the relay.
//!
//! Promise: only GET and HEAD pass, without the credentials of the one who asks; an answer is bounded in bytes and time. A relay
//! stands on a public machine and the player on a private one, so what a relay answers runs no script here (`sandbox`).

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use percent_encoding::percent_decode_str;
use rf_net::body::{BodyError, read_capped};
use rf_net::client::{Client, ClientError};

use super::refusal;

/// Until the head of the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// For each piece of its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// A status of thousands of hosts is a few MiB.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

const PASSED_ON: [HeaderName; 3] = [ACCEPT, IF_NONE_MATCH, IF_MODIFIED_SINCE];
const PASSED_BACK: [HeaderName; 3] = [CONTENT_TYPE, ETAG, LAST_MODIFIED];
const POLICY: HeaderValue = HeaderValue::from_static(
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
);

/// `relayUrlStatusz`.
#[derive(Debug, Clone)]
pub(super) struct RelayStatus {
    /// Without a slash at its end.
    base: String,
    /// What the relay asks for.
    authorization: Option<HeaderValue>,
    client: Client,
}

impl RelayStatus {
    /// `None` when this is no `http` or `https` URL with a host.
    pub(super) fn new(
        url: &str,
        authorization: Option<HeaderValue>,
        client: Client,
    ) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        let base = url.trim_end_matches('/').to_owned();
        (is_web && has_host && uri.query().is_none()).then_some(Self {
            base,
            authorization,
            client,
        })
    }

    /// Asks the relay for `rest`, a path with its query.
    pub(super) async fn answer(&self, rest: &str, asked: &Parts) -> Response {
        if !matches!(asked.method, Method::GET | Method::HEAD) {
            let mut refused =
                refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are forwarded");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        let Some(question) = self.question(rest, asked) else {
            return refusal(StatusCode::BAD_REQUEST, "this path is not forwarded");
        };
        let answer = match self.client.send(question, ANSWER_TIMEOUT).await {
            Ok(answer) => answer,
            Err(error) => {
                let is_late = matches!(error, ClientError::Timeout { .. });
                let status =
                    if is_late { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
                return refusal(status, format!("the relay's status page: {error}"));
            }
        };
        let (head, body) = answer.into_parts();
        let body = match read_capped(body, MAX_ANSWER_BYTES, BODY_TIMEOUT).await {
            Ok(body) => body,
            Err(BodyError::Timeout) => {
                return refusal(StatusCode::GATEWAY_TIMEOUT, "the relay's answer came too slowly");
            }
            Err(error) => return refusal(StatusCode::BAD_GATEWAY, format!("the relay: {error}")),
        };
        let mut response = (head.status, Body::from(body)).into_response();
        response.headers_mut().remove(CONTENT_TYPE);
        for name in PASSED_BACK {
            if let Some(value) = head.headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY);
        response
    }

    fn question(&self, rest: &str, asked: &Parts) -> Option<Request<Full<Bytes>>> {
        let path = rest.split('?').next().unwrap_or_default();
        let decoded = percent_decode_str(path).decode_utf8().ok()?;
        // A relay behind a path of a larger server: the rest of that server is not meant.
        if decoded.split(['/', '\\']).any(|part| part == "..") {
            return None;
        }
        let uri: Uri = format!("{}/{rest}", self.base).parse().ok()?;
        let mut question = Request::new(Full::default());
        *question.method_mut() = asked.method.clone();
        *question.uri_mut() = uri;
        if let Some(authorization) = &self.authorization {
            question.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        for name in PASSED_ON {
            if let Some(value) = asked.headers.get(&name) {
                question.headers_mut().insert(name, value.clone());
            }
        }
        Some(question)
    }
}
