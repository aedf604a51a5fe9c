//! ntfy: publishing as JSON to the server's root (docs: Sending messages, Publish as JSON).
//!
//! A message over 4096 bytes would become an attachment, so it is cut there. Rate answers are 429.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Uri, header};
use http_body_util::Full;
use rf_core::config::Secret;
use rf_net::client::Client;
use serde_json::json;

use super::Service;
use crate::message::Message;
use crate::post::{self, Form, Post};
use crate::target::{TargetConfig, Wrong};
use crate::text::{Room, cut, one_line};

const MAX_BYTES: usize = 4096;
const MAX_TITLE_CHARS: usize = 250;
const DEFAULT_URL: &str = "https://ntfy.sh";

/// For a group of notifications.
pub(super) const ROOM: Room = Room { limit: MAX_BYTES, measure: char::len_utf8 };

struct Ntfy {
    url: Uri,
    topic: String,
    priority: Option<u8>,
    headers: HeaderMap,
}

pub(super) fn build(config: &TargetConfig, client: Client) -> Result<Arc<dyn Service>, Wrong> {
    let is_topic = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if config.topic.len() > 64 || !config.topic.chars().all(is_topic) {
        return Err(Wrong::new("topic", "expected 1 to 64 letters, digits, _ or -"));
    }
    if config.priority.is_some_and(|priority| !(1..=5).contains(&priority)) {
        return Err(Wrong::new("priority", "expected 1 (least) to 5"));
    }
    let base = if config.url.is_empty() { Secret::new(DEFAULT_URL) } else { config.url.clone() };
    let url = post::url(&base, "/").map_err(|reason| Wrong::new("url", reason))?;
    let headers = authorization(config)?;
    post::one_login(&url, &headers).map_err(|reason| Wrong::new("url", reason))?;
    let form = Ntfy { url, topic: config.topic.clone(), priority: config.priority, headers };
    Ok(Arc::new(Post { form, client, timeout: config.timeout.into() }))
}

/// A token, or a user with a password, or nothing for an open topic.
fn authorization(config: &TargetConfig) -> Result<HeaderMap, Wrong> {
    let mut headers = HeaderMap::new();
    if !config.token.is_empty() {
        post::secret_header(&mut headers, header::AUTHORIZATION, "Bearer ", &config.token)
            .map_err(|reason| Wrong::new("token", reason))?;
    } else if !config.username.is_empty() {
        let basic = rf_net::client::basic_auth(&config.username, config.password.expose());
        headers.insert(header::AUTHORIZATION, basic);
    }
    Ok(headers)
}

impl Form for Ntfy {
    fn request(&self, message: &Message, _id: &str) -> Result<Request<Full<Bytes>>, String> {
        // Without a text ntfy would show "triggered".
        let (subject, text) = message.parts();
        let mut payload = json!({
            "topic": self.topic,
            "message": cut(text, MAX_BYTES, char::len_utf8),
        });
        if let Some(subject) = subject {
            payload["title"] = one_line(subject, MAX_TITLE_CHARS).into();
        }
        if let Some(priority) = self.priority {
            payload["priority"] = priority.into();
        }
        let mut request = post::json(&self.url, &payload);
        request.headers_mut().extend(self.headers.clone());
        Ok(request)
    }
}
