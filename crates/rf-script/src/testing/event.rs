//! A text as the event that a source would make of it.

use std::net::{Ipv4Addr, SocketAddr};

use rf_core::event::CapturedRequest;
use serde_json::json;
use uuid::Uuid;

/// Which source an event looks like it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The text itself.
    Raw,
    /// A captured request whose body the text is.
    Http,
    /// A line of a log file.
    LogLine,
}

/// The request around a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// `POST` and the like.
    pub method: String,
    /// As in the request line, with the query.
    pub path: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
}

impl HttpRequest {
    /// `POST /`, with the content type that the body looks like.
    pub fn with_body(body: &[u8]) -> Self {
        let is_json = matches!(body.trim_ascii_start().first(), Some(b'{' | b'['));
        let kind = if is_json { "application/json" } else { "text/plain" };
        Self {
            method: "POST".to_owned(),
            path: "/".to_owned(),
            headers: vec![("Content-Type".to_owned(), kind.to_owned())],
        }
    }
}

impl EventKind {
    /// By the name that test files and the command line use.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "raw" => Some(Self::Raw),
            "http" => Some(Self::Http),
            "logline" => Some(Self::LogLine),
            _ => None,
        }
    }

    /// The content that `Process` is called with. The event's id follows from the time and the number.
    pub fn wrap(self, text: &[u8], request: &HttpRequest, now_us: u64, number: u64) -> Vec<u8> {
        let id = event_id(now_us, number);
        match self {
            Self::Raw => text.to_vec(),
            Self::Http => {
                let headers = request.headers.iter();
                let captured = CapturedRequest {
                    id,
                    captured_at_us: now_us,
                    ip: SocketAddr::from((Ipv4Addr::LOCALHOST, 50000)),
                    method: &request.method,
                    target: &request.path,
                    headers: headers.map(|(name, value)| (name.as_str(), value.as_bytes())),
                    body: text,
                };
                captured.encode()
            }
            Self::LogLine => {
                let body = json!({ "content": String::from_utf8_lossy(text) });
                let event = json!({
                    "ip": "127.0.0.1",
                    "method": "POST",
                    "path": "/",
                    "params": {},
                    "headers": { "Content-Type": ["application/json"] },
                    "body": body.to_string(),
                    "eventId": id.to_string(),
                    "capturedAtUs": now_us,
                });
                event.to_string().into_bytes()
            }
        }
    }
}

fn event_id(now_us: u64, number: u64) -> Uuid {
    let mut bytes = [0; 10];
    bytes[2..].copy_from_slice(&number.to_be_bytes());
    uuid::Builder::from_unix_timestamp_millis(now_us / 1000, &bytes).into_uuid()
}
