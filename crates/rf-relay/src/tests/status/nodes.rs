//! What hosts tell of themselves, and what is said of those that tell nothing.

use super::*;

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
