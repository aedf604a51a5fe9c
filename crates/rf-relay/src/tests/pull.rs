//! Events go out.

use std::time::Duration;

use bytes::Bytes;
use rf_net::encoding::{Coding, decode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{AUTH, TestRelay, exchange, with_config, with_relay};
use crate::config::RelayConfig;

async fn pull(relay: &TestRelay, target: &str) -> String {
    relay.ask(&format!("GET {target}\nRF-BUCKET: a\n{AUTH}"), "").await
}

const EMPTY: &str = "404 Not Found\ncontent-type: application/json\n\n[]";

fn json(body: &str) -> String {
    format!("200 OK\ncontent-type: application/json\n\n{body}")
}

#[tokio::test]
async fn limits_of_number_and_size() {
    with_relay(async |relay| {
        relay.record(r#"["one","two","three"]"#).await;
        let one = r#"[{"id":1,"content":"one"}]"#;
        assert_eq!(pull(relay, "/first-batch?limit=1").await, json(one));
        assert_eq!(pull(relay, "/first-batch?maxBytes=5").await, json(one));
        // An event that is larger than all that is asked for comes alone.
        assert_eq!(pull(relay, "/first-batch?maxBytes=1").await, json(one));
        let two = r#"[{"id":1,"content":"one"},{"id":2,"content":"two"}]"#;
        assert_eq!(pull(relay, "/first-batch?maxBytes=6&limit=100").await, json(two));
        assert_eq!(pull(relay, "/first").await, json(r#"{"id":1,"content":"one"}"#));
    })
    .await;
}

#[tokio::test]
async fn without_a_limit_a_hundred() {
    with_relay(async |relay| {
        relay.record(&format!("[{}\"x\"]", "\"x\",".repeat(100))).await;
        let answer = pull(relay, "/first-batch").await;
        assert!(answer.ends_with(r#"{"id":100,"content":"x"}]"#), "{answer}");
    })
    .await;
}

async fn check_bad(target: &str, error: &str) {
    with_relay(async |relay| {
        let expected = serde_json::json!({ "error": error });
        let expected = format!("400 Bad Request\ncontent-type: application/json\n\n{expected}");
        assert_eq!(pull(relay, target).await, expected);
    })
    .await;
}

#[tokio::test]
async fn bad_parameters_are_named() {
    for limit in ["0", "101", "x", "-1", ""] {
        check_bad(&format!("/first-batch?limit={limit}"), "limit must be a number from 1 to 100")
            .await;
    }
    check_bad("/first-batch?lease=5s&limit=10001", "limit must be a number from 1 to 10000").await;
    check_bad("/first-batch?lease=0", "a lease lasts from 1s to 1h").await;
    let most = usize::MAX;
    check_bad("/first-batch?maxBytes=0", &format!("maxBytes must be a number from 1 to {most}"))
        .await;
}

#[tokio::test]
async fn a_long_poll_ends_when_its_time_is_over() {
    with_relay(async |relay| {
        assert_eq!(pull(relay, "/first-batch?wait=5ms").await, EMPTY);
        let nothing = "404 Not Found\ncontent-type: application/json\n\n{\"error\":\"the bucket has no event to give\"}";
        assert_eq!(pull(relay, "/first?wait=5ms").await, nothing);
    })
    .await;
}

#[tokio::test]
async fn a_long_poll_is_answered_when_an_event_comes() {
    with_relay(async |relay| {
        let record = async {
            relay.memory.somebody_watches("a").await;
            relay.record(r#"["x"]"#).await;
        };
        let (answer, ()) = tokio::join!(pull(relay, "/first-batch?wait=1m"), record);
        assert_eq!(answer, json(r#"[{"id":1,"content":"x"}]"#));
    })
    .await;
}

#[tokio::test]
async fn a_long_poll_is_answered_when_the_relay_stops() {
    with_relay(async |relay| {
        let stop = async {
            relay.memory.somebody_watches("a").await;
            relay.stop.cancel();
        };
        let (answer, ()) = tokio::join!(pull(relay, "/first-batch?wait=1m"), stop);
        assert_eq!(answer, EMPTY);
    })
    .await;
}

#[tokio::test]
async fn a_long_poll_ends_when_its_client_leaves() {
    with_relay(async |relay| {
        let leave = async {
            relay.memory.somebody_watches("a").await;
        };
        tokio::select! {
            answer = pull(relay, "/first-batch?wait=1m&lease=1m") => panic!("{answer}"),
            () = leave => {}
        }
        relay.memory.nobody_watches("a").await;
        // Nobody who has left takes the event away.
        relay.record(r#"["x"]"#).await;
        let answer = pull(relay, "/first-batch?lease=1m").await;
        assert!(answer.ends_with(r#"[{"id":1,"content":"x"}]"#), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn large_answers_are_coded_for_who_wants_it() {
    with_relay(async |relay| {
        let event = "x".repeat(100_000);
        relay.record(&format!("[\"{event}\"]")).await;
        let body = format!("[{{\"id\":1,\"content\":\"{event}\"}}]");
        let ask = async |accept: &str| {
            let head = format!("GET /first-batch\nRF-BUCKET: a\n{AUTH}\nAccept-Encoding: {accept}");
            exchange(relay.api, &head, b"").await
        };
        let coded = ask("gzip, zstd").await;
        assert_eq!(coded.head, "200 OK\ncontent-type: application/json\ncontent-encoding: zstd");
        assert!(coded.body.len() < 1000);
        assert_eq!(
            decode(Coding::Zstd, coded.body.into(), 200_000).unwrap(),
            Bytes::from(body.clone())
        );
        assert_eq!(ask("gzip").await.text(), json(&body));
        assert_eq!(ask("zstd;q=0").await.text(), json(&body));
    })
    .await;
}

fn large_bodies(config: &mut RelayConfig) {
    config.requests.max_body_bytes = 16 * 1024 * 1024;
    // Who does not read has its answer for as long as a test takes, on a slow machine, too.
    config.server.write_timeout = Duration::from_secs(600);
}

/// Records an event into `a` whose answer takes nearly the 8 MiB that are reserved for one, which no socket buffers, and has
/// so many ask for it that all memory of the bucket is theirs as long as they do not read.
async fn take_all_memory(relay: &TestRelay) -> Vec<TcpStream> {
    relay.record(&format!("[\"{}\"]", "x".repeat(8 * 1024 * 1024 - 1000))).await;
    let ask = format!("GET /first-batch HTTP/1.1\r\nHost: relay\r\nRF-BUCKET: a\r\n{AUTH}\r\n\r\n");
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(relay.api).await.unwrap();
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        slow.push(stream);
    }
    slow
}

#[tokio::test]
async fn readers_that_do_not_read_take_a_bounded_memory_and_hold_up_no_other_bucket() {
    with_config(large_bodies, async |relay| {
        let slow = take_all_memory(relay).await;
        let refused = pull(relay, "/first-batch").await;
        assert!(
            refused.starts_with("429 ")
                && refused.contains("retry-after: 1")
                && refused.contains("limits.bodyMemoryBytes"),
            "{refused}"
        );
        assert_eq!(relay.pull("b").await, "[]");
        drop(slow);
        let answer = pull(relay, "/first-batch").await;
        assert!(answer.starts_with("200 "), "{}", answer.len());
    })
    .await;
}

#[tokio::test]
async fn an_event_that_is_larger_than_what_was_asked_for_needs_memory_too_and_is_given_back() {
    with_config(large_bodies, async |relay| {
        let slow = take_all_memory(relay).await;
        let refused = pull(relay, "/first-batch?lease=1h&maxBytes=1").await;
        assert!(refused.starts_with("429 "), "{}", refused.len());
        drop(slow);
        let answer = pull(relay, "/first-batch?lease=1h").await;
        assert!(answer.starts_with("200 "), "{}", answer.len());
        assert!(answer.ends_with("x\",\"attempts\":1}]"), "{}", answer.len());
    })
    .await;
}

#[tokio::test]
async fn small_answers_are_never_coded() {
    with_relay(async |relay| {
        relay.record(r#"["x"]"#).await;
        let head = format!("GET /first-batch\nRF-BUCKET: a\n{AUTH}\nAccept-Encoding: zstd");
        assert_eq!(relay.ask(&head, "").await, json(r#"[{"id":1,"content":"x"}]"#));
    })
    .await;
}
