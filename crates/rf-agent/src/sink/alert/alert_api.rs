//! What an alert sink is asked besides its rows: the state of every table, and silences.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use http::StatusCode;
use rf_core::config::Interval;
use rf_net::body::read_capped;
use serde::Deserialize;
use serde_json::{Value, json};

use super::AlertSink;
use super::alerts::Shown;
use super::silence::{ALL, Silence};
use super::state::{self, Silenced};
use crate::server::refused::{InPath, method_not_allowed};
use crate::sink::table::api_error::ApiError;
use crate::sink::table::identifier::Identifier;
use crate::sink::table::{row_api, timestamp};

/// A request for a silence is no larger.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// Time for each piece of its body.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Longest reason for a silence, in characters.
const MAX_REASON_CHARS: usize = 500;

/// The endpoints of an alert sink.
pub(super) fn router(sink: Arc<AlertSink>) -> Router {
    let reader = Arc::clone(&sink.database.reader);
    Router::new()
        .route("/status", get(status))
        .route("/silences", get(silences).post(silence))
        .route("/silences/{table}", delete(end_silence))
        .with_state(sink)
        .merge(row_api::router(reader))
        .fallback(no_such_path)
        .method_not_allowed_fallback(method_not_allowed)
}

async fn no_such_path() -> ApiError {
    let rows = row_api::PATHS;
    ApiError::NotFound(format!(
        "no such path; there are status, silences, and those of a db sink: {rows}"
    ))
}

impl AlertSink {
    async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut state::State) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let done = self.database.call(job).await;
        done.map_err(|error| ApiError::Unavailable { cause: error.to_string() })
    }
}

async fn status(State(sink): State<Arc<AlertSink>>) -> Result<Json<Value>, ApiError> {
    let shown = sink.ask(state::State::shown).await?;
    Ok(Json(shown.iter().map(show).collect()))
}

/// Times in seconds since 1970, as everywhere in these APIs.
fn show(shown: &Shown) -> Value {
    let seconds = |us: Option<i64>| us.map(|us| us.div_euclid(1_000_000));
    let Shown { table, watch, rule, silenced } = shown;
    json!({
        "table": table,
        "state": watch.state(),
        "status": watch.status,
        "bad_status": watch.bad_status,
        "bad_events": watch.bad_events(rule),
        "bad_needed": rule.bad,
        "out_of": rule.of,
        "last_event": seconds(watch.last_us),
        "bad_since": seconds(watch.bad_since_us),
        "missing_since": seconds(watch.missing_since_us),
        "heartbeat_secs": seconds(rule.heartbeat),
        "silenced_until": seconds(silenced.map(|silenced| silenced.until_us)),
        "silenced_by": silenced.map(|silenced| if silenced.by_file { "file" } else { "api" }),
    })
}

async fn silences(State(sink): State<Arc<AlertSink>>) -> Result<Json<Value>, ApiError> {
    let silences = sink.ask(state::State::silences).await?;
    let shown = silences.iter().map(|silence| {
        json!({
            "table": silence.name,
            "until": silence.until_us.div_euclid(1_000_000),
            "reason": silence.reason,
        })
    });
    Ok(Json(shown.collect()))
}

/// A silence that is asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    /// The table, or `*`.
    table: String,
    /// How long, from now on.
    r#for: Option<Interval>,
    /// Or its end, in any form of a timestamp.
    until: Option<Value>,
    #[serde(default)]
    reason: String,
}

impl Asked {
    fn read(body: &[u8]) -> Result<Self, ApiError> {
        let expected = r#"expected {"table": "NAME or *", "for": "2h", "reason": ".."}"#;
        // Else a list would be taken for an object, key by key.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(ApiError::BadRequest(expected.to_owned()));
        }
        serde_json::from_slice(body)
            .map_err(|error| ApiError::BadRequest(format!("{expected}: {error}")))
    }

    fn silence(self, now_us: i64) -> Result<Silence, ApiError> {
        let bad = |text: &str| ApiError::BadRequest(text.to_owned());
        if self.table != ALL {
            Identifier::table(&self.table).map_err(|error| bad(&error.to_string()))?;
        }
        let until_us = match (self.r#for, &self.until) {
            (Some(length), None) => {
                let length = i64::try_from(Duration::from(length).as_micros()).unwrap_or(i64::MAX);
                now_us.saturating_add(length)
            }
            (None, until @ Some(_)) => timestamp::of_event(until.as_ref())
                .map_err(|_no_time| bad(&format!("until: expected {}", timestamp::EXPECTED)))?
                .ok_or_else(|| bad("until: expected a time"))?,
            _ => return Err(bad("expected either for (such as \"2h\") or until (a time)")),
        };
        if until_us <= now_us {
            return Err(bad("a silence must end in the future"));
        }
        Ok(Silence {
            name: self.table.to_ascii_lowercase(),
            until_us,
            reason: self.reason.chars().take(MAX_REASON_CHARS).collect(),
        })
    }
}

async fn silence(State(sink): State<Arc<AlertSink>>, body: Body) -> Result<Response, ApiError> {
    let body = read_capped(body, MAX_BODY_BYTES, BODY_TIME).await;
    let body = body.map_err(|error| ApiError::BadRequest(error.to_string()))?;
    let silence = Asked::read(&body)?.silence(timestamp::now_us())?;
    let table = silence.name.clone();
    match sink.ask(move |state| state.silence(silence)).await? {
        Ok(Silenced::Done) => {
            tracing::info!(sink = sink.database.name, table, "alerts are silenced");
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Ok(Silenced::Ahead) => {
            tracing::warn!(
                sink = sink.database.name,
                table,
                "alerts are silenced for a table that has received no events yet: check its name"
            );
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Ok(Silenced::TooMany) => {
            Err(ApiError::BadRequest("too many silences: end one first".to_owned()))
        }
        Err(error) => Err(ApiError::Unavailable { cause: error.to_string() }),
    }
}

async fn end_silence(
    State(sink): State<Arc<AlertSink>>,
    InPath(table): InPath<String>,
) -> Result<StatusCode, ApiError> {
    let name = table.to_ascii_lowercase();
    match sink.ask(move |state| state.end_silence(&name)).await? {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => Err(ApiError::NotFound("no silence of this table".to_owned())),
        Err(error) => Err(ApiError::Unavailable { cause: error.to_string() }),
    }
}
