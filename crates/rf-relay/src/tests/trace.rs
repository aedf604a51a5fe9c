//! What the relay tells of one event.

use std::sync::Arc;
use std::time::Duration;

use rf_core::config::Secret;
use rf_core::trace::{Step, TraceReport};
use rf_queue::MIN_STORE_BYTES;
use serde_json::json;
use tempfile::TempDir;

use super::{AUTH, TestRelay, with_config, with_embedded, with_relay};
use crate::config::{RelayConfig, WhenFull};
use crate::store::Usage;
use crate::store::memory::Fault;

const ID: &str = "0198c0de-0000-7000-8000-000000000001";
const OTHER: &str = "0198c0de-0000-7000-8000-000000000002";

fn event(id: &str, body: &str) -> String {
    json!({"body": body, "eventId": id, "capturedAtUs": 1_795_478_400_000_123_u64}).to_string()
}

async fn record(relay: &TestRelay, buckets: &str, batch: &str, events: &[String]) -> String {
    let head = format!(
        "POST /record-batch\nRF-BUCKETS: {buckets}\nRF-HOSTNAME: web-1\nRF-BATCH-ID: {batch}\n{AUTH}"
    );
    relay.ask(&head, json!(events).to_string()).await
}

async fn trace(relay: &TestRelay, id: &str) -> TraceReport {
    let answer = relay.ask_status(&format!("GET /trace/{id}")).await;
    let (head, body) = answer.split_once("\n\n").unwrap();
    assert!(head.starts_with("200 OK") && head.contains("no-store"), "{head}");
    assert!(!body.contains("the body"), "a payload in {body}");
    serde_json::from_str(body).unwrap()
}

/// Steps as `(step, place, attempt, detail)`.
fn steps(report: &TraceReport) -> Vec<(Step, &str, u32, &str)> {
    let mut steps = Vec::new();
    for passed in &report.steps {
        let detail = passed.detail.as_deref().unwrap_or_default();
        steps.push((passed.step, passed.place.as_str(), passed.attempt, detail));
    }
    steps
}

#[tokio::test]
async fn an_event_is_told_from_its_arrival_to_its_pull() {
    with_relay(async |relay| {
        let events = [event(OTHER, "the body"), event(ID, "the body"), "a line".to_owned()];
        assert!(record(relay, "a,b", "1", &events).await.starts_with("200"));
        assert!(record(relay, "a", "1", &events).await.starts_with("200"));
        let head = "GET /first-batch?lease=30s&holder=h\nRF-BUCKET: a\nRF-HOSTNAME: home";
        relay.ask(&format!("{head}\n{AUTH}"), "").await;
        let report = trace(relay, ID).await;
        assert_eq!(
            steps(&report),
            [
                (Step::Stored, "a", 0, "from web-1, batch 1"),
                (Step::Stored, "b", 0, "from web-1, batch 1"),
                (Step::Repeated, "a", 0, "from web-1, batch 1"),
                (Step::Pulled, "a", 1, "by home"),
            ]
        );
        let waiting: Vec<_> =
            report.waiting.iter().map(|at| (at.place.as_str(), at.number)).collect();
        assert_eq!(waiting, [("a", 2), ("b", 2)]);
        assert_eq!((report.role.as_str(), report.unsearched.len()), ("relay", 0));
        let unknown = trace(relay, "0198c0de-0000-7000-8000-000000000009").await;
        assert!(!unknown.is_known() && unknown.journal == report.journal);
    })
    .await;
}

#[tokio::test]
async fn what_one_of_two_buckets_took_is_told_though_the_batch_is_refused() {
    with_relay(async |relay| {
        relay.memory.break_bucket("b", Fault::Full);
        assert!(record(relay, "a,b", "1", &[event(ID, "x")]).await.starts_with("429"));
        let report = trace(relay, ID).await;
        assert_eq!(steps(&report), [(Step::Stored, "a", 0, "from web-1, batch 1")]);
    })
    .await;
}

#[tokio::test]
async fn a_bucket_that_is_not_open_may_hold_the_event() {
    with_relay(async |relay| {
        let closed = Usage { is_closed: true, ..Usage::default() };
        relay.memory.set_usage("b", closed);
        assert!(record(relay, "a", "1", &[event(ID, "x")]).await.starts_with("200"));
        let report = trace(relay, ID).await;
        assert_eq!(
            (report.waiting.len(), &report.unsearched[..]),
            (1, &["bucket b: it is not open".to_owned()][..])
        );
    })
    .await;
}

#[tokio::test]
async fn who_may_not_see_the_status_may_not_trace_and_an_id_is_an_id() {
    let change = |config: &mut RelayConfig| config.status_auth = Some(Secret::new("secret"));
    with_config(change, async |relay| {
        let answer = relay.ask_status(&format!("GET /trace/{ID}")).await;
        assert!(answer.starts_with("401"), "{answer}");
        let answer = relay.ask_status("GET /trace/x\nAuthorization: Bearer secret").await;
        assert!(answer.starts_with("400") && answer.contains("not the id of an event"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn what_a_bucket_drops_is_told_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let mut config = RelayConfig::for_tests(folder.path(), &["a", "b"]);
    for (name, bucket) in &mut config.buckets {
        match name.as_str() {
            "a" => bucket.ttl = Some(Duration::from_millis(50)),
            _ => bucket.when_full = WhenFull::DropOldest,
        }
        assert_eq!(bucket.max_bytes, MIN_STORE_BYTES);
    }
    let filler = Arc::new("x".repeat(100_000));
    with_embedded(config, async |relay| {
        assert!(record(relay, "a,b", "0", &[event(ID, "x")]).await.starts_with("200"));
        for batch in 1..30 {
            let events = [event(OTHER, &filler)];
            assert!(record(relay, "b", &batch.to_string(), &events).await.starts_with("200"));
        }
        let mut dropped = Vec::new();
        while dropped.len() < 2 {
            let report = trace(relay, ID).await;
            let told = report.steps.into_iter().filter(|passed| passed.step == Step::Dropped);
            dropped = told.map(|passed| (passed.place, passed.detail.unwrap())).collect();
            dropped.sort();
        }
        let expected = [
            ("a", "it waited longer than ttlSecs"),
            ("b", "the bucket was full (whenFull: dropOldest)"),
        ];
        assert_eq!(dropped, expected.map(|(place, why)| (place.to_owned(), why.to_owned())));
    })
    .await;
}
