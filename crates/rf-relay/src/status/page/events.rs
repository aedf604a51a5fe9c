//! `POST /bucket-events`: the newest events of a bucket, for its token.
//!
//! The relay does not know what an event is: JSON is shown as JSON, anything else as text.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use maud::{Markup, html};
use rf_core::protocol::PulledEvent;
use rf_net::body::read_capped;
use serde_json::Value;

use super::{bucket, not_for_a_browser, query, render_bucket};
use crate::report::{BucketReport, bytes};
use crate::status::{StatusPort, failed};

/// Events that are shown.
const MAX_EVENTS: usize = 20;
/// Characters of one that are shown.
const MAX_CHARS: usize = 20_000;
/// Bytes of one that are shown as JSON.
const MAX_JSON_BYTES: usize = 1024 * 1024;
/// A name and a token.
const MAX_BODY_BYTES: usize = 16 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Trying tokens out here shall be no quicker way than the API's.
const WRONG_TOKEN_PAUSE: Duration = Duration::from_millis(300);

pub(super) async fn page(State(port): State<Arc<StatusPort>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if let Some(other) = not_for_a_browser(&port, &parts.headers) {
        return other;
    }
    let Ok(body) = read_capped(body, MAX_BODY_BYTES, BODY_TIMEOUT).await else {
        return (StatusCode::BAD_REQUEST, "the form cannot be read").into_response();
    };
    // A form is coded as a query is.
    let form = format!("/?{}", String::from_utf8_lossy(&body)).parse::<Uri>();
    let form = form.map(|uri| query(&uri)).unwrap_or_default();
    let field = |name| form.get(name).map(String::as_str).unwrap_or_default();
    let (name, token) = (field("name").to_owned(), field("token"));
    let (status, shows) = match port.tokens.opened_by(&name, token) {
        Some(bucket) => match port.view.store.newest(&bucket, MAX_EVENTS).await {
            Ok(events) => (StatusCode::OK, Shows::Events(events)),
            Err(error) => {
                tracing::error!(%bucket, %error, "events cannot be shown");
                let sorry = "The bucket is not available now.";
                (StatusCode::SERVICE_UNAVAILABLE, Shows::Question(sorry))
            }
        },
        None => {
            port.view.stats.count_unauthorized();
            let bucket = port.tokens.known(&name);
            tracing::warn!(bucket, "events not shown: unknown bucket or wrong token");
            tokio::time::sleep(WRONG_TOKEN_PAUSE).await;
            let wrong = "This token does not open the bucket.";
            (StatusCode::FORBIDDEN, Shows::Question(wrong))
        }
    };
    let page = move |port: &StatusPort| {
        render_bucket(port, &name, status, |bucket| Some(shows.render(bucket)))
    };
    port.make(page).await.unwrap_or_else(failed)
}

/// What stands below the bucket's figures.
enum Shows {
    Events(Vec<PulledEvent>),
    /// What is wrong, and the form once more.
    Question(&'static str),
}

impl Shows {
    fn render(&self, bucket: &BucketReport) -> Markup {
        match self {
            Self::Events(events) => list(events),
            Self::Question(wrong) => bucket::ask(bucket, Some(wrong)),
        }
    }
}

fn list(events: &[PulledEvent]) -> Markup {
    html! {
        section id="events" class="panel" {
            h2 { "Newest events" }
            @if events.is_empty() { p class="none" { "The bucket is empty." } }
            @for event in events.iter().rev() {
                @let value = json(event);
                details open[events.len() == 1] {
                    summary { "event " (event.id) " · " (bytes(event.content.len() as u64)) " · " (title(value.as_ref())) }
                    pre { (decoded(event, value)) }
                }
            }
        }
    }
}

/// What it says, where that is JSON and of a size that a person reads: in memory it takes many times as much.
fn json(event: &PulledEvent) -> Option<Value> {
    if event.content.len() > MAX_JSON_BYTES {
        return None;
    }
    serde_json::from_slice(&event.content).ok()
}

/// Method and path, where there are such.
fn title(value: Option<&Value>) -> String {
    let text = |key: &str| value.and_then(|value| value.get(key)?.as_str()).unwrap_or_default();
    format!("{} {}", text("method"), text("path")).chars().take(120).collect()
}

fn decoded(event: &PulledEvent, value: Option<Value>) -> String {
    let text = match value {
        Some(mut value) => {
            // A body that is JSON itself is easier to read as such.
            if let Some(body) = value.get_mut("body")
                && let Some(inner) =
                    body.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok())
                && (inner.is_object() || inner.is_array())
            {
                *body = inner;
            }
            Cow::Owned(serde_json::to_string_pretty(&value).unwrap_or_default())
        }
        None => String::from_utf8_lossy(&event.content),
    };
    text.chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_event_is_shown_as_the_text_that_it_is() {
        let event = |content: String| PulledEvent { id: 1, content: content.into(), attempts: 0 };
        let small = event(r#"{"body":"[1]"}"#.to_owned());
        assert_eq!(decoded(&small, json(&small)), "{\n  \"body\": [\n    1\n  ]\n}");
        let large = event(format!("[{}0]", "0,".repeat(MAX_JSON_BYTES / 2)));
        assert_eq!(json(&large), None);
        assert_eq!(decoded(&large, None).len(), MAX_CHARS);
        assert!(decoded(&large, None).starts_with("[0,0,"));
    }
}
