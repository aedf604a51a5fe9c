//! Events come in.

use std::time::Duration;

use bytes::Bytes;
use rf_core::config::Secret;
use rf_net::encoding::{Coding, encode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{AUTH, TestRelay, exchange, receive, with_config, with_relay};
use crate::config::RelayConfig;
use crate::store::memory::Fault;

const RECORDED: &str = "200 OK\naccept-encoding: zstd, gzip\n\n";

fn to_a() -> String {
    format!("POST /record-batch\nRF-BUCKETS: a\n{AUTH}")
}

#[tokio::test]
async fn batches_may_be_coded() {
    with_relay(async |relay| {
        for (coding, event) in [(Coding::Identity, "i"), (Coding::Gzip, "g"), (Coding::Zstd, "z")] {
            // Long enough to be worked on away from the async threads, too.
            let body = Bytes::from(format!("[\"{event}\",\"{}\"]", event.repeat(20_000)));
            let head = format!("{}\nContent-Encoding: {}", to_a(), coding.name());
            assert_eq!(relay.ask(&head, encode(coding, &body)).await, RECORDED);
        }
        let pulled = relay.pull("a").await;
        let events: Vec<serde_json::Value> = serde_json::from_str(&pulled).unwrap();
        let contents: Vec<&str> =
            events.iter().map(|event| event["content"].as_str().unwrap()).collect();
        let [i, g, z] = ["i", "g", "z"].map(|event| event.repeat(20_000));
        assert_eq!(contents, ["i", &i, "g", &g, "z", &z]);
    })
    .await;
}

#[tokio::test]
async fn a_repeated_batch_is_stored_once() {
    with_relay(async |relay| {
        let head = format!("{}\nRF-BATCH-ID: batch-1", to_a());
        assert_eq!(relay.ask(&head, r#"["x"]"#).await, RECORDED);
        assert_eq!(relay.ask(&head, r#"["x"]"#).await, RECORDED);
        assert_eq!(relay.pull("a").await, r#"[{"id":1,"content":"x"}]"#);
    })
    .await;
}

#[tokio::test]
async fn full_buckets_are_named_and_a_repeat_goes_only_where_it_is_missing() {
    with_relay(async |relay| {
        relay.memory.break_bucket("b", Fault::Full);
        let head = format!("POST /record-batch\nRF-BUCKETS: a,b\nRF-BATCH-ID: batch-1\n{AUTH}");
        let full = "429 Too Many Requests\ncontent-type: application/json\nretry-after: 1\n\
                    accept-encoding: zstd, gzip\n\n{\"error\":\"full: b\"}";
        assert_eq!(relay.ask(&head, r#"["x"]"#).await, full);
        relay.memory.break_bucket("b", None);
        assert_eq!(relay.ask(&head, r#"["x"]"#).await, RECORDED);
        for bucket in ["a", "b"] {
            assert_eq!(relay.pull(bucket).await, r#"[{"id":1,"content":"x"}]"#);
        }
    })
    .await;
}

#[tokio::test]
async fn half_a_surrogate_pair_does_not_kill_its_batch() {
    with_relay(async |relay| {
        relay.record(r#"["one","tw\ud800o","three"]"#).await;
        let expected =
            "[{\"id\":1,\"content\":\"one\"},{\"id\":2,\"content\":\"tw\u{FFFD}o\"},{\"id\":3,\"content\":\"three\"}]";
        assert_eq!(relay.pull("a").await, expected);
    })
    .await;
}

#[tokio::test]
async fn a_single_event_is_the_raw_body() {
    with_relay(async |relay| {
        let head = format!("POST /record\nRF-BUCKET: a\n{AUTH}");
        assert_eq!(relay.ask(&head, "{\"raw\": \"é\"}").await, RECORDED);
        assert_eq!(relay.pull("a").await, r#"[{"id":1,"content":"{\"raw\": \"é\"}"}]"#);
        let refused = exchange(relay.api, &head, b"a\xff").await.text();
        assert!(refused.starts_with("400 ") && refused.contains("index 1"), "{refused}");
    })
    .await;
}

#[tokio::test]
async fn an_event_that_no_player_could_pull_is_refused() {
    let large = |config: &mut RelayConfig| {
        config.requests.max_body_bytes = 32 * 1024 * 1024;
    };
    with_config(large, async |relay| {
        let head = format!("POST /record\nRF-BUCKET: a\n{AUTH}");
        // As JSON text each of these bytes is six.
        let refused = relay.ask(&head, vec![1_u8; 11 * 1024 * 1024]).await;
        assert!(refused.starts_with("413 Payload Too Large\n"), "{refused}");
        assert!(refused.contains("event 1 is too large to be pulled"), "{refused}");
        assert_eq!(relay.pull("a").await, "[]");
        assert_eq!(relay.ask(&head, vec![b'x'; 11 * 1024 * 1024]).await, RECORDED);
    })
    .await;
}

#[tokio::test]
async fn an_empty_batch_is_fine() {
    with_relay(async |relay| {
        assert_eq!(relay.ask(&to_a(), "[]").await, RECORDED);
        assert_eq!(relay.pull("a").await, "[]");
    })
    .await;
}

async fn check_refused(head: &str, body: impl AsRef<[u8]>, status: &str, error: &str) {
    with_relay(async |relay| {
        let expected = format!(
            "{status}\ncontent-type: application/json\naccept-encoding: zstd, gzip\n\n{}",
            serde_json::json!({ "error": error })
        );
        assert_eq!(relay.ask(head, body).await, expected);
        assert_eq!(relay.pull("a").await, "[]", "nothing is written");
    })
    .await;
}

#[tokio::test]
async fn bad_batches_are_refused_with_the_position() {
    let json = "not the JSON expected here: ";
    let number = format!("{json}invalid type: integer `1`, expected a string at line 2 column 2");
    check_refused(&to_a(), "[\"x\",\n 1]", "400 Bad Request", &number).await;
    check_refused(
        &to_a(),
        "[\"x\"",
        "400 Bad Request",
        &format!("{json}EOF while parsing a list at line 1 column 4"),
    )
    .await;
    let id = format!("{}\nRF-BATCH-ID: {}", to_a(), "x".repeat(129));
    check_refused(&id, "[\"x\"]", "400 Bad Request", "RF-BATCH-ID has 1 to 128 ASCII characters")
        .await;
    let many = format!("[{}\"x\"]", "\"x\",".repeat(1000));
    check_refused(&to_a(), many, "413 Payload Too Large", "more than 1000 entries").await;
}

#[tokio::test]
async fn other_codings_and_broken_ones_are_refused() {
    let brotli = format!("{}\nContent-Encoding: br", to_a());
    let error = "content encoding \"br\" is not supported: use zstd, gzip or none";
    check_refused(&brotli, "[\"x\"]", "415 Unsupported Media Type", error).await;
    let zstd = format!("{}\nContent-Encoding: zstd", to_a());
    let error = "the body is not valid zstd: Unknown frame descriptor";
    check_refused(&zstd, "[\"x\"]", "400 Bad Request", error).await;
}

#[tokio::test]
async fn bombs_and_large_bodies_are_refused() {
    let bomb = encode(Coding::Zstd, &Bytes::from(vec![b' '; 100_000_000]));
    let zstd = format!("{}\nContent-Encoding: zstd", to_a());
    check_refused(
        &zstd,
        bomb,
        "413 Payload Too Large",
        "the decoded body is larger than 1048576 bytes",
    )
    .await;
    with_relay(async |relay| {
        // The length alone is enough: nothing of the body is sent.
        let mut stream = TcpStream::connect(relay.api).await.unwrap();
        let head = format!("{}\nContent-Length: 1048577", to_a()).replacen(
            '\n',
            " HTTP/1.1\nHost: relay\n",
            1,
        );
        stream
            .write_all(format!("{}\r\n\r\n", head.replace('\n', "\r\n")).as_bytes())
            .await
            .unwrap();
        let answer = receive(&mut stream).await.text();
        assert!(
            answer.starts_with("413 ") && answer.contains("larger than 1048576 bytes"),
            "{answer}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_client_that_stops_in_a_body_is_cut_off() {
    let impatient = |config: &mut RelayConfig| {
        config.requests.body_timeout = Duration::from_millis(20);
    };
    with_config(impatient, async |relay| {
        let mut stream = TcpStream::connect(relay.api).await.unwrap();
        let head =
            format!("{}\nContent-Length: 5", to_a()).replacen('\n', " HTTP/1.1\nHost: relay\n", 1);
        stream
            .write_all(format!("{}\r\n\r\n[\"", head.replace('\n', "\r\n")).as_bytes())
            .await
            .unwrap();
        let answer = receive(&mut stream).await.text();
        assert!(answer.starts_with("408 Request Timeout\n"), "{answer}");
    })
    .await;
}

const EVENT_BYTES: usize = 100_000;
/// One more than a body may have without taking of what all share.
const BEGUN_BYTES: usize = 64 * 1024 + 1;

/// A client that has begun to send an event.
async fn begin(relay: &TestRelay, bucket: &str, token: &str) -> TcpStream {
    let mut stream = TcpStream::connect(relay.api).await.unwrap();
    let head = format!(
        "POST /record HTTP/1.1\r\nHost: relay\r\nRF-BUCKET: {bucket}\r\n\
         Authorization: Bearer {token}\r\nContent-Length: {EVENT_BYTES}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all("x".repeat(BEGUN_BYTES).as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn who_holds_on_to_memory_with_one_token_holds_up_no_other() {
    let two_tokens = |config: &mut RelayConfig| {
        config.buckets.get_mut("b").unwrap().auth = Secret::new("other");
        config.requests.max_body_bytes = EVENT_BYTES;
        // Two such bodies.
        config.requests.body_memory_bytes = 256 * 1024;
    };
    with_config(two_tokens, async |relay| {
        let mut slow = [begin(relay, "a", "token").await, begin(relay, "a", "token").await];
        let [one, other] = &mut slow;
        let refused = tokio::select! {
            answer = receive(one) => answer.text(),
            answer = receive(other) => answer.text(),
        };
        assert!(
            refused.starts_with("429 ") && refused.contains("limits.bodyMemoryBytes"),
            "{refused}"
        );
        let mut stream = begin(relay, "b", "other").await;
        stream.write_all("x".repeat(EVENT_BYTES - BEGUN_BYTES).as_bytes()).await.unwrap();
        assert_eq!(receive(&mut stream).await.text(), RECORDED);
        drop(slow);
    })
    .await;
}
