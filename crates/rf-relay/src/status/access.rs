//! Who may see the status: everybody where no token is configured, which is on loopback only.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, StatusCode, header};

use super::StatusPort;

/// Lets a request with the token pass: `Bearer TOKEN`, or `Basic` with any user name and the token as password, so that
/// a browser asks for it.
pub(super) async fn guard(
    State(port): State<Arc<StatusPort>>,
    request: Request,
    next: Next,
) -> Response {
    if is_allowed(&port, request.headers()) {
        return next.run(request).await;
    }
    challenge()
}

/// Asks for the token.
pub(super) fn challenge() -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"ReplayForge\", charset=\"UTF-8\"")];
    (StatusCode::UNAUTHORIZED, challenge, "the token is missing or wrong (key statusAuth)")
        .into_response()
}

pub(super) fn is_allowed(port: &StatusPort, headers: &HeaderMap) -> bool {
    let Some(auth) = &port.auth else { return true };
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, shown)) = value.and_then(|value| value.split_once(' ')) else {
        return false;
    };
    if scheme.eq_ignore_ascii_case("bearer") {
        return auth.matches(shown.trim());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return false;
    }
    let Ok(pair) = BASE64_STANDARD.decode(shown.trim()) else { return false };
    let password = pair.iter().position(|byte| *byte == b':').map(|at| &pair[at + 1..]);
    password.is_some_and(|password| auth.matches(password))
}
