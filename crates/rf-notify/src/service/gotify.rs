//! Gotify: `POST /message` with an application's token in `X-Gotify-Key`.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Uri};
use http_body_util::Full;
use rf_net::client::Client;
use serde_json::json;

use super::Service;
use crate::message::Message;
use crate::post::{self, Form, Post};
use crate::target::{TargetConfig, Wrong};
use crate::text::{Room, cut};

/// The service names no limit; a phone shows less than this.
const MAX_BYTES: usize = 32 * 1024;
const KEY: HeaderName = HeaderName::from_static("x-gotify-key");

/// For a group of notifications.
pub(super) const ROOM: Room = Room { limit: MAX_BYTES, measure: char::len_utf8 };

struct Gotify {
    url: Uri,
    headers: HeaderMap,
    priority: Option<u8>,
}

pub(super) fn build(config: &TargetConfig, client: Client) -> Result<Arc<dyn Service>, Wrong> {
    if config.priority.is_some_and(|priority| priority > 10) {
        return Err(Wrong::new("priority", "expected 0 (least) to 10"));
    }
    let url = post::url(&config.url, "/message").map_err(|reason| Wrong::new("url", reason))?;
    let mut headers = HeaderMap::new();
    post::secret_header(&mut headers, KEY, "", &config.token)
        .map_err(|reason| Wrong::new("token", reason))?;
    let form = Gotify { url, headers, priority: config.priority };
    Ok(Arc::new(Post { form, client, timeout: config.timeout.into() }))
}

impl Form for Gotify {
    fn request(&self, message: &Message, _id: &str) -> Result<Request<Full<Bytes>>, String> {
        // A message without a text is refused.
        let (subject, text) = message.parts();
        let mut payload = json!({ "message": cut(text, MAX_BYTES, char::len_utf8) });
        if let Some(subject) = subject {
            payload["title"] = subject.into();
        }
        if let Some(priority) = self.priority {
            payload["priority"] = priority.into();
        }
        let mut request = post::json(&self.url, &payload);
        request.headers_mut().extend(self.headers.clone());
        Ok(request)
    }
}
