//! The heartbeat: a call to an address elsewhere, now and then, so that somebody notices when this relay is gone.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rf_core::config::Secret;
use rf_net::client::Client;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::report::RelayView;

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Calls `url` each `every` until `stop`, as long as all buckets work.
pub(crate) async fn beat(
    view: Arc<RelayView>,
    url: Secret,
    every: Duration,
    client: Client,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return Ok(()),
        }
        let usages = view.usages();
        if usages.iter().any(|(_, usage)| usage.failure.is_some()) {
            tracing::warn!("no heartbeat: a bucket cannot be opened");
            continue;
        }
        if usages.iter().any(|(_, usage)| usage.trouble.is_some()) {
            tracing::warn!("no heartbeat: the database of a bucket does not work");
            continue;
        }
        tokio::select! {
            () = call(&url, &client) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

async fn call(url: &Secret, client: &Client) {
    // The address was checked with the configuration.
    let Ok(request) = Request::get(url.expose()).body(Full::new(Bytes::new())) else { return };
    match client.send(request, TIMEOUT).await {
        Ok(answer) if answer.status().is_success() => {}
        Ok(answer) => tracing::warn!(status = %answer.status(), "the heartbeat is refused"),
        Err(error) => tracing::warn!(%error, "the heartbeat cannot be delivered"),
    }
}
