//! `/healthz` and `/readyz`: whether the relay works, and whether somebody comes for its events.

use rf_core::clock::unix_ms;
use rf_queue::StoreTrouble;

use super::*;
use crate::store::Usage;

#[tokio::test]
async fn healthz_and_any_other_path() {
    with_relay(async |relay| {
        let ok = "200 OK\ncontent-type: text/plain\n\nok";
        for request in ["GET /", "GET /any/other?path"] {
            assert_eq!(relay.ask_status(request).await, ok);
        }
        // A proxy whose `url` is this port keeps its events.
        let refused = relay.ask_status("POST /record-batch").await;
        assert!(
            refused.starts_with("405 Method Not Allowed\n") && refused.contains("at its `port`"),
            "{refused}"
        );
        let ok = "200 OK\ncontent-type: text/plain\ncache-control: no-store\n\nok";
        assert_eq!(relay.ask_status("GET /healthz").await, ok);
        assert_eq!(relay.ask_status("GET /readyz").await, ok);
        relay.memory.break_bucket("b", Fault::Broken);
        let failed = relay.ask_status("GET /healthz").await;
        assert!(
            failed.starts_with("503 ") && failed.ends_with("\n\nbuckets that cannot be opened: b"),
            "{failed}"
        );
    })
    .await;
}

#[tokio::test]
async fn readyz_tells_a_reader_that_is_gone_from_one_that_is_slow() {
    with_relay(async |relay| {
        relay.record(r#"["x"]"#).await;
        let old = Usage { oldest_at_ms: Some(unix_ms() - 3_600_000), ..Usage::default() };
        relay.memory.set_usage("a", old);
        let stuck = relay.ask_status("GET /readyz").await;
        assert!(stuck.starts_with("503 "), "{stuck}");
        let why = "bucket a: its oldest event has waited for 60 min; nobody has ever asked for it";
        assert!(stuck.ends_with(why), "{stuck}");
        relay.pull("a").await;
        assert!(relay.ask_status("GET /readyz").await.starts_with("200 OK"));
        assert!(relay.ask_status("GET /healthz").await.starts_with("200 OK"));
    })
    .await;
}

#[tokio::test]
async fn a_bucket_on_a_full_disk_is_told_everywhere() {
    with_relay(async |relay| {
        relay.memory.break_bucket("a", Fault::DiskFull);
        let trouble =
            StoreTrouble { since_ms: unix_ms() - 300_000, text: "the disk is full".to_owned() };
        relay.memory.set_usage("a", Usage { trouble: Some(trouble), ..Usage::default() });
        let head = format!("POST /record-batch\nRF-BUCKETS: a,b\n{AUTH}");
        let refused = relay.ask(&head, r#"["x"]"#).await;
        assert!(refused.starts_with("429 ") && refused.contains("retry-after: 1"), "{refused}");
        assert!(refused.contains("the relay's disk accepts no writes now: a"), "{refused}");

        let ready = relay.ask_status("GET /readyz").await;
        assert!(ready.starts_with("503 "), "{ready}");
        let why = "bucket a: its database does not work: the disk is full (for 5 min)";
        assert!(ready.ends_with(why), "{ready}");
        assert!(relay.ask_status("GET /healthz").await.starts_with("200 OK"));
        let report = whole_statusz(relay, "").await["report"].clone();
        let bucket = &report["buckets"][0];
        assert_eq!((&report["level"], &bucket["refused"]), (&json!("bad"), &json!(0)));
        assert_eq!(bucket["why"][0]["key"], "disk");
        assert!(report["disk"]["total"].as_u64() > Some(0), "{report}");
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_waits_is_known_before_its_first_answer() {
    with_relay(async |relay| {
        let old = Usage { oldest_at_ms: Some(unix_ms() - 3_600_000), ..Usage::default() };
        relay.memory.set_usage("a", old);
        let look = async {
            relay.memory.somebody_watches("a").await;
            let ready = relay.ask_status("GET /readyz").await;
            relay.stop.cancel();
            ready
        };
        let head = format!("GET /first-batch?wait=1m\nRF-BUCKET: a\n{AUTH}");
        let wait = relay.ask(&head, "");
        let (_, ready) = tokio::join!(wait, look);
        assert!(ready.contains("has waited for 60 min; last asked for"), "{ready}");
    })
    .await;
}
