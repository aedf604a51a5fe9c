//! What no handler gets to see, refused in the form that all errors have here.

use axum::extract::{FromRequestParts, Path};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::refusal;

/// Parts of the path, as [`Path`] has them.
pub(crate) struct InPath<T>(pub(crate) T);

/// A path that is no text.
pub(crate) struct NoText;

impl<T, S> FromRequestParts<S> for InPath<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = NoText;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, NoText> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(named)) => Ok(Self(named)),
            Err(_no_text) => Err(NoText),
        }
    }
}

impl IntoResponse for NoText {
    fn into_response(self) -> Response {
        refusal(StatusCode::BAD_REQUEST, "the path is not UTF-8 after percent-decoding")
    }
}

/// Answers where a path is there, and not for this method. Those that are stand in `Allow`.
pub(crate) async fn method_not_allowed() -> Response {
    refusal(StatusCode::METHOD_NOT_ALLOWED, "method not allowed: `Allow` lists those that are")
}
