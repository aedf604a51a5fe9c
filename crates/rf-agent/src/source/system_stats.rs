//! `system-stats`: numbers of this machine, at an interval; an event for each series.
//!
//! Promise: a sample reads a few small files of `/proc`, on a thread for blocking work, and never one that could hang (a
//! network file system). While a queue is full a sample waits, and those that come due meanwhile are not taken.

mod proc;
mod wildcard;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rf_core::clock::unix_secs;
use rf_core::config::{Interval, Node, Problems, schema_of};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::proc::Sampler;
use super::hand_over::{HandOver, HandedOver};
use super::local_event::json_event;
use super::{Source, SourceContext, SourceError};
use crate::pipeline::Output;
use crate::settings::not_zero;

/// `params` of a `system-stats` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SystemStatsSourceConfig {
    /// Time from one sample to the next.
    #[serde(default = "default_interval")]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub(crate) interval_seconds: Interval,
    /// Only series of these names; `*` stands for anything.
    #[serde(default = "all_series")]
    pub(crate) include: Vec<String>,
    /// No series of these names; `*` stands for anything.
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
}

fn default_interval() -> Interval {
    Interval::from_secs(60)
}

fn all_series() -> Vec<String> {
    vec!["*".to_owned()]
}

/// JSON Schema of [`SystemStatsSourceConfig`].
pub(super) fn schema() -> Schema {
    schema_of::<SystemStatsSourceConfig>()
}

/// Checks the configuration and makes the source.
pub(super) fn build(
    context: &SourceContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Box<dyn Source>> {
    let config: SystemStatsSourceConfig = params.decode(problems)?;
    not_zero(params, &[("intervalSeconds", config.interval_seconds)], problems);
    let interval = Duration::from(config.interval_seconds);
    Some(Box::new(SystemStats {
        id: context.id.to_owned(),
        path: path_of(interval),
        interval,
        env_name: context.env_name.to_owned(),
        host_name: context.host_name.to_owned(),
        include: config.include,
        exclude: config.exclude,
    }))
}

/// The table that a time series is to have for samples at this interval. Its own intervals are of whole seconds, and with the
/// next longer one each of them has a sample.
fn path_of(interval: Duration) -> String {
    let seconds = interval.as_secs() + u64::from(interval.subsec_nanos() > 0);
    format!("ts_gauge_systemstats_{seconds}s")
}

struct SystemStats {
    id: String,
    path: String,
    interval: Duration,
    env_name: String,
    host_name: String,
    include: Vec<String>,
    exclude: Vec<String>,
}

impl Source for SystemStats {
    fn run(
        self: Box<Self>,
        out: Output,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let sampler = Arc::new(Mutex::new(Sampler::default()));
            let mut due = interval(self.interval);
            due.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let hand_over = HandOver::new(&self.id, &out, &stop).losing("values");
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    _ = due.tick() => {}
                }
                let events = self.sample(&sampler).await?;
                if let HandedOver::Stopped(_) = hand_over.store(events).await {
                    return Ok(());
                }
            }
        })
    }
}

impl SystemStats {
    async fn sample(&self, sampler: &Arc<Mutex<Sampler>>) -> Result<Vec<Bytes>, SourceError> {
        let sampler = Arc::clone(sampler);
        // Never locked by two: the next sample begins after this one.
        let sampling = tokio::task::spawn_blocking(move || sampler.lock().sample());
        let series = sampling.await.map_err(|error| SourceError {
            id: self.id.clone(),
            reason: format!("sampling: {error}"),
        })?;
        let now_secs = unix_secs();
        let wanted = series.iter().filter(|(name, _)| self.is_wanted(name));
        Ok(wanted.map(|(name, value)| self.event(name, *value, now_secs)).collect())
    }

    fn is_wanted(&self, name: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|p| wildcard::matches(p, name));
        any(&self.include) && !any(&self.exclude)
    }

    fn event(&self, name: &str, value: f64, unix: u64) -> Bytes {
        let body = json!({
            "timestamp": unix,
            "envName": self.env_name,
            "hostName": self.host_name,
            "serieName": name,
            "value": number(value),
            "id": format!("{name}{unix}"),
        });
        json_event(&self.path, &body)
    }
}

/// A whole number as such, as the original writes it.
fn number(value: f64) -> Value {
    /// Beyond it not every whole number is a double.
    const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < MAX_WHOLE {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and within the bound")]
        let whole = value as i64;
        return whole.into();
    }
    value.into()
}

#[cfg(test)]
mod tests;
