//! Discord: an incoming webhook (docs: Webhook Resource, Execute Webhook).
//!
//! A message has at most 2000 characters. `allowed_mentions` with an empty list keeps `@everyone`, roles and users in the
//! text from being called; a joiner keeps links from hiding behind other words. Rate answers are 429 with `retry_after` in
//! seconds.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Full;
use rf_net::client::Client;
use serde_json::json;

use super::Service;
use crate::message::Message;
use crate::post::{self, Form, Post};
use crate::target::{TargetConfig, Wrong};
use crate::text::{Room, cut, without_masked_links};

const MAX_CHARS: usize = 2000;

/// For a group of notifications.
pub(super) const ROOM: Room = Room { limit: MAX_CHARS, measure: room_len };

struct Discord {
    url: Uri,
}

pub(super) fn build(config: &TargetConfig, client: Client) -> Result<Arc<dyn Service>, Wrong> {
    let url = post::url(&config.url, "").map_err(|reason| Wrong::new("url", reason))?;
    Ok(Arc::new(Post { form: Discord { url }, client, timeout: config.timeout.into() }))
}

/// Behind a bracket there may be a joiner, of [`without_masked_links`].
fn room_len(c: char) -> usize {
    if c == ']' { 2 } else { c.len_utf16() }
}

impl Form for Discord {
    fn request(&self, message: &Message, _id: &str) -> Result<Request<Full<Bytes>>, String> {
        let text = without_masked_links(&message.joined(|subject| format!("**{subject}**")));
        // Counted as UTF-16, which is never less than what Discord counts.
        let content = cut(&text, MAX_CHARS, char::len_utf16);
        let payload = json!({ "content": content, "allowed_mentions": { "parse": [] } });
        Ok(post::json(&self.url, &payload))
    }
}
