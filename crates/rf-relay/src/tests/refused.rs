//! Requests that are refused whatever they hold.

use rf_core::config::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{AUTH, with_config, with_relay};
use crate::store::memory::Fault;

const REFUSED: &str = "401 Unauthorized\ncontent-type: application/json\nwww-authenticate: Bearer";
const REFUSED_BODY: &str = "\n\n{\"error\":\"unknown bucket or wrong token\"}";

#[tokio::test]
async fn nothing_is_written_unless_the_token_fits_every_bucket() {
    let other_token = |config: &mut crate::config::RelayConfig| {
        config.buckets.last_entry().unwrap().get_mut().auth = Secret::new("other");
    };
    with_config(other_token, async |relay| {
        for buckets in ["a,b", "b,a", "a,unknown", "unknown", ""] {
            let head = format!("POST /record-batch\nRF-BUCKETS: {buckets}\n{AUTH}");
            let expected = format!("{REFUSED}\naccept-encoding: zstd, gzip{REFUSED_BODY}");
            assert_eq!(relay.ask(&head, r#"["x"]"#).await, expected, "{buckets}");
        }
        assert_eq!(relay.pull("a").await, "[]");
    })
    .await;
}

#[tokio::test]
async fn a_head_full_of_names_is_one_refusal_and_names_none_of_them() {
    with_relay(async |relay| {
        let names: String = (0..9_000).map(|n| format!("n{n},")).collect();
        for head in [format!("RF-BUCKETS: {names}"), format!("RF-BUCKETS: a,{names}\n{AUTH}")] {
            let answer = relay.ask(&format!("GET /first-batch\n{head}"), "").await;
            assert_eq!(answer, format!("{REFUSED}{REFUSED_BODY}"));
        }
        // As many repeats are one name.
        let head = format!("GET /first-batch\nRF-BUCKETS: {}\n{AUTH}", "a,".repeat(30_000));
        let answer = relay.ask(&head, "").await;
        assert!(answer.starts_with("404 ") && answer.ends_with("[]"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn every_endpoint_wants_a_token_and_tells_nothing_without() {
    with_relay(async |relay| {
        for endpoint in [
            "POST /record-batch",
            "POST /record",
            "GET /first-batch",
            "GET /first-batch?limit=bad",
            "GET /first",
            "DELETE /acknowledge-batch",
            "DELETE /acknowledge?id=1",
            "POST /release-batch",
            "POST /extend-lease",
            "POST /node-info",
        ] {
            for head in [
                "RF-BUCKET: a\nAuthorization: Bearer wrong",
                "RF-BUCKET: unknown\nAuthorization: Bearer token",
            ] {
                let answer = relay.ask(&format!("{endpoint}\n{head}"), "not json").await;
                let without = answer.replace("\naccept-encoding: zstd, gzip", "");
                assert_eq!(without, format!("{REFUSED}{REFUSED_BODY}"), "{endpoint}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn refused_tokens_are_counted() {
    with_relay(async |relay| {
        for head in [
            "RF-BUCKET: a\nAuthorization: Bearer wrong",
            "RF-BUCKET: unknown\nAuthorization: Bearer token",
            "RF-BUCKET: a",
        ] {
            let answer = relay.ask(&format!("GET /first-batch\n{head}"), "").await;
            assert!(answer.starts_with("401 "), "{answer}");
        }
        // Neither what is taken nor what is refused for another reason.
        relay.record(r#"["x"]"#).await;
        relay.ask(&format!("POST /record-batch\nRF-BUCKET: a\n{AUTH}"), "not json").await;
        let metrics = relay.ask_status("GET /metrics").await;
        let line = "\nreplayforge_unauthorized_requests_total 3\n";
        assert!(metrics.contains(line), "{metrics}");
    })
    .await;
}

#[tokio::test]
async fn calls_about_one_bucket_refuse_two() {
    with_relay(async |relay| {
        let answer = relay.ask(&format!("GET /first-batch\nRF-BUCKETS: a,b\n{AUTH}"), "").await;
        assert!(answer.starts_with("400 ") && answer.contains("name it in RF-BUCKET"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn other_methods_and_paths() {
    with_relay(async |relay| {
        let refused = |status: &str, error: &str| {
            format!("{status}\ncontent-type: application/json\n\n{{\"error\":\"{error}\"}}")
        };
        for (request, allow) in [
            ("GET /record-batch", "POST"),
            ("POST /first-batch", "GET"),
            ("POST /first", "GET"),
            ("POST /tap", "GET"),
            ("POST /acknowledge-batch", "DELETE"),
        ] {
            let answer = relay.ask(request, "").await;
            let expected = refused("405 Method Not Allowed", "method not allowed");
            assert_eq!(answer.replace(&format!("\nallow: {allow}"), ""), expected, "{request}");
        }
        assert_eq!(relay.ask("GET /statusz", "").await, refused("404 Not Found", "no such path"));
        let mut stream = TcpStream::connect(relay.api).await.unwrap();
        let head = format!(
            "HEAD /first-batch?lease=1m HTTP/1.1\r\nHost: relay\r\nRF-BUCKET: a\r\n{AUTH}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 405");
    })
    .await;
}

#[tokio::test]
async fn a_store_that_does_not_work_is_no_secret_but_its_cause_is() {
    with_relay(async |relay| {
        relay.memory.break_bucket("a", Fault::Broken);
        let unavailable = "{\"error\":\"the bucket is not available, try again later\"}";
        for (endpoint, body) in [
            ("POST /record-batch", "[\"x\"]"),
            ("GET /first-batch?wait=1m", ""),
            ("DELETE /acknowledge?id=1", ""),
            ("POST /release-batch", "{\"ids\":[1]}"),
            ("POST /extend-lease", "{\"lease\":\"1\",\"seconds\":1}"),
        ] {
            let answer = relay.ask(&format!("{endpoint}\nRF-BUCKET: a\n{AUTH}"), body).await;
            let (head, body) = answer.split_once("\n\n").unwrap();
            assert!(
                head.starts_with("503 Service Unavailable\n") && head.contains("retry-after: 1"),
                "{answer}"
            );
            assert_eq!(body, unavailable);
        }
    })
    .await;
}

#[tokio::test]
async fn a_panic_costs_one_connection() {
    with_relay(async |relay| {
        relay.memory.break_bucket("a", Fault::Panic);
        let mut stream = TcpStream::connect(relay.api).await.unwrap();
        let body = "[\"x\"]";
        let head = format!("POST /record-batch HTTP/1.1\r\nHost: relay\r\nRF-BUCKET: a\r\n{AUTH}\r\nContent-Length: 5\r\n\r\n");
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        assert_eq!(stream.read(&mut [0; 100]).await.unwrap(), 0, "closed without an answer");
        relay.memory.break_bucket("a", None);
        relay.record(body).await;
    })
    .await;
}
