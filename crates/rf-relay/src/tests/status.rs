//! The status port: what is counted, and for whom it is shown.

mod health;
mod nodes;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rf_core::clock::unix_secs;
use rf_core::config::Secret;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{AUTH, TestRelay, with_config, with_embedded, with_relay};
use crate::bucket::BucketName;
use crate::config::RelayConfig;
use crate::store::BucketStore;
use crate::store::memory::Fault;

async fn statusz(relay: &TestRelay) -> Value {
    let mut page = whole_statusz(relay, "").await;
    page.as_object_mut().unwrap().remove("report");
    blank_times(&mut page);
    page
}

/// The page with our report. Each time the question is another one: where the processor is slow, an answer may have taken so
/// long that it is kept for who asks the same.
async fn whole_statusz(relay: &TestRelay, query: &str) -> Value {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let number = ASKED.fetch_add(1, Ordering::Relaxed);
    let separator = if query.is_empty() { '?' } else { '&' };
    let answer = relay.ask_status(&format!("GET /statusz{query}{separator}asked={number}")).await;
    let head = "200 OK\ncontent-type: application/json\ncache-control: no-store\n\n";
    serde_json::from_str(answer.strip_prefix(head).unwrap()).unwrap()
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
    bucket["droppedDamaged"] = json!(0);
    bucket
}

/// The page of a relay after `script`. Counts of the minute begin anew when the next one does, so a run in which that happened
/// is none: it is done again, with another relay.
async fn statusz_within_a_minute(script: impl AsyncFn(&TestRelay)) -> Value {
    let minute = || unix_secs() / 60;
    loop {
        let (begun, mut page) = (minute(), Value::Null);
        with_relay(async |relay| {
            script(relay).await;
            page = statusz(relay).await;
        })
        .await;
        if minute() == begun {
            return page;
        }
    }
}

#[tokio::test]
async fn statusz_has_the_shape_of_the_original() {
    let info = r#"{"memoryProcess":5,"statuszInfo":{"deep":[1]}}"#;
    let page = statusz_within_a_minute(async |relay| {
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
        let told = relay.ask(&format!("POST /node-info\nRF-BUCKET: a\n{from}\n{AUTH}"), info).await;
        assert_eq!(told, "200 OK\n\n");
    })
    .await;
    assert_eq!(page["buckets"]["a"], bucket("a", (2, 1, 0, 0), 2));
    assert_eq!(page["buckets"]["b"], bucket("b", (2, 1, 1, 1), 2));
    // A batch counts once for each bucket that it goes to, but a sender sends it once.
    assert_eq!(page["envs"], json!({ "prod": entry("env", "prod", (2, 1, 0, 0)) }));
    let hostnames = json!({
        "web-1": entry("hostname", "web-1", (2, 1, 0, 0)),
        "player": entry("hostname", "player", (0, 0, 1, 1)),
    });
    assert_eq!(page["hostnames"], hostnames);
    let expected = json!({ "web-1": serde_json::from_str::<Value>(info).unwrap() });
    assert_eq!(page["nodeInfo"], expected);
}

#[tokio::test]
async fn a_repeated_batch_is_not_counted_as_received() {
    let page = statusz_within_a_minute(async |relay| {
        let batch =
            format!("POST /record-batch\nRF-BUCKETS: a\nRF-BATCH-ID: 1\nRF-HOSTNAME: h\n{AUTH}");
        relay.ask(&batch, r#"["x"]"#).await;
        relay.ask(&batch, r#"["x"]"#).await;
    })
    .await;
    assert_eq!(page["buckets"]["a"]["rxMessagesSinceStart"], 1);
    assert_eq!(page["hostnames"]["h"]["rxQueryByMinute"], 2);
    assert_eq!(page["hostnames"]["h"]["rxMessagesSinceStart"], 1);
}

#[tokio::test]
async fn a_batch_whose_sender_left_while_it_was_stored_is_counted_with_its_repeat() {
    with_relay(async |relay| {
        let head = format!("POST /record-batch\nRF-BUCKETS: a\nRF-BATCH-ID: 1\n{AUTH}");
        let repeat = async || {
            assert!(relay.ask(&head, r#"["x","y"]"#).await.starts_with("200 "));
        };
        let received =
            async || statusz(relay).await["buckets"]["a"]["rxMessagesSinceStart"].clone();
        relay.memory.break_bucket("a", Fault::Unanswered);
        let bucket = BucketName::new("a").unwrap();
        let stored = async {
            while relay.memory.usage(&bucket).events == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = repeat() => panic!("nobody answers"),
            () = stored => {}
        }
        relay.memory.break_bucket("a", None);
        assert_eq!(received().await, 0);
        // The relay may notice only after the first repeat that the sender has left.
        let counted = async {
            while received().await == 0 {
                repeat().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), counted).await.expect("it is counted");
        repeat().await;
        assert_eq!(received().await, 2);
        assert_eq!(relay.memory.usage(&bucket).events, 2);
    })
    .await;
}

#[tokio::test]
async fn what_one_bucket_has_stored_of_a_refused_batch_is_counted_there_and_once() {
    with_relay(async |relay| {
        let batch =
            format!("POST /record-batch\nRF-BUCKETS: a,b\nRF-BATCH-ID: 1\nRF-HOSTNAME: h\n{AUTH}");
        let received = async || {
            let page = statusz(relay).await;
            let entries = [&page["buckets"]["a"], &page["buckets"]["b"], &page["hostnames"]["h"]];
            entries.map(|entry| entry["rxMessagesSinceStart"].clone())
        };
        relay.memory.break_bucket("b", Fault::Full);
        assert!(relay.ask(&batch, r#"["x"]"#).await.starts_with("429 "));
        assert_eq!(received().await, [json!(1), json!(0), json!(null)]);
        relay.memory.break_bucket("b", None);
        assert!(relay.ask(&batch, r#"["x"]"#).await.starts_with("200 "));
        assert_eq!(received().await, [json!(1), json!(1), json!(1)]);
    })
    .await;
}

#[tokio::test]
async fn names_of_hosts_and_environments_may_have_any_letters() {
    with_relay(async |relay| {
        let from = "RF-ENV-NAME: pröd\nRF-HOSTNAME: büro";
        relay.ask(&format!("POST /record\nRF-BUCKET: a\n{from}\n{AUTH}"), "x").await;
        let told = relay.ask(&format!("POST /node-info\nRF-BUCKET: a\n{from}\n{AUTH}"), "{}").await;
        assert_eq!(told, "200 OK\n\n");
        let page = whole_statusz(relay, "").await;
        assert_eq!(page["envs"]["pröd"]["rxMessagesSinceStart"], 1);
        assert_eq!(page["hostnames"]["büro"]["rxMessagesSinceStart"], 1);
        assert_eq!(page["nodeInfo"], json!({ "büro": {} }));
        assert_eq!(page["report"]["nodes"][0]["host"], "büro");
    })
    .await;
}

#[tokio::test]
async fn a_filter_leaves_one_entry() {
    with_relay(async |relay| {
        let from = "RF-ENV-NAME: prod\nRF-HOSTNAME: web-1";
        relay.ask(&format!("POST /record\nRF-BUCKET: a\n{from}\n{AUTH}"), "x").await;
        relay.ask(&format!("POST /record\nRF-BUCKET: a\nRF-HOSTNAME: web-2\n{AUTH}"), "x").await;
        let names = |page: &Value, table: &str| -> Vec<String> {
            page[table].as_object().unwrap().keys().cloned().collect()
        };
        let page = whole_statusz(relay, "?bucket=a&hostname=web-1").await;
        assert_eq!(names(&page, "buckets"), ["a"]);
        assert_eq!(names(&page, "hostnames"), ["web-1"]);
        assert_eq!(names(&page, "envs"), ["prod"]);
        let (buckets, nodes) = (&page["report"]["buckets"], &page["report"]["nodes"]);
        assert_eq!((buckets.as_array().unwrap().len(), nodes.as_array().unwrap().len()), (1, 1));
        let page = whole_statusz(relay, "?env=none&bucket=%zz").await;
        assert_eq!((names(&page, "envs").len(), names(&page, "hostnames").len()), (0, 2));
    })
    .await;
}

#[tokio::test]
async fn with_a_token_nothing_is_told_without_it() {
    let auth = |config: &mut RelayConfig| config.status_auth = Some(Secret::new("s3cret"));
    with_config(auth, async |relay| {
        let basic = |pair: &str| {
            format!("GET /statusz\nAuthorization: Basic {}", BASE64_STANDARD.encode(pair))
        };
        for refused in [
            "GET /statusz".to_owned(),
            "GET /statusz\nAuthorization: Bearer wrong".to_owned(),
            "GET /statusz\nAuthorization: Bearer".to_owned(),
            "GET /statusz\nAuthorization: Basic !".to_owned(),
            basic("s3cret"),
            basic("s3cret:"),
        ] {
            let answer = relay.ask_status(&refused).await;
            assert!(
                answer.starts_with("401 ") && answer.contains("www-authenticate: Basic"),
                "{answer}"
            );
        }
        for let_in in
            ["GET /statusz\nAuthorization: bearer s3cret".to_owned(), basic("anybody:s3cret")]
        {
            assert!(relay.ask_status(&let_in).await.starts_with("200 OK"), "{let_in}");
        }
        relay.memory.break_bucket("b", Fault::Broken);
        assert!(relay.ask_status("GET /healthz").await.ends_with("\n\nnot ok"));
        let known = relay.ask_status("GET /healthz\nAuthorization: Bearer s3cret").await;
        assert!(known.ends_with("opened: b"), "{known}");
        assert!(relay.ask_status("GET /").await.ends_with("\n\nok"));
    })
    .await;
}

#[tokio::test]
async fn the_token_of_the_status_may_have_any_letters() {
    let auth = |config: &mut RelayConfig| config.status_auth = Some(Secret::new("schlüssel"));
    with_config(auth, async |relay| {
        let basic = BASE64_STANDARD.encode(":schlüssel");
        for shown in ["Bearer schlüssel", &format!("Basic {basic}")] {
            let answer = relay.ask_status(&format!("GET /statusz\nAuthorization: {shown}")).await;
            assert!(answer.starts_with("200 OK"), "{answer}");
        }
        let answer = relay.ask_status("GET /statusz\nAuthorization: Bearer schlussel").await;
        assert!(answer.starts_with("401 "), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn statistics_survive_a_restart() {
    let folder = TempDir::new().unwrap();
    let config = || RelayConfig::for_tests(folder.path(), &["a", "b"]);
    let from = "RF-ENV-NAME: prod\nRF-HOSTNAME: web-1";
    with_embedded(config(), async |relay| {
        relay
            .ask(&format!("POST /record-batch\nRF-BUCKETS: a\n{from}\n{AUTH}"), r#"["x","y"]"#)
            .await;
        relay
            .ask(&format!("POST /node-info\nRF-BUCKET: a\n{from}\n{AUTH}"), r#"{"role":"proxy"}"#)
            .await;
        relay.pull("a").await;
    })
    .await;
    with_embedded(config(), async |relay| {
        relay.ask(&format!("POST /record\nRF-BUCKET: a\n{from}\n{AUTH}"), "z").await;
        let page = statusz(relay).await;
        for table in [&page["buckets"]["a"], &page["envs"]["prod"], &page["hostnames"]["web-1"]] {
            assert_eq!(table["rxMessagesSinceStart"], 3, "{table}");
        }
        assert_eq!(page["nodeInfo"], json!({ "web-1": { "role": "proxy" } }));
        let report = whole_statusz(relay, "").await["report"].clone();
        let (node, bucket) = (&report["nodes"][0], &report["buckets"][0]);
        assert_eq!((&node["id"], &node["writes"][0]["events"]), (&json!("web-1/proxy"), &json!(3)));
        assert_eq!((&bucket["received"], &bucket["sent"]), (&json!(3), &json!(2)));
    })
    .await;
}
