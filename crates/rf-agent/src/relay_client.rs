//! The player's half of the wire: questions to a relay, and what its answers mean.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use rf_core::config::Secret;
use rf_core::protocol::{
    ACKNOWLEDGED, ExtendLease, MAX_PULLED_BYTES, NONE_IS_THERE, PulledEvent, RF_BUCKET,
    RF_ENV_NAME, RF_HOSTNAME, RF_LEASE, encode_ids, parse_pulled,
};
use rf_net::body::{BodyError, read_capped};
use rf_net::client::{Client, ClientError};
use rf_net::encoding::{self, Coding, DecodeError};
use rf_net::mask::{Mask, shown};
use serde::Deserialize;

/// How long a call may take, besides the time that the relay was asked to wait.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// As much of a refusal's text is shown.
const SHOWN_CHARS: usize = 200;

/// A bucket, and what opens it.
#[derive(Debug, Clone)]
pub(crate) struct BucketKey {
    pub(crate) name: String,
    pub(crate) token: Secret,
}

/// What to pull.
pub(crate) struct Pull<'a> {
    /// Names this player: its lease before this one ends.
    pub(crate) holder: &'a str,
    pub(crate) max_events: usize,
    pub(crate) max_bytes: usize,
    pub(crate) wait: Duration,
    pub(crate) lease: Duration,
}

/// What was pulled.
pub(crate) struct Pulled {
    pub(crate) events: Vec<PulledEvent>,
    /// `None`: the relay knows no leases.
    pub(crate) lease: Option<String>,
}

/// What became of an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acknowledged {
    /// The events are not in the bucket any more.
    Surely,
    /// The answer may be that of a relay of the original, or of somebody before the relay: the next pull tells.
    Perhaps,
}

/// Why a call did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    /// The bucket or its token is not known there: a person must act.
    #[error("{status}: {text}")]
    Refused { status: StatusCode, text: String },
    /// Nothing of a relay's API is at the URL: a person must act.
    #[error("{0}")]
    NotThere(String),
    /// The answer is larger than is read.
    #[error("the relay's answer is larger than {} MiB", MAX_PULLED_BYTES / (1024 * 1024))]
    TooLarge,
    /// What was sent is refused, and would be again.
    #[error("{0}")]
    Rejected(String),
    /// There was no answer; later there may be one.
    #[error("{0}")]
    Away(String),
    /// The answer is of no use; later it may be.
    #[error("{0}")]
    Failed(String),
}

/// A relay.
pub(crate) struct RelayClient {
    base: Uri,
    client: Client,
    headers: HeaderMap,
}

impl RelayClient {
    /// `base` is the relay's URL; the names go along with every call.
    pub(crate) fn new(
        base: Uri,
        client: Client,
        env_name: &str,
        host_name: &str,
    ) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in [(RF_ENV_NAME, env_name), (RF_HOSTNAME, host_name)] {
            if !value.is_empty() {
                let value = HeaderValue::try_from(value)
                    .map_err(|_bad| format!("`{value}` cannot be sent as a header"))?;
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        Ok(Self { base, client, headers })
    }

    /// Asks for events under a lease; the answer is empty when none came within `pull.wait`.
    pub(crate) async fn pull(
        &self,
        bucket: &BucketKey,
        pull: &Pull<'_>,
    ) -> Result<Pulled, RelayError> {
        let path = format!(
            "first-batch?limit={}&maxBytes={}&wait={}s&lease={}s&holder={}",
            pull.max_events,
            pull.max_bytes,
            pull.wait.as_secs(),
            pull.lease.as_secs(),
            pull.holder
        );
        let mut request = self.request(Method::GET, &path, bucket, Bytes::new())?;
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("zstd"));
        let response = self.send(request, CALL_TIMEOUT + pull.wait).await?;
        let lease = response
            .headers()
            .get(RF_LEASE)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let status = response.status();
        let body = read(response).await?;
        if status == StatusCode::NOT_FOUND && body.trim_ascii() == b"[]" {
            return Ok(Pulled { events: Vec::new(), lease });
        }
        self.judge(bucket, status, &body)?;
        let events = parse_pulled(&body, pull.max_events).map_err(|error| {
            let is_list = body.trim_ascii_start().starts_with(b"[");
            RelayError::Failed(if is_list { error.to_string() } else { self.no_relay() })
        })?;
        Ok(Pulled { events, lease })
    }

    /// Removes events; those that are gone already are passed over.
    pub(crate) async fn acknowledge(
        &self,
        bucket: &BucketKey,
        ids: &[u64],
    ) -> Result<Acknowledged, RelayError> {
        let request =
            self.request(Method::DELETE, "acknowledge-batch", bucket, encode_ids(ids).into())?;
        let response = self.send(request, CALL_TIMEOUT).await?;
        let status = response.status();
        let body = read(response).await?;
        if status != StatusCode::NOT_FOUND {
            self.judge(bucket, status, &body)?;
        }
        let is_of_relay = if status == StatusCode::NOT_FOUND {
            refusal(&body).is_some_and(|words| words == NONE_IS_THERE)
        } else {
            body.ends_with(ACKNOWLEDGED.as_bytes())
        };
        Ok(if is_of_relay { Acknowledged::Surely } else { Acknowledged::Perhaps })
    }

    /// Gives events back before their lease runs out.
    pub(crate) async fn release(&self, bucket: &BucketKey, ids: &[u64]) -> Result<(), RelayError> {
        let request =
            self.request(Method::POST, "release-batch", bucket, encode_ids(ids).into())?;
        self.call(bucket, request).await
    }

    /// Makes a lease last for `time` from now on.
    pub(crate) async fn extend(
        &self,
        bucket: &BucketKey,
        lease: &str,
        time: Duration,
    ) -> Result<(), RelayError> {
        let body = ExtendLease { lease: lease.to_owned(), seconds: time.as_secs() };
        let body =
            serde_json::to_vec(&body).map_err(|error| RelayError::Failed(error.to_string()))?;
        let request = self.request(Method::POST, "extend-lease", bucket, body.into())?;
        self.call(bucket, request).await
    }

    /// Something else answers there: every path of a status port is answered with 200.
    fn no_relay(&self) -> String {
        format!(
            "{} answered, but not as a relay's API: is relayUrl its `port`, not `portStatusZ`?",
            self.origin()
        )
    }

    /// Its URL.
    pub(crate) fn base(&self) -> &Uri {
        &self.base
    }

    /// Scheme, host and port, for people.
    pub(crate) fn origin(&self) -> String {
        origin(&self.base)
    }

    /// Tells the relay of this node, by way of a bucket.
    pub(crate) async fn tell(&self, bucket: &BucketKey, info: Bytes) -> Result<(), RelayError> {
        let mut request = self.request(Method::POST, "node-info", bucket, info)?;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        self.call(bucket, request).await
    }

    /// A call whose answer is yes, or that there was nothing to do.
    async fn call(
        &self,
        bucket: &BucketKey,
        request: Request<Full<Bytes>>,
    ) -> Result<(), RelayError> {
        let response = self.send(request, CALL_TIMEOUT).await?;
        let status = response.status();
        let body = read(response).await?;
        if status == StatusCode::NOT_FOUND { Ok(()) } else { self.judge(bucket, status, &body) }
    }

    /// What an answer means. What stands at the URL may repeat what it was sent, and its words end in the log.
    fn judge(
        &self,
        bucket: &BucketKey,
        status: StatusCode,
        body: &Bytes,
    ) -> Result<(), RelayError> {
        if status.is_success() {
            return Ok(());
        }
        let mask = Mask::of(&self.base, &self.headers).and(bucket.token.expose());
        let text = mask.text(String::from_utf8_lossy(body).trim());
        let text: String = text.chars().take(SHOWN_CHARS).collect();
        let colon = if text.is_empty() { "" } else { ": " };
        let answer = format!("it answers {status}{colon}{text}");
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                RelayError::Refused { status, text }
            }
            StatusCode::NOT_FOUND => {
                RelayError::NotThere(format!("{} answers {status}{colon}{text}", shown(&self.base)))
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                RelayError::Failed(answer)
            }
            _ if status.is_client_error() => RelayError::Rejected(answer),
            _ => RelayError::Failed(answer),
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        bucket: &BucketKey,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, RelayError> {
        let bad = |error: http::Error| RelayError::Failed(error.to_string());
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(RF_BUCKET, &bucket.name)
            .header(AUTHORIZATION, format!("Bearer {}", bucket.token.expose()))
            .body(Full::new(body))
            .map_err(bad)?;
        if let Some(value) = request.headers_mut().get_mut(AUTHORIZATION) {
            value.set_sensitive(true);
        }
        request.headers_mut().extend(self.headers.clone());
        Ok(request)
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, RelayError> {
        self.client.send(request, timeout).await.map_err(|error| match error {
            error @ ClientError::NoTarget => RelayError::Failed(error.to_string()),
            error => RelayError::Away(error.to_string()),
        })
    }
}

/// Whether a body is that of a relay's refusal; others before it answer with pages, texts or JSON of their own.
pub(crate) fn is_refusal(body: &[u8]) -> bool {
    refusal(body).is_some()
}

/// The words of a relay's refusal.
fn refusal(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Refusal {
        error: String,
    }
    // To serde a list would do, too: its elements by their places.
    let object = Some(body).filter(|body| body.trim_ascii_start().starts_with(b"{"))?;
    serde_json::from_slice(object).ok().map(|Refusal { error }| error)
}

/// Scheme, host and port of a URL: without user, password, path and query.
pub(crate) fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    let host = uri.host().unwrap_or_default();
    uri.port_u16()
        .map_or_else(|| format!("{scheme}://{host}"), |port| format!("{scheme}://{host}:{port}"))
}

async fn read(response: Response<Incoming>) -> Result<Bytes, RelayError> {
    let failed =
        |error: String| RelayError::Failed(format!("the relay's answer cannot be read: {error}"));
    let coding = Coding::of(response.headers()).map_err(|error| failed(error.to_string()))?;
    // Room for one event that is larger than what was asked for.
    let body = read_capped(response.into_body(), MAX_PULLED_BYTES, CALL_TIMEOUT).await;
    let body = body.map_err(|error| match error {
        BodyError::TooLarge { .. } => RelayError::TooLarge,
        error => failed(error.to_string()),
    })?;
    encoding::decode(coding, body, MAX_PULLED_BYTES).map_err(|error| match error {
        DecodeError::TooLarge { .. } => RelayError::TooLarge,
        error => failed(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use rf_net::client::ClientOptions;

    use super::*;

    #[test]
    fn the_words_of_a_refusal_show_no_token() {
        let base = "http://usr:pw-1@127.0.0.1:1/".parse().unwrap();
        let client = Client::new(&ClientOptions::default()).unwrap();
        let client = RelayClient::new(base, client, "", "").unwrap();
        let bucket = BucketKey { name: "b".to_owned(), token: Secret::new("token-2") };
        let body = Bytes::from_static(b"usr:pw-1 sent Bearer token-2");
        for status in [StatusCode::UNAUTHORIZED, StatusCode::INTERNAL_SERVER_ERROR] {
            let error = client.judge(&bucket, status, &body).unwrap_err().to_string();
            assert!(error.ends_with("usr:*** sent Bearer ***"), "{error}");
        }
        // A wrong URL is told with the URL.
        let error = client.judge(&bucket, StatusCode::NOT_FOUND, &body).unwrap_err().to_string();
        let expected = "http://***@127.0.0.1:1/ answers 404 Not Found: usr:*** sent Bearer ***";
        assert_eq!(error, expected);
        assert!(client.judge(&bucket, StatusCode::OK, &body).is_ok());
    }

    #[test]
    fn only_an_object_with_its_words_alone_is_a_refusal() {
        let check = |body: &str, expected: Option<&str>| {
            assert_eq!(refusal(body.as_bytes()).as_deref(), expected, "{body}");
        };
        check(r#" {"error":"full"}"#, Some("full"));
        for other in ["", "full", r#""full""#, r#"["full"]"#, r#"{"error":"a","code":1}"#, "{}"] {
            check(other, None);
        }
    }
}
