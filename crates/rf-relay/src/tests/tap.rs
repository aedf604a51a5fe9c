//! `GET /tap`.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{AUTH, TestRelay, with_relay};

/// A connection that taps the bucket `a`; the head of the answer has come.
async fn tap(relay: &TestRelay) -> TcpStream {
    let mut stream = TcpStream::connect(relay.api).await.unwrap();
    let head = format!("GET /tap HTTP/1.1\r\nHost: relay\r\nRF-BUCKET: a\r\n{AUTH}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson"), "{head}");
    stream
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        text.push(char::from(stream.read_u8().await.expect("more to come")));
    }
    text
}

#[tokio::test]
async fn a_tap_shows_what_comes_in_and_takes_nothing() {
    with_relay(async |relay| {
        relay.record(r#"["before"]"#).await;
        let mut first = tap(relay).await;
        let mut second = tap(relay).await;
        relay.record(r#"["one","t\"wo"]"#).await;
        for stream in [&mut first, &mut second] {
            let shown = read_until(stream, "\\\"wo\"}\n").await;
            assert!(shown.contains("\"content\":\"one\"}") && !shown.contains("before"), "{shown}");
        }
        drop(first);
        assert_eq!(relay.pull("a").await.matches("\"id\":").count(), 3);
        relay.record(r#"["three"]"#).await;
        read_until(&mut second, "\"three\"}\n").await;
    })
    .await;
}

#[tokio::test]
async fn a_tap_needs_the_token_and_a_place() {
    with_relay(async |relay| {
        assert!(
            relay
                .ask("GET /tap\nRF-BUCKET: a\nAuthorization: Bearer no", "")
                .await
                .starts_with("401 ")
        );
        let mut open = Vec::new();
        for _ in 0..16 {
            open.push(tap(relay).await);
        }
        let full = relay.ask(&format!("GET /tap\nRF-BUCKET: a\n{AUTH}"), "").await;
        assert!(
            full.starts_with("429 ") && full.contains("too many clients are tapping"),
            "{full}"
        );
        relay.record(r#"["x"]"#).await;
        read_until(&mut open[15], "\"x\"}\n").await;
    })
    .await;
}
