//! `/healthz`: is it alive. `/readyz`: do events move.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use rf_core::clock::unix_ms;

use super::{NO_STORE, PLAIN, StatusPort};

/// Why the relay is not alive, if it is not: buckets that cannot be opened.
pub(super) fn broken(port: &StatusPort) -> Option<String> {
    let usages = port.view.usages();
    let failed: Vec<&str> = usages
        .iter()
        .filter(|(_, usage)| usage.failure.is_some())
        .map(|(name, _)| name.as_str())
        .collect();
    (!failed.is_empty()).then(|| format!("buckets that cannot be opened: {}", failed.join(", ")))
}

/// Why events do not move, if they do not: a bucket that cannot be opened, or whose database does not work, as on a full disk;
/// or one whose oldest event is older than `alerts.oldestEvent` while nobody takes any. A slow reader is none of that.
pub(super) fn stuck(port: &StatusPort) -> Option<String> {
    let mut stuck = Vec::new();
    for bucket in port.view.bucket_reports(unix_ms()) {
        let is_stuck = |key: &str| match key {
            "unavailable" | "disk" => true,
            "oldest" => bucket.tx_per_minute == 0,
            _ => false,
        };
        let why = bucket.why.iter().filter(|why| is_stuck(&why.key));
        stuck.extend(why.map(|why| format!("bucket {}: {}", bucket.name, why.text)));
    }
    (!stuck.is_empty()).then(|| stuck.join("\n"))
}

/// `ok`, or 503 and the reason for who may know it.
pub(super) fn answer(reason: Option<String>, may_know: bool) -> Response {
    match reason {
        None => ([PLAIN, NO_STORE], "ok").into_response(),
        Some(reason) => {
            let text = if may_know { reason } else { "not ok".to_owned() };
            (StatusCode::SERVICE_UNAVAILABLE, [PLAIN, NO_STORE], text).into_response()
        }
    }
}
