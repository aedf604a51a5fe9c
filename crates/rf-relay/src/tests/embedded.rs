//! The whole relay over real databases.

use tempfile::TempDir;

use super::{AUTH, TestRelay, with_embedded};
use crate::config::{RelayConfig, WhenFull};

/// Fills bucket `a` with batches of about 100 KiB until one is not taken; says how many were.
async fn fill(relay: &TestRelay, at_most: usize) -> usize {
    let batch = format!("[\"{}\"]", "x".repeat(100_000));
    for taken in 0..at_most {
        let answer =
            relay.ask(&format!("POST /record-batch\nRF-BUCKETS: a,b\n{AUTH}"), &batch).await;
        if answer.starts_with("429 ") {
            assert!(
                answer.contains("retry-after: 1\n") && answer.ends_with("{\"error\":\"full: a\"}"),
                "{answer}"
            );
            return taken;
        }
        assert!(answer.starts_with("200 "), "{answer}");
    }
    at_most
}

/// All events of bucket `a`: their ids and contents.
async fn pull(relay: &TestRelay) -> Vec<(u64, String)> {
    let events: Vec<serde_json::Value> = serde_json::from_str(&relay.pull("a").await).unwrap();
    let event = |event: &serde_json::Value| {
        (event["id"].as_u64().unwrap(), event["content"].as_str().unwrap().to_owned())
    };
    events.iter().map(event).collect()
}

#[tokio::test]
async fn a_bucket_may_have_any_name_that_a_folder_can_have() {
    const NAME: &str = "my shop: größe & \"more\"?#%2e";
    const LINK: &str = "bucket?name=my%20shop%3A%20gr%C3%B6%C3%9Fe%20%26%20%22more%22%3F%23%252e";
    let folder = TempDir::new().unwrap();
    let config = RelayConfig::for_tests(folder.path(), &["a", NAME]);
    with_embedded(config, async |relay| {
        let head = format!("POST /record-batch\nRF-BUCKETS: a, {NAME}\n{AUTH}");
        assert!(relay.ask(&head, r#"["x"]"#).await.starts_with("200 "));
        assert!(relay.pull(NAME).await.contains(r#""content":"x""#));
        assert!(folder.path().join(NAME).join("relay.sqlite3").is_file());
        let overview = relay.ask_status("GET /\nAccept: text/html").await;
        assert!(overview.contains(&format!("href=\"{LINK}\"")), "{overview}");
        let page = relay.ask_status(&format!("GET /{LINK}\nAccept: text/html")).await;
        assert!(page.starts_with("200 ") && page.contains("größe &amp; &quot;more"), "{page}");
        let metrics = relay.ask_status("GET /metrics").await;
        let series = r#"replayforge_bucket_events{bucket="my shop: größe & \"more\"?#%2e"} 1"#;
        assert!(metrics.contains(series), "{metrics}");
    })
    .await;
}

#[tokio::test]
async fn a_full_bucket_refuses_until_there_is_room() {
    let folder = TempDir::new().unwrap();
    let mut config = RelayConfig::for_tests(folder.path(), &["a", "b"]);
    config.buckets.last_entry().unwrap().get_mut().max_bytes *= 10;
    with_embedded(config, async |relay| {
        let taken = fill(relay, 100).await;
        assert!((2..10).contains(&taken), "{taken} batches of 100 KiB in 1 MiB");
        let ids: Vec<String> = pull(relay).await.iter().map(|(id, _)| id.to_string()).collect();
        let body = serde_json::json!({ "ids": ids }).to_string();
        let gone =
            relay.ask(&format!("DELETE /acknowledge-batch\nRF-BUCKET: a\n{AUTH}"), body).await;
        assert!(gone.ends_with(&format!("\n\n{taken} events acknowledged")), "{gone}");
        assert_eq!(fill(relay, 2).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_full_bucket_may_drop_its_oldest() {
    let folder = TempDir::new().unwrap();
    let mut config = RelayConfig::for_tests(folder.path(), &["a", "b"]);
    for bucket in config.buckets.values_mut() {
        bucket.when_full = WhenFull::DropOldest;
    }
    with_embedded(config, async |relay| {
        assert_eq!(fill(relay, 20).await, 20);
        let page = relay.ask_status("GET /statusz").await;
        let page: serde_json::Value =
            serde_json::from_str(page.split_once("\n\n").unwrap().1).unwrap();
        let bucket = &page["buckets"]["a"];
        let (events, dropped) =
            (bucket["events"].as_u64().unwrap(), bucket["droppedFull"].as_u64().unwrap());
        assert_eq!(events + dropped, 20);
        assert!(events > 0 && dropped > 0, "{bucket}");
        assert_eq!(bucket["databaseMaxSizeKb"], 1024);
    })
    .await;
}

/// Its sender cuts it into batches with other ids: whoever had it would get all of it again.
#[tokio::test]
async fn a_batch_that_one_bucket_can_never_take_is_in_none() {
    let folder = TempDir::new().unwrap();
    let mut config = RelayConfig::for_tests(folder.path(), &["a", "b"]);
    config.buckets.first_entry().unwrap().get_mut().max_bytes *= 10;
    let large = serde_json::json!(vec!["x".repeat(30_000); 30]).to_string();
    let head = |id: &str| format!("POST /record-batch\nRF-BUCKETS: a,b\nRF-BATCH-ID: {id}\n{AUTH}");
    with_embedded(config, async |relay| {
        let refused = relay.ask(&head("1"), &large).await;
        assert!(refused.starts_with("413 Payload Too Large\n"), "{refused}");
        assert!(refused.contains("bucket b: the batch of 900000 bytes can never fit"), "{refused}");
        for bucket in ["a", "b"] {
            assert_eq!(relay.pull(bucket).await, "[]");
        }
        let half = serde_json::json!(vec!["x".repeat(30_000); 10]).to_string();
        assert!(relay.ask(&head("2"), &half).await.starts_with("200 "));
        assert_eq!(pull(relay).await.len(), 10);
    })
    .await;
}

#[tokio::test]
async fn a_repeated_batch_is_known_though_it_would_not_fit_any_more() {
    let folder = TempDir::new().unwrap();
    let small = RelayConfig::for_tests(folder.path(), &["a", "b"]);
    let mut large = small.clone();
    for bucket in large.buckets.values_mut() {
        bucket.max_bytes *= 10;
    }
    let batch = serde_json::json!(vec!["x".repeat(30_000); 30]).to_string();
    let head = format!("POST /record-batch\nRF-BUCKETS: a,b\nRF-BATCH-ID: 1\n{AUTH}");
    for config in [large, small] {
        with_embedded(config, async |relay| {
            let answer = relay.ask(&head, &batch).await;
            assert!(answer.starts_with("200 "), "{answer}");
            assert_eq!(pull(relay).await.len(), 30);
        })
        .await;
    }
}

#[tokio::test]
async fn a_holder_has_its_own_events_back_after_a_restart_of_the_relay() {
    let folder = TempDir::new().unwrap();
    let config = RelayConfig::for_tests(folder.path(), &["a", "b"]);
    let pull = async |relay: &TestRelay, holder: &str| {
        let head =
            format!("GET /first-batch?lease=1h&limit=1&holder={holder}\nRF-BUCKET: a\n{AUTH}");
        let answer = relay.ask(&head, "").await;
        let events: serde_json::Value =
            serde_json::from_str(answer.split_once("\n\n").unwrap().1).unwrap();
        events[0]["content"].clone()
    };
    with_embedded(config.clone(), async |relay| {
        relay.record(r#"["one","two","three"]"#).await;
        assert_eq!(pull(relay, "mine").await, "one");
        assert_eq!(pull(relay, "other").await, "two");
    })
    .await;
    with_embedded(config, async |relay| {
        assert_eq!(pull(relay, "mine").await, "one");
        assert_eq!(pull(relay, "nobody").await, "three", "the other's stays the other's");
        assert_eq!(pull(relay, "other").await, "two");
    })
    .await;
}

#[tokio::test]
async fn what_was_answered_outlives_the_relay() {
    let folder = TempDir::new().unwrap();
    let config = RelayConfig::for_tests(folder.path(), &["a", "b"]);
    let head = format!("POST /record-batch\nRF-BUCKETS: a\nRF-BATCH-ID: 1\n{AUTH}");
    with_embedded(config.clone(), async |relay| {
        relay.ask(&head, r#"["x"]"#).await;
        assert!(folder.path().join("a/relay.sqlite3").is_file());
    })
    .await;
    with_embedded(config, async |relay| {
        // The repeat of a batch whose answer was lost with the first relay.
        relay.ask(&head, r#"["x"]"#).await;
        let contents: Vec<String> =
            pull(relay).await.into_iter().map(|(_, content)| content).collect();
        assert_eq!(contents, ["x"]);
    })
    .await;
}

#[tokio::test]
async fn a_long_poll_wakes_up() {
    let folder = TempDir::new().unwrap();
    let config = RelayConfig::for_tests(folder.path(), &["a", "b"]);
    with_embedded(config, async |relay| {
        let head = format!("GET /first-batch?wait=1m&lease=5s\nRF-BUCKET: a\n{AUTH}");
        let pull = relay.ask(&head, "");
        let (answer, ()) = tokio::join!(pull, relay.record(r#"["x"]"#));
        assert!(
            answer.starts_with("200 OK\n") && answer.ends_with(",\"content\":\"x\"}]"),
            "{answer}"
        );
    })
    .await;
}
