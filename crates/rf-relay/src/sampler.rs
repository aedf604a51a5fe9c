//! What the relay does for its status now and then: charts get their points, and what was counted is kept on disk.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rf_core::clock::{unix_ms, unix_secs};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::alerts::Alerts;
use crate::persistence::{Kept, StatusFile};
use crate::report::RelayView;

/// How often it is looked whether a chart's point is due.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// What a kill costs of the statistics, at most.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// What is kept, and where.
pub(crate) struct Sampler {
    pub(crate) view: Arc<RelayView>,
    pub(crate) alerts: Arc<Alerts>,
    pub(crate) status_file: StatusFile,
}

impl Sampler {
    /// Runs until `stop`. Who stops the relay calls [`Sampler::keep`] once more when nothing is counted any longer.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<(), Infallible> {
        let mut ticks = tokio::time::interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut kept_at = Instant::now();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return Ok(()),
            }
            let losses_for = self.view.thresholds.losses_for;
            self.view.stats.sample(&self.view.usages(), unix_secs(), losses_for);
            if kept_at.elapsed() >= KEEP_EVERY {
                kept_at = Instant::now();
                self.keep().await;
            }
        }
    }

    /// Writes what was counted to disk.
    pub(crate) async fn keep(self: &Arc<Self>) {
        let sampler = Arc::clone(self);
        let saved = tokio::task::spawn_blocking(move || {
            let view = &sampler.view;
            // Before the rest is looked at: what is heard meanwhile is newer, and not taken for silence.
            let noted_at_ms = unix_ms();
            let usages: HashMap<_, _> = view.usages().into_iter().collect();
            let stats = view.stats.to_tables(|name| usages.get(name).cloned());
            let (absences, nodes) = (view.absences.clone(), view.nodes.kept());
            let kept = Kept::new(noted_at_ms, absences, stats, nodes, sampler.alerts.kept());
            sampler.status_file.save(&kept);
        });
        if let Err(error) = saved.await {
            tracing::error!(%error, "statistics could not be saved");
        }
    }
}
