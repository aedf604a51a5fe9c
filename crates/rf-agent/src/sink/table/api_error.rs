//! The one error of the query APIs, and how it is answered.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::identifier::Identifier;

/// Names that a 404 lists at the most.
const MAX_NAMED: usize = 50;

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    /// The request makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// What it names is not there.
    #[error("{0}")]
    NotFound(String),
    /// It took longer than a query may.
    #[error("the query took longer than {0} s: ask for less, or filter by an indexed column")]
    TooSlow(u64),
    /// Other queries have all places.
    #[error("too many queries at once, try again")]
    Busy,
    /// The database does not work now.
    #[error("the database is not available, try again later")]
    Unavailable {
        /// For the log only.
        cause: String,
    },
}

impl ApiError {
    /// No such table, naming those that are there.
    pub(crate) fn no_table(name: &str, known: &[Identifier]) -> Self {
        Self::NotFound(format!("no table `{}`; known: {}", shown(name), list(known.iter())))
    }

    /// No such column, naming those that are there.
    pub(crate) fn no_column<'a>(name: &str, known: impl Iterator<Item = &'a Identifier>) -> Self {
        Self::NotFound(format!("no column `{}`; known: {}", shown(name), list(known)))
    }

    /// No such parameter, naming those that are known there.
    pub(crate) fn no_parameter(name: &str, known: &str) -> Self {
        Self::BadRequest(format!("no parameter `{}`; known: {known}", shown(name)))
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::TooSlow(_) | Self::Busy | Self::Unavailable { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

/// A name from a request, short enough for a message.
fn shown(name: &str) -> String {
    name.chars().take(60).collect()
}

fn list<'a>(names: impl Iterator<Item = &'a Identifier>) -> String {
    let mut names = names.map(Identifier::as_str);
    let named: Vec<&str> = names.by_ref().take(MAX_NAMED).collect();
    match (named.is_empty(), names.count()) {
        (true, _) => "none".to_owned(),
        (false, 0) => named.join(", "),
        (false, more) => format!("{}, and {more} more", named.join(", ")),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Self::Unavailable { cause } = &self {
            tracing::warn!(error = cause, "a query failed");
        }
        let body = Json(serde_json::json!({ "error": self.to_string() }));
        (self.status(), body).into_response()
    }
}
