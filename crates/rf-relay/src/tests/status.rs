//! The status port.

use serde_json::{Value, json};

use super::{AUTH, TestRelay, with_relay};
use crate::store::memory::Fault;

async fn statusz(relay: &TestRelay) -> Value {
    let answer = relay.ask_status("GET /statusz").await;
    let body = answer.strip_prefix("200 OK\ncontent-type: application/json\n\n").unwrap();
    let mut page = serde_json::from_str(body).unwrap();
    blank_times(&mut page);
    page
}

/// Replaces what differs from run to run; "never" is left as it is.
fn blank_times(value: &mut Value) {
    for (key, value) in value.as_object_mut().unwrap() {
        if value.is_object() {
            blank_times(value);
        } else if key == "uptime" {
            assert!(value.as_str().unwrap().ends_with('s'));
            *value = json!("TIME");
        } else if (key == "rxLastMessageDate" || key == "txLastAccess")
            && value != "0001-01-01T00:00:00Z"
        {
            *value = json!("TIME");
        }
    }
}

/// Counts as `(rx messages, rx queries, tx messages, tx queries)`.
fn entry(kind: &str, id: &str, counts: (u64, u64, u64, u64)) -> Value {
    let (rx_messages, rx_queries, tx_messages, tx_queries) = counts;
    let date = |queries| if queries > 0 { "TIME" } else { "0001-01-01T00:00:00Z" };
    json!({
        "kind": kind,
        "id": id,
        "databaseSizeKb": 0,
        "databaseMaxSizeKb": 0,
        "rxMessagesByMinute": rx_messages,
        "lastMinuteRxMessages": 0,
        "rxMessagesSinceStart": rx_messages,
        "rxLastMessageDate": date(rx_queries),
        "rxQueryByMinute": rx_queries,
        "txMessageByMinute": tx_messages,
        "txQueryByMinute": tx_queries,
        "txLastAccess": date(tx_queries),
    })
}

fn bucket(id: &str, counts: (u64, u64, u64, u64), events: u64) -> Value {
    let mut bucket = entry("relay", id, counts);
    bucket["events"] = json!(events);
    bucket["droppedFull"] = json!(0);
    bucket["droppedAge"] = json!(0);
    bucket
}

#[tokio::test]
async fn statusz_has_the_shape_of_the_original() {
    with_relay(async |relay| {
        let empty = json!({
            "uptime": "TIME",
            "buckets": { "a": bucket("a", (0, 0, 0, 0), 0), "b": bucket("b", (0, 0, 0, 0), 0) },
            "envs": {},
            "hostnames": {},
            "nodeInfo": {},
        });
        assert_eq!(statusz(relay).await, empty);

        let from = "RF-ENV-NAME: prod\nRF-HOSTNAME: web-1";
        let batch = format!("POST /record-batch\nRF-BUCKETS: a,b\n{from}\nRF-BATCH-ID: 1\n{AUTH}");
        relay.ask(&batch, r#"["x","y"]"#).await;
        relay.ask(&format!("GET /first\nRF-BUCKET: b\nRF-HOSTNAME: player\n{AUTH}"), "").await;
        let info = r#"{"memoryProcess":5,"statuszInfo":{"deep":[1]}}"#;
        let told = relay.ask(&format!("POST /node-info\nRF-BUCKET: a\n{from}\n{AUTH}"), info).await;
        assert_eq!(told, "200 OK\n\n");

        let page = statusz(relay).await;
        assert_eq!(page["buckets"]["a"], bucket("a", (2, 1, 0, 0), 2));
        assert_eq!(page["buckets"]["b"], bucket("b", (2, 1, 1, 1), 2));
        // A batch counts once for each bucket that it goes to, but a sender sends it once.
        assert_eq!(page["envs"], json!({ "prod": entry("env", "prod", (2, 1, 0, 0)) }));
        let hostnames = json!({
            "web-1": entry("hostname", "web-1", (2, 1, 0, 0)),
            "player": entry("hostname", "player", (0, 0, 1, 1)),
        });
        assert_eq!(page["hostnames"], hostnames);
        assert_eq!(
            page["nodeInfo"],
            json!({ "web-1": serde_json::from_str::<Value>(info).unwrap() })
        );
    })
    .await;
}

#[tokio::test]
async fn a_repeated_batch_is_not_counted_as_received() {
    with_relay(async |relay| {
        let batch =
            format!("POST /record-batch\nRF-BUCKETS: a\nRF-BATCH-ID: 1\nRF-HOSTNAME: h\n{AUTH}");
        relay.ask(&batch, r#"["x"]"#).await;
        relay.ask(&batch, r#"["x"]"#).await;
        let page = statusz(relay).await;
        assert_eq!(page["buckets"]["a"]["rxMessagesSinceStart"], 1);
        assert_eq!(page["hostnames"]["h"]["rxQueryByMinute"], 2);
        assert_eq!(page["hostnames"]["h"]["rxMessagesSinceStart"], 1);
    })
    .await;
}

#[tokio::test]
async fn node_info_is_an_object_of_a_named_host() {
    with_relay(async |relay| {
        let tell = async |headers: &str, info: &str| {
            relay.ask(&format!("POST /node-info\nRF-BUCKET: a\n{headers}\n{AUTH}"), info).await
        };
        let nameless = tell("X: y", "{}").await;
        assert!(
            nameless.starts_with("400 ") && nameless.contains("RF-HOSTNAME is missing"),
            "{nameless}"
        );
        let list = tell("RF-HOSTNAME: h", "[1]").await;
        assert!(list.starts_with("400 ") && list.contains("expected a JSON object"), "{list}");
        let broken = tell("RF-HOSTNAME: h", "{").await;
        assert!(broken.starts_with("400 ") && broken.contains("line 1 column 1"), "{broken}");
        let large = tell("RF-HOSTNAME: h", &format!("{{\"x\":\"{}\"}}", "x".repeat(300_000))).await;
        assert!(large.starts_with("413 "), "{large}");
        assert_eq!(statusz(relay).await["nodeInfo"], json!({}));
    })
    .await;
}

#[tokio::test]
async fn healthz_and_any_other_path() {
    with_relay(async |relay| {
        let ok = "200 OK\ncontent-type: text/plain\n\nok";
        for request in ["GET /healthz", "GET /", "POST /record-batch", "GET /any/other?path"] {
            assert_eq!(relay.ask_status(request).await, ok);
        }
        relay.memory.break_bucket("b", Fault::Broken);
        let failed =
            "503 Service Unavailable\ncontent-type: text/plain\n\nbuckets that cannot be opened: b";
        assert_eq!(relay.ask_status("GET /healthz").await, failed);
    })
    .await;
}
