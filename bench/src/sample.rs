//! The events that the relay benchmarks use: captured webhooks of exactly [`EVENT_BYTES`] bytes, no two alike.
//!
//! Both sides of a comparison insert these same rows. They are a template with random ids and a random half, so that
//! zstd finds about as much in them as in real traffic (a factor of 3) and not the factor of 100 of a repeated line.

use std::fmt::Write;

use bytes::Bytes;
use fastrand::Rng;

/// Bytes of one event.
pub(crate) const EVENT_BYTES: usize = 700;

/// Events of one batch.
pub(crate) const BATCH_EVENTS: usize = 1000;

/// Different batches that a run sends or inserts in turn: enough that none is still in a processor cache.
pub(crate) const DISTINCT_BATCHES: usize = 16;

/// The same events in every run, so that rounds can be compared.
const SEED: u64 = 17;

/// zstd level of an agent's batches.
const ZSTD_LEVEL: i32 = 1;

/// One batch, event by event.
pub(crate) type Batch = Vec<String>;

/// The [`DISTINCT_BATCHES`] batches of a run.
pub(crate) fn batches() -> Vec<Batch> {
    let mut rng = Rng::with_seed(SEED);
    (0..DISTINCT_BATCHES).map(|_| (0..BATCH_EVENTS).map(|_| event(&mut rng)).collect()).collect()
}

/// A batch as the body of `POST /record-batch` with `Content-Encoding: zstd`.
pub(crate) fn zstd_body(batch: &Batch) -> anyhow::Result<Bytes> {
    Ok(zstd::encode_all(serde_json::to_vec(batch)?.as_slice(), ZSTD_LEVEL)?.into())
}

fn event(rng: &mut Rng) -> String {
    let id = rng.u64(..);
    let mut event = format!(
        r#"{{"ip":"203.0.113.{}:{}","method":"POST","path":"/hooks/orders","params":{{"shop":["{}"]}},"headers":{{"Content-Type":["application/json"],"User-Agent":["webhooks/2.1"],"X-Delivery":["{id:016x}"]}},"body":"{{\"event\":\"order.created\",\"id\":{id},\"digest\":\""#,
        rng.u8(..),
        rng.u16(1024..),
        rng.u16(..),
    );
    const END: &str = r#"\"}"}"#;
    while event.len() + END.len() < EVENT_BYTES {
        // A write to a String cannot fail.
        write!(event, "{:x}", rng.u8(..16)).expect("a String takes every write");
    }
    event.push_str(END);
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_their_size_and_are_json_within_json() {
        for event in batches().iter().flatten() {
            assert_eq!(event.len(), EVENT_BYTES);
        }
        let first: serde_json::Value = serde_json::from_str(&batches()[0][0]).unwrap();
        let body: serde_json::Value =
            serde_json::from_str(first["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["event"], "order.created");
    }

    #[test]
    fn no_event_repeats_and_compression_stays_honest() {
        let batches = batches();
        let distinct: std::collections::HashSet<&String> = batches.iter().flatten().collect();
        assert_eq!(distinct.len(), DISTINCT_BATCHES * BATCH_EVENTS);
        let compressed = zstd_body(&batches[0]).unwrap().len();
        let ratio = BATCH_EVENTS * EVENT_BYTES / compressed;
        assert!((2..=5).contains(&ratio), "zstd makes it {ratio} times smaller");
    }
}
