//! The page: what is escaped, what is allowed, and for whom.

use rf_core::config::Secret;
use rf_net::own_host::OwnHosts;
use serde_json::json;
use tempfile::TempDir;

use super::{AUTH, TestRelay, exchange, with_config, with_embedded, with_relay};
use crate::config::RelayConfig;

const HTML: &str = "Accept: text/html,application/xhtml+xml";
const HOSTILE: &str = "<script>alert(1)</script>\"'&";

async fn page(relay: &TestRelay, path: &str) -> String {
    relay.ask_status(&format!("GET {path}\n{HTML}")).await
}

/// A host with a hostile name tells hostile things of itself.
async fn tell(relay: &TestRelay) {
    let info = json!({
        "role": "proxy", "envName": HOSTILE, "version": HOSTILE,
        "sources": { HOSTILE: { "type": HOSTILE, "paused": HOSTILE } },
        "sinks": { HOSTILE: {
            "type": HOSTILE, "target": HOSTILE, "queue": { "events": 1 },
            "lastError": { "atMs": 5, "text": HOSTILE }, "wiredTo": { "relay": HOSTILE, "buckets": [HOSTILE, "a"] },
            "recentLogs": [{ "atMs": 1, "level": HOSTILE, "text": HOSTILE }],
        } },
    });
    let head = format!("POST /node-info\nRF-BUCKET: a\nRF-HOSTNAME: {HOSTILE}\n{AUTH}");
    assert!(relay.ask(&head, info.to_string()).await.starts_with("200 "));
    let head = format!("POST /record\nRF-BUCKET: a\nRF-HOSTNAME: {HOSTILE}\n{AUTH}");
    let event =
        json!({ "method": "POST", "path": HOSTILE, "body": json!({ "k": HOSTILE }).to_string() });
    assert!(relay.ask(&head, event.to_string()).await.starts_with("200 "));
}

#[tokio::test]
async fn nothing_hostile_is_shown_unescaped() {
    with_relay(async |relay| {
        tell(relay).await;
        let form = "name=a&token=token";
        let head = format!("POST /bucket-events\n{HTML}");
        let pages = [
            page(relay, "/").await,
            page(relay, "/?all").await,
            page(relay, "/bucket?name=a").await,
            page(
                relay,
                &format!("/node?id={}", "%3Cscript%3Ealert%281%29%3C%2Fscript%3E%22%27%26%2Fproxy"),
            )
            .await,
            exchange(relay.status, &head, form.as_bytes()).await.text(),
        ];
        for page in pages {
            assert!(page.starts_with("200 OK\n"), "{page}");
            assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;"), "{page}");
            assert!(!page.contains("<script>alert"), "{page}");
            assert!(
                !page.contains(" style=\"") && !page.contains("javascript:"),
                "no inline style or script: {page}"
            );
            assert!(page.contains("content-security-policy: default-src 'none';"), "{page}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_map_has_no_empty_side() {
    with_relay(async |relay| {
        let page = page(relay, "/").await;
        assert!(page.contains("viewBox=\"475 0 230 "), "only buckets: {page}");
    })
    .await;
    with_relay(async |relay| {
        tell(relay).await;
        let page = page(relay, "/").await;
        assert!(page.contains("viewBox=\"0 0 705 "), "nobody reads: {page}");
    })
    .await;
}

#[tokio::test]
async fn only_browsers_get_the_page() {
    with_relay(async |relay| {
        for head in [
            "GET /",
            "GET /\nAccept: */*",
            "GET /node?id=x",
            "GET /bucket?name=a",
            "POST /bucket-events",
        ] {
            assert!(relay.ask_status(head).await.ends_with("\n\nok"), "{head}");
        }
        assert!(relay.ask_status("POST /").await.starts_with("405 "));
        assert!(page(relay, "/").await.contains("All is well"));
        assert!(page(relay, "/node?id=nobody").await.starts_with("404 "));
        assert!(page(relay, "/bucket?name=nothing").await.starts_with("404 "));
        assert!(page(relay, "/page.css").await.contains("content-type: text/css"));
        assert!(page(relay, "/page.js").await.contains("content-type: text/javascript"));
    })
    .await;
}

#[tokio::test]
async fn with_a_token_the_page_asks_for_it() {
    let auth = |config: &mut RelayConfig| config.status_auth = Some(Secret::new("s3cret"));
    with_config(auth, async |relay| {
        for path in ["/", "/node?id=x", "/bucket?name=a", "/live"] {
            let answer = page(relay, path).await;
            assert!(
                answer.starts_with("401 ") && answer.contains("www-authenticate: Basic"),
                "{answer}"
            );
        }
        let known = relay.ask_status(&format!("GET /\n{HTML}\nAuthorization: Bearer s3cret")).await;
        assert!(known.starts_with("200 OK"), "{known}");
    })
    .await;
}

#[tokio::test]
async fn a_foreign_name_reads_nothing_unless_it_has_the_token() {
    const GUARDED: [&str; 6] =
        ["/", "/node?id=x", "/bucket?name=a", "/live", "/statusz", "/metrics"];
    let ask = async |relay: &TestRelay, path: &str, host: &str| {
        relay.ask_status(&format!("GET {path}\n{HTML}\nHost: {host}")).await
    };
    let names = |config: &mut RelayConfig| config.status_hosts = OwnHosts::new(["status.lan"]);
    with_config(names, async |relay| {
        for path in GUARDED {
            let answer = ask(relay, path, "rebound.example:8082").await;
            assert!(answer.starts_with("403 ") && answer.contains("statusHosts"), "{answer}");
        }
        let head = format!("POST /bucket-events\n{HTML}\nHost: rebound.example");
        let answer = exchange(relay.status, &head, b"name=a&token=token").await.text();
        assert!(answer.starts_with("403 ") && answer.contains("statusHosts"), "{answer}");
        for path in ["/any", "/healthz", "/readyz"] {
            assert!(ask(relay, path, "rebound.example").await.ends_with("\n\nok"), "{path}");
        }
        for host in ["127.0.0.1:8082", "[::1]:8082", "localhost", "status.lan:8082"] {
            assert!(ask(relay, "/", host).await.contains("All is well"), "{host}");
        }
    })
    .await;
    let auth = |config: &mut RelayConfig| config.status_auth = Some(Secret::new("s3cret"));
    with_config(auth, async |relay| {
        let head = "GET /statusz\nHost: rebound.example\nAuthorization: Bearer s3cret";
        assert!(relay.ask_status(head).await.starts_with("200 "));
        assert!(ask(relay, "/", "rebound.example").await.starts_with("401 "));
    })
    .await;
}

#[tokio::test]
async fn events_are_shown_for_the_buckets_own_token_only() {
    let folder = TempDir::new().unwrap();
    let config = RelayConfig::for_tests(folder.path(), &["a", "b"]);
    with_embedded(config, async |relay| {
        for number in 0..30 {
            let head = format!("POST /record\nRF-BUCKET: a\n{AUTH}");
            relay.ask(&head, format!("event number {number}!")).await;
        }
        let ask = async |form: &str| {
            let head = format!("POST /bucket-events\n{HTML}");
            exchange(relay.status, &head, form.as_bytes()).await.text()
        };
        for wrong in ["name=a&token=wrong", "name=a&token=", "name=a", "name=a&token=%74oken%2B"] {
            let answer = ask(wrong).await;
            assert!(answer.starts_with("403 ") && !answer.contains("event number"), "{answer}");
        }
        assert!(ask("token=token").await.starts_with("404 "));
        let shown = ask("name=a&token=token").await;
        assert!(
            shown.starts_with("200 OK") && shown.contains("cache-control: no-store"),
            "{shown}"
        );
        assert!(
            shown.contains("event number 29!") && shown.contains("event number 10!"),
            "{shown}"
        );
        assert!(
            !shown.contains("event number 9!") && !shown.contains("value=\"token\""),
            "{shown}"
        );

        // The newest are gone, older ones are not.
        let ids: serde_json::Value = serde_json::from_str(&relay.pull("a").await).unwrap();
        let newest: Vec<String> =
            ids.as_array().unwrap()[5..].iter().map(|e| e["id"].to_string()).collect();
        let head = format!("DELETE /acknowledge-batch\nRF-BUCKET: a\n{AUTH}");
        relay.ask(&head, json!({ "ids": newest }).to_string()).await;
        assert!(ask("name=a&token=token").await.contains("event number 4!"));
        assert!(ask("name=b&token=token").await.contains("The bucket is empty."));
    })
    .await;
}

#[tokio::test]
async fn the_newest_event_is_shown_however_large_those_before_it_are() {
    let folder = TempDir::new().unwrap();
    let mut config = RelayConfig::for_tests(folder.path(), &["a", "b"]);
    config.buckets.values_mut().for_each(|bucket| bucket.max_bytes *= 10);
    with_embedded(config, async |relay| {
        for number in 0..20 {
            let head = format!("POST /record\nRF-BUCKET: a\n{AUTH}");
            let event = format!("event number {number}! {}", "x".repeat(100_000));
            assert!(relay.ask(&head, event).await.starts_with("200 "));
        }
        let head = format!("POST /bucket-events\n{HTML}");
        let shown = exchange(relay.status, &head, b"name=a&token=token").await.text();
        assert!(shown.contains("event number 19!") && shown.contains("event number 10!"));
        assert!(!shown.contains("event number 5!"), "a MiB is enough");
    })
    .await;
}
