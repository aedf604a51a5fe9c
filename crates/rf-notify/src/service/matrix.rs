//! Matrix: `PUT /_matrix/client/v3/rooms/{roomId}/send/m.room.message/{txnId}` of the client-server API.
//!
//! The transaction id is the message's, so a repeat is no second message. `m.mentions` is empty, so nobody is called. An
//! event may have 64 KiB. Rate answers are 429 with `retry_after_ms`.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rf_core::config::Secret;
use rf_net::client::Client;
use serde_json::json;

use super::Service;
use crate::message::Message;
use crate::post::{self, Form, Post};
use crate::target::{TargetConfig, Wrong};
use crate::text::{Room, cut, json_len};

/// As JSON; leaves room for what the server adds to the event.
const MAX_BYTES: usize = 32 * 1024;

/// For a group of notifications.
pub(super) const ROOM: Room = Room { limit: MAX_BYTES, measure: json_len };

struct Matrix {
    /// Up to the transaction's id.
    url: Secret,
    headers: HeaderMap,
}

pub(super) fn build(config: &TargetConfig, client: Client) -> Result<Arc<dyn Service>, Wrong> {
    if !config.room.starts_with('!') {
        return Err(Wrong::new("room", "expected a room's id, such as !abc:example.com"));
    }
    let home = post::url(&config.url, "").map_err(|reason| Wrong::new("url", reason))?;
    let room = utf8_percent_encode(&config.room, NON_ALPHANUMERIC);
    let base = config.url.expose().trim_end_matches('/');
    let url = Secret::new(format!("{base}/_matrix/client/v3/rooms/{room}/send/m.room.message"));
    let mut headers = HeaderMap::new();
    post::secret_header(&mut headers, header::AUTHORIZATION, "Bearer ", &config.token)
        .map_err(|reason| Wrong::new("token", reason))?;
    post::one_login(&home, &headers).map_err(|reason| Wrong::new("url", reason))?;
    let form = Matrix { url, headers };
    Ok(Arc::new(Post { form, client, timeout: config.timeout.into() }))
}

impl Form for Matrix {
    fn request(&self, message: &Message, id: &str) -> Result<Request<Full<Bytes>>, String> {
        let text = message.joined(str::to_owned);
        let payload = json!({
            "msgtype": "m.text",
            "body": cut(&text, MAX_BYTES, json_len),
            "m.mentions": {},
        });
        let url = post::url(&self.url, &format!("/{}", utf8_percent_encode(id, NON_ALPHANUMERIC)))?;
        let mut request = post::json(&url, &payload);
        *request.method_mut() = Method::PUT;
        request.headers_mut().extend(self.headers.clone());
        Ok(request)
    }
}
