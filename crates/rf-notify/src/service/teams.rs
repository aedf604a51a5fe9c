//! Microsoft Teams: an adaptive card to an incoming webhook or a workflow (docs: Create and send messages with Incoming
//! Webhooks).
//!
//! A message may have 28 KiB. A mention needs an entity beside the text, and there is none; a joiner keeps links from hiding
//! behind other words. The older connectors answer 200 and name the refusal in the text.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use rf_net::client::Client;
use rf_net::mask::Mask;
use serde_json::json;

use super::Service;
use crate::message::Message;
use crate::post::{self, Form, Post};
use crate::target::{NotifyError, TargetConfig, Wrong};
use crate::text::{Room, cut, json_len, without_masked_links};

/// As JSON; the card around it takes less than the KiB that is left, the subject another.
const MAX_BYTES: usize = 26 * 1024;
const MAX_SUBJECT_BYTES: usize = 1024;
/// What stands before the status in a 200 that is none.
const HIDDEN: &str = "returned HTTP error ";

/// For a group of notifications.
pub(super) const ROOM: Room = Room { limit: MAX_BYTES, measure: room_len };

struct Teams {
    url: Uri,
}

pub(super) fn build(config: &TargetConfig, client: Client) -> Result<Arc<dyn Service>, Wrong> {
    let url = post::url(&config.url, "").map_err(|reason| Wrong::new("url", reason))?;
    Ok(Arc::new(Post { form: Teams { url }, client, timeout: config.timeout.into() }))
}

/// Behind a bracket there may be a joiner, of [`without_masked_links`].
fn room_len(c: char) -> usize {
    if c == ']' { 4 } else { json_len(c) }
}

impl Form for Teams {
    fn request(&self, message: &Message, _id: &str) -> Result<Request<Full<Bytes>>, String> {
        let (subject, text) = message.parts();
        let mut blocks = Vec::new();
        if let Some(subject) = subject {
            let subject = cut(&without_masked_links(subject), MAX_SUBJECT_BYTES, json_len);
            blocks.push(json!({
                "type": "TextBlock", "text": subject, "weight": "bolder", "wrap": true
            }));
        }
        let text = cut(&without_masked_links(text), MAX_BYTES, json_len);
        blocks.push(json!({ "type": "TextBlock", "text": text, "wrap": true }));
        let card = json!({
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "body": blocks,
        });
        let payload = json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": card,
            }],
        });
        Ok(post::json(&self.url, &payload))
    }

    fn hidden_refusal(&self, answer: &str) -> Option<NotifyError> {
        let (_, rest) = answer.split_once(HIDDEN)?;
        let code = rest.get(..3)?.parse().ok()?;
        Some(post::refusal(StatusCode::from_u16(code).ok()?, None, "", &Mask::default()))
    }
}
