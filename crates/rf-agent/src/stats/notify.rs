//! systemd: ready, stopping, and a watchdog that is fed as long as the queue's database answers.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use super::health::is_alive;
use super::sight::Sight;

/// Looks whether a watchdog waits, when none does.
const NO_WATCHDOG: Duration = Duration::from_secs(3600);

/// Tells systemd that the agent has started, then feeds its watchdog twice in each period until `stop`. Without systemd
/// nothing happens.
pub(crate) async fn notify_systemd(sight: Arc<Sight>, stop: CancellationToken) {
    notify(&[NotifyState::Ready]);
    let period = sd_notify::watchdog_enabled();
    let pause = period.map_or(NO_WATCHDOG, |period| period / 2);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
        if period.is_some() && is_alive(&sight).await {
            notify(&[NotifyState::Watchdog]);
        }
    }
    notify(&[NotifyState::Stopping]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd cannot be notified");
    }
}
