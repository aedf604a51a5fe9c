//! Slack: an incoming webhook (docs: Sending messages using incoming webhooks; Formatting message text).
//!
//! `&`, `<` and `>` are escaped, so that neither `<!channel>` nor `<@U1>` nor a link with a false label can be made by a
//! message. Slack advises 4000 characters, and cuts at 40,000. Rate answers are 429 with `Retry-After`.

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
use crate::text::{Room, cut};

const MAX_CHARS: usize = 4000;

/// For a group of notifications.
pub(super) const ROOM: Room = Room { limit: MAX_CHARS, measure: escaped_len };

struct Slack {
    url: Uri,
}

pub(super) fn build(config: &TargetConfig, client: Client) -> Result<Arc<dyn Service>, Wrong> {
    let url = post::url(&config.url, "").map_err(|reason| Wrong::new("url", reason))?;
    Ok(Arc::new(Post { form: Slack { url }, client, timeout: config.timeout.into() }))
}

impl Form for Slack {
    fn request(&self, message: &Message, _id: &str) -> Result<Request<Full<Bytes>>, String> {
        let text = message.joined(|subject| format!("*{subject}*"));
        // Cut before it is escaped, so that no escape is cut in two.
        let text = escaped(&cut(&text, MAX_CHARS, escaped_len));
        Ok(post::json(&self.url, &json!({ "text": text })))
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn escaped_len(c: char) -> usize {
    match c {
        '&' => 5,
        '<' | '>' => 4,
        other => other.len_utf16(),
    }
}
