//! Who may see the status: who has the token, and where none is configured, which is on loopback only, everybody who asks
//! for a name of this machine.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, StatusCode, header};
use rf_core::config::Secret;
use rf_net::own_host::OwnHosts;

use super::StatusPort;
use crate::auth::authorization;

/// The rules of the file.
#[derive(Debug, Default)]
pub(crate) struct Access {
    /// `statusAuth`.
    pub(crate) auth: Option<Secret>,
    /// `statusHosts`, and the listener's own name.
    pub(crate) own_hosts: OwnHosts,
}

impl Access {
    pub(super) fn allows(&self, headers: &HeaderMap) -> bool {
        match &self.auth {
            Some(auth) => shows(headers, auth),
            None => self.own_hosts.know(headers),
        }
    }

    /// Asks for the token, or says why there is nothing to ask for.
    pub(super) fn refusal(&self) -> Response {
        if self.auth.is_none() {
            let text =
                "the relay does not know this host name: add it to statusHosts, or set statusAuth";
            return (StatusCode::FORBIDDEN, text).into_response();
        }
        let challenge =
            [(header::WWW_AUTHENTICATE, "Basic realm=\"ReplayForge\", charset=\"UTF-8\"")];
        (StatusCode::UNAUTHORIZED, challenge, "the token is missing or wrong (key statusAuth)")
            .into_response()
    }
}

/// Lets a request pass that may.
pub(super) async fn guard(
    State(port): State<Arc<StatusPort>>,
    request: Request,
    next: Next,
) -> Response {
    if port.access.allows(request.headers()) {
        return next.run(request).await;
    }
    port.access.refusal()
}

/// Whether a request has the token: `Bearer TOKEN`, or `Basic` with any user name and the token as password, so that a
/// browser asks for it.
fn shows(headers: &HeaderMap, auth: &Secret) -> bool {
    let (scheme, shown) = authorization(headers);
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return auth.matches(shown);
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return false;
    }
    let Ok(pair) = BASE64_STANDARD.decode(shown) else { return false };
    let password = pair.iter().position(|byte| *byte == b':').map(|at| &pair[at + 1..]);
    password.is_some_and(|password| auth.matches(password))
}
