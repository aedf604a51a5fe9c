//! The agent's one store: what its file may take, how durable it is, and how much it hurries.

use std::path::PathBuf;

use rf_queue::{Durability, MAX_STORE_BYTES, MIN_STORE_BYTES, QueueOptions, StoreOptions};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::agent::{PlannedSink, PlannedSource};
use crate::script::letters_queue;
use crate::source::{COPIES_NICENESS, HoldsUp};

/// Two batches on their way and the rest of their segments: so their pages are read once, and not again when they leave.
const CACHE_BYTES: u32 = 4 * 1024 * 1024;

/// `durability`.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DurabilityConfig {
    /// What was acknowledged survives loss of power.
    #[default]
    Commit,
    /// What was acknowledged survives a killed process, not a loss of power.
    Process,
}

impl From<DurabilityConfig> for Durability {
    fn from(config: DurabilityConfig) -> Self {
        match config {
            DurabilityConfig::Commit => Self::Commit,
            DurabilityConfig::Process => Self::Process,
        }
    }
}

/// The agent's one store: its files may take what the buffers of all sinks add up to.
pub(crate) fn store_options(
    path: PathBuf,
    durability: DurabilityConfig,
    sinks: &[PlannedSink],
    sources: &[PlannedSource],
) -> StoreOptions {
    let mut queues: Vec<QueueOptions> = sinks.iter().map(|sink| sink.queue.clone()).collect();
    let max_bytes = queues.iter().filter_map(|queue| queue.max_bytes).fold(0, u64::saturating_add);
    let max_bytes = max_bytes.min(MAX_STORE_BYTES);
    // Letters of scripts that are retried: rare, so they get no room of their own, only what the store has left.
    queues.extend(sources.iter().filter(|source| source.script.is_some()).map(|source| {
        QueueOptions { max_bytes: Some(max_bytes), ..QueueOptions::new(letters_queue(&source.id)) }
    }));
    let mut options = StoreOptions::new(path, max_bytes.max(MIN_STORE_BYTES), queues);
    options.durability = durability.into();
    options.cache_bytes = CACHE_BYTES;
    options.niceness = niceness(sources.iter().map(|source| source.source.holds_up()));
    options
}

/// The store gives way to traffic that passes through this process, unless clients wait for it.
fn niceness(held_up: impl Iterator<Item = HoldsUp>) -> i32 {
    let held_up: Vec<HoldsUp> = held_up.collect();
    let gives_way = held_up.contains(&HoldsUp::PassingTraffic)
        && !held_up.contains(&HoldsUp::ClientsUntilStored);
    if gives_way { COPIES_NICENESS } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_gives_way_to_traffic_unless_clients_wait_for_it() {
        use HoldsUp::{ClientsUntilStored, Nobody, PassingTraffic};
        let check = |held_up: &[HoldsUp], expected| {
            assert_eq!(niceness(held_up.iter().copied()), expected, "{held_up:?}");
        };
        check(&[], 0);
        check(&[Nobody], 0);
        check(&[PassingTraffic, Nobody], COPIES_NICENESS);
        check(&[PassingTraffic, ClientsUntilStored], 0);
    }
}
