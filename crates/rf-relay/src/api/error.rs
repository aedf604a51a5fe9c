//! The one error of all endpoints, and how it is answered.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use rf_core::protocol::WireError;
use rf_net::body::BodyError;
use rf_net::encoding::{ACCEPTED, DecodeError, UnknownCoding};

use crate::bucket::BucketName;
use crate::store::Unavailable;

/// When a sender shall try again: buckets are drained all the time, and senders add their own backoff.
const RETRY_AFTER_SECONDS: &str = "1";

/// Why a request is refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum ApiError {
    /// Unknown bucket or wrong token: not told apart.
    #[error("unknown bucket or wrong token")]
    Unauthorized,
    /// The request makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// The body, or what it holds, is larger than is taken.
    #[error("{0}")]
    TooLarge(String),
    /// The body did not come in time.
    #[error("the body came too slowly")]
    TooSlow,
    /// The body is coded in a way that is not known.
    #[error("{0}")]
    UnsupportedEncoding(String),
    /// These buckets have no room now.
    #[error("full: {}", names(.0))]
    Full(Vec<BucketName>),
    /// The relay's disk takes nothing for these buckets now.
    #[error("the relay's disk accepts no writes now: {}", names(.0))]
    Disk(Vec<BucketName>),
    /// There is no place for one more.
    #[error("{0}")]
    Busy(&'static str),
    /// What the request names is not there.
    #[error("{0}")]
    NotFound(&'static str),
    /// There is no such endpoint.
    #[error("no such path")]
    NoSuchPath,
    /// The endpoint takes another method.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// The store does not work now.
    #[error("the bucket is not available, try again later")]
    Unavailable {
        /// For the log only.
        cause: String,
    },
}

fn names(buckets: &[BucketName]) -> String {
    buckets.iter().map(BucketName::as_str).collect::<Vec<_>>().join(", ")
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedEncoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Full(_) | Self::Disk(_) | Self::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NotFound(_) | Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn header(&self) -> Option<(header::HeaderName, HeaderValue)> {
        match self {
            Self::Unauthorized => {
                Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
            }
            Self::UnsupportedEncoding(_) => {
                Some((header::ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED)))
            }
            Self::Full(_) | Self::Disk(_) | Self::Busy(_) | Self::Unavailable { .. } => {
                Some((header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS)))
            }
            _ => None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Self::Unavailable { cause } = &self {
            tracing::error!(error = cause, "request refused, the store does not work");
        }
        let body = axum::Json(serde_json::json!({ "error": self.to_string() }));
        let mut response = (self.status(), body).into_response();
        response.headers_mut().extend(self.header());
        response
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { .. } => Self::TooLarge(error.to_string()),
            BodyError::Timeout => Self::TooSlow,
            BodyError::NoMemory => {
                Self::Busy("the memory for bodies is used up (limits.bodyMemoryBytes)")
            }
            BodyError::Broken(_) => Self::BadRequest(error.to_string()),
        }
    }
}

impl From<UnknownCoding> for ApiError {
    fn from(error: UnknownCoding) -> Self {
        Self::UnsupportedEncoding(error.to_string())
    }
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLarge { .. } => Self::TooLarge(error.to_string()),
            DecodeError::Broken { .. } => Self::BadRequest(error.to_string()),
        }
    }
}

impl From<WireError> for ApiError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::TooMany { .. } => Self::TooLarge(error.to_string()),
            WireError::Malformed(_) => {
                Self::BadRequest(format!("not the JSON expected here: {error}"))
            }
        }
    }
}

impl From<Unavailable> for ApiError {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable { cause: error.to_string() }
    }
}
