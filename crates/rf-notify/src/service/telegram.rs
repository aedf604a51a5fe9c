//! Telegram: `sendMessage` of the Bot API.
//!
//! A text has 1 to 4096 characters. It is sent without `parse_mode`, so nothing in it is markup; names behind `@` are
//! found by Telegram itself, so a joiner is put in between. Rate answers are 429 with `parameters.retry_after`. A chat that is
//! not there, or not for this bot, is told with 400, as a message that is too long is.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Full;
use rf_core::config::Secret;
use rf_net::client::Client;
use serde_json::{Value, json};

use super::Service;
use crate::message::Message;
use crate::post::{self, Form, Post};
use crate::target::{TargetConfig, Wrong};
use crate::text::{Room, cut, without_mentions};

const MAX_CHARS: usize = 4096;
const DEFAULT_URL: &str = "https://api.telegram.org";
/// In the words of every refusal that is about the chat, and in none about the text: sentences such as `have no rights to send a
/// message`, or names such as `CHAT_WRITE_FORBIDDEN`.
const ABOUT_THE_CHAT: [&str; 7] = ["chat", "channel", "group", "peer", "rights", "topic", "user"];

/// For a group of notifications.
pub(super) const ROOM: Room = Room { limit: MAX_CHARS, measure: mentions_len };

struct Telegram {
    /// Holds the token.
    url: Uri,
    chat_id: String,
}

pub(super) fn build(config: &TargetConfig, client: Client) -> Result<Arc<dyn Service>, Wrong> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-');
    if !config.token.expose().chars().all(is_token) {
        return Err(Wrong::new("token", "expected a bot's token, such as 123456:ABC-def"));
    }
    let base = if config.url.is_empty() { Secret::new(DEFAULT_URL) } else { config.url.clone() };
    let url = post::url(&base, &format!("/bot{}/sendMessage", config.token.expose()))
        .map_err(|reason| Wrong::new("url", reason))?;
    let form = Telegram { url, chat_id: config.chat_id.clone() };
    Ok(Arc::new(Post { form, client, timeout: config.timeout.into() }))
}

/// A character behind which [`without_mentions`] has put a joiner is two.
fn mentions_len(c: char) -> usize {
    if c == '@' { 2 } else { c.len_utf16() }
}

impl Form for Telegram {
    fn request(&self, message: &Message, _id: &str) -> Result<Request<Full<Bytes>>, String> {
        let text = without_mentions(&message.joined(str::to_owned));
        let payload = json!({
            "chat_id": self.chat_id,
            "text": cut(&text, MAX_CHARS, char::len_utf16),
            "link_preview_options": { "is_disabled": true },
        });
        Ok(post::json(&self.url, &payload))
    }

    /// A group that becomes a supergroup, which Telegram does by itself, gets another number.
    fn wrong_target(&self, answer: &str) -> Option<String> {
        let answer: Value = serde_json::from_str(answer).ok()?;
        let said = answer["description"].as_str()?.to_ascii_lowercase();
        if !ABOUT_THE_CHAT.iter().any(|word| said.contains(word)) {
            return None;
        }
        let moved = answer["parameters"]["migrate_to_chat_id"].as_i64();
        Some(moved.map_or_else(String::new, |id| format!(": the chat has the chatId {id} now")))
    }
}
