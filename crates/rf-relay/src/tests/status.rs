//! The status port.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rf_core::clock::unix_ms;
use rf_core::config::Secret;
use rf_queue::StoreTrouble;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{AUTH, TestRelay, with_config, with_embedded, with_relay};
use crate::bucket::BucketName;
use crate::config::RelayConfig;
use crate::store::memory::Fault;
use crate::store::{BucketStore, Usage};

async fn statusz(relay: &TestRelay) -> Value {
    let mut page = whole_statusz(relay, "").await;
    page.as_object_mut().unwrap().remove("report");
    blank_times(&mut page);
    page
}

/// The page with our report.
async fn whole_statusz(relay: &TestRelay, query: &str) -> Value {
    let answer = relay.ask_status(&format!("GET /statusz{query}")).await;
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
        tokio::time::timeout(Duration::from_secs(10), counted).await.expect("it is counted");
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
async fn of_a_busy_agent_of_the_original_the_newest_log_lines_are_kept() {
    with_relay(async |relay| {
        let lines = |from: usize| -> Vec<String> {
            (from..100).map(|n| format!("{n} {}", "x".repeat(300))).collect()
        };
        let info = |lines: &[String]| {
            let sinks = (0..10).map(|n| (format!("s{n}"), json!({ "id": n, "recentLogs": lines })));
            let sinks: serde_json::Map<String, Value> = sinks.collect();
            json!({ "memoryProcess": 5, "statuszInfo": { "sinks": sinks, "uptime": "1h" } })
        };
        let sent = info(&lines(0)).to_string();
        assert!(sent.len() > 300_000);
        let head = format!("POST /node-info\nRF-BUCKET: a\nRF-HOSTNAME: web-1\n{AUTH}");
        assert_eq!(relay.ask(&head, sent).await, "200 OK\n\n");
        let page = whole_statusz(relay, "").await;
        assert_eq!(page["nodeInfo"]["web-1"], info(&lines(80)));
    })
    .await;
}

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
        let why = "bucket a its oldest event has waited for 60 min; nobody has ever asked for it";
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
        let why = "bucket a its database does not work: the disk is full (for 5 min)";
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
async fn a_host_whose_token_is_refused_is_reported_unless_it_reports_itself() {
    let expect = |config: &mut RelayConfig| config.expected_nodes = vec!["web-2".to_owned()];
    with_config(expect, async |relay| {
        let tell = async |host: &str, token: &str| {
            let from = format!("RF-HOSTNAME: {host}\nAuthorization: Bearer {token}");
            let head = format!("POST /node-info\nRF-BUCKET: a\n{from}");
            relay.ask(&head, r#"{"role":"proxy"}"#).await
        };
        assert!(tell("web-1", "token").await.starts_with("200 "));
        for host in ["web-1", "web-2", "nobody"] {
            assert!(tell(host, "wrong").await.starts_with("401 "));
        }
        let nodes = whole_statusz(relay, "").await["report"]["nodes"].clone();
        let nodes = nodes.as_array().unwrap();
        assert_eq!(nodes.len(), 2, "a name that nobody knows is not shown: {nodes:?}");
        let why = |host: &str| {
            let node = nodes.iter().find(|node| node["host"] == host);
            node.expect("a node")["why"].clone()
        };
        assert_eq!(why("web-1"), json!([]));
        let expected = json!([{
            "key": "token",
            "level": "warn",
            "text": "calls in its name are refused: its token for a is wrong",
        }]);
        assert_eq!(why("web-2"), expected);
    })
    .await;
}

#[tokio::test]
async fn agents_of_one_host_have_the_flows_of_the_buckets_that_they_are_wired_to() {
    with_relay(async |relay| {
        let tell = async |instance: &str, bucket: Option<&str>| {
            let wired = bucket.map(|bucket| json!({ "buckets": [bucket] }));
            let info = json!({
                "role": "proxy", "instance": instance,
                "sinks": { "out": { "type": "relay", "wiredTo": wired } },
            });
            let head = format!("POST /node-info\nRF-BUCKET: a\nRF-HOSTNAME: vm\n{AUTH}");
            assert!(relay.ask(&head, info.to_string()).await.starts_with("200 "));
        };
        // Each proxy's instance, and the buckets that it writes to.
        let flows = async || {
            let nodes = whole_statusz(relay, "").await["report"]["nodes"].clone();
            let nodes = nodes.as_array().unwrap().iter().map(|node| {
                let writes = node["writes"].as_array().unwrap().iter();
                let buckets: Vec<&str> =
                    writes.map(|flow| flow["bucket"].as_str().unwrap()).collect();
                format!("{} {}", node["id"].as_str().unwrap(), buckets.join(","))
            });
            nodes.collect::<Vec<_>>()
        };
        let batch = format!("POST /record-batch\nRF-BUCKETS: a,b\nRF-HOSTNAME: vm\n{AUTH}");
        relay.ask(&batch, r#"["x"]"#).await;
        tell("1", Some("b")).await;
        tell("2", Some("a")).await;
        assert_eq!(flows().await, ["vm/proxy/1 b", "vm/proxy/2 a"]);
        // One that does not say it, as those of an old version.
        tell("2", None).await;
        assert_eq!(flows().await, ["vm/proxy/1 b", "vm/proxy/2 a"]);
        // What nobody says is of the last one.
        tell("1", None).await;
        assert_eq!(flows().await, ["vm/proxy/1 ", "vm/proxy/2 a,b"]);
        let page = relay.ask_status("GET /\nAccept: text/html").await;
        for instance in ["1", "2"] {
            let shown = format!("<span class=\"instance\">{instance}</span>");
            assert!(page.contains(&shown), "{page}");
            assert!(page.contains(&format!(">vm {instance}</text>")), "on the map: {page}");
        }
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
async fn expected_nodes_are_missing_until_they_are_heard_of() {
    let expect = |config: &mut RelayConfig| {
        config.expected_nodes = vec!["web-1".to_owned()];
        config.thresholds.node_silent_after = Duration::ZERO;
    };
    with_config(expect, async |relay| {
        let node = async || whole_statusz(relay, "").await["report"]["nodes"][0].clone();
        let missing = node().await;
        assert_eq!((&missing["host"], &missing["presence"]), (&json!("web-1"), &json!("missing")));
        assert_eq!((&missing["level"], &missing["expected"]), (&json!("bad"), &json!(true)));
        let info = r#"{"role":"proxy","version":"1.2.3"}"#;
        relay
            .ask(&format!("POST /node-info\nRF-BUCKET: a\nRF-HOSTNAME: web-1\n{AUTH}"), info)
            .await;
        let here = node().await;
        assert_eq!((&here["id"], &here["presence"]), (&json!("web-1/proxy"), &json!("here")));
        assert_eq!((&here["level"], &here["version"]), (&json!("ok"), &json!("1.2.3")));
    })
    .await;
}

#[tokio::test]
async fn expected_nodes_are_awaited_for_a_while_after_the_first_start() {
    let expect = |config: &mut RelayConfig| config.expected_nodes = vec!["web-1".to_owned()];
    with_config(expect, async |relay| {
        let report = whole_statusz(relay, "").await["report"].clone();
        let node = &report["nodes"][0];
        assert_eq!((&node["host"], &node["presence"]), (&json!("web-1"), &json!("missing")));
        assert_eq!((&node["level"], &report["level"]), (&json!("ok"), &json!("ok")));
        let page = relay.ask_status("GET /\nAccept: text/html").await;
        assert!(page.contains("awaited"), "{page}");
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
