//! `POST /bucket-events`: the newest events of a bucket, for its token.
//!
//! The relay does not know what an event is: JSON is shown as JSON, anything else as text.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use maud::{Markup, html};
use rf_core::protocol::PulledEvent;
use rf_net::body::read_capped;

use super::{bucket, missing, not_for_a_browser, query, shown};
use crate::report::bytes;
use crate::stats::unix_ms;
use crate::status::StatusPort;

/// Events that are shown.
const MAX_EVENTS: usize = 20;
/// Characters of one that are shown.
const MAX_CHARS: usize = 20_000;
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
    let report = port.sight.report(unix_ms());
    let Some(found) = report.buckets.iter().find(|bucket| bucket.name == field("name")) else {
        return missing(&report, "There is no such bucket in the relay's configuration.");
    };
    let chart = port.sight.stats.bucket(&found.name, report.at_ms / 1000).chart;
    let Some(name) = port.tokens.opened_by(&found.name, field("token")) else {
        tokio::time::sleep(WRONG_TOKEN_PAUSE).await;
        let asked_again = bucket::ask(found, Some("This token does not open the bucket."));
        return shown(
            StatusCode::FORBIDDEN,
            &bucket::page(&report, found, &chart, Some(&asked_again)),
        );
    };
    match port.sight.store.newest(&name, MAX_EVENTS).await {
        Ok(events) => {
            let events = list(&events);
            shown(StatusCode::OK, &bucket::page(&report, found, &chart, Some(&events)))
        }
        Err(error) => {
            tracing::error!(bucket = %name, %error, "events cannot be shown");
            let sorry = bucket::ask(found, Some("The bucket is not available now."));
            shown(
                StatusCode::SERVICE_UNAVAILABLE,
                &bucket::page(&report, found, &chart, Some(&sorry)),
            )
        }
    }
}

fn list(events: &[PulledEvent]) -> Markup {
    html! {
        section id="events" class="panel" {
            h2 { "Newest events" }
            @if events.is_empty() { p class="none" { "The bucket is empty." } }
            @for event in events.iter().rev() {
                details open[events.len() == 1] {
                    summary { "event " (event.id) " · " (bytes(event.content.len() as u64)) " · " (title(event)) }
                    pre { (decoded(event)) }
                }
            }
        }
    }
}

/// Method and path, where there are such.
fn title(event: &PulledEvent) -> String {
    let value: serde_json::Value = serde_json::from_slice(&event.content).unwrap_or_default();
    let text = |key: &str| value.get(key).and_then(|value| value.as_str()).unwrap_or_default();
    format!("{} {}", text("method"), text("path")).chars().take(120).collect()
}

fn decoded(event: &PulledEvent) -> String {
    let value: Result<serde_json::Value, _> = serde_json::from_slice(&event.content);
    let text = match value {
        Ok(mut value) => {
            // A body that is JSON itself is easier to read as such.
            if let Some(body) = value.get_mut("body")
                && let Some(inner) = body
                    .as_str()
                    .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok())
                && (inner.is_object() || inner.is_array())
            {
                *body = inner;
            }
            serde_json::to_string_pretty(&value).unwrap_or_default()
        }
        Err(_not_json) => String::from_utf8_lossy(&event.content).into_owned(),
    };
    text.chars().take(MAX_CHARS).collect()
}
