//! Programs of the original, byte for byte as Go's HTTP client writes them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{TestRelay, with_relay};

/// Sends a request as it is and returns the answer as it is, but for the date.
async fn speak(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.replace('\n', "\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    loop {
        answer.push(stream.read_u8().await.expect("an answer"));
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        if body.len() == length.parse::<usize>().unwrap() {
            let lines = text.split("\r\n").filter(|line| !line.starts_with("date: "));
            return lines.collect::<Vec<_>>().join("\n");
        }
    }
}

const RECORD: &str = r#"POST /record-batch HTTP/1.1
Host: relay.example:8081
User-Agent: Go-http-client/1.1
Content-Length: 49
Authorization: Bearer token
Content-Type: application/json
Rf-Buckets: a, b
Rf-Env-Name: prod
Rf-Hostname: web-1
Accept-Encoding: gzip

["{\"method\":\"POST\",\"body\":\"\u003c\"}","x"]"#;

const PULL: &str = "GET /first-batch?limit=100 HTTP/1.1
Host: relay.example:8081
User-Agent: Go-http-client/1.1
Authorization: Bearer token
Rf-Bucket: a
Rf-Env-Name: prod
Rf-Hostname: player-1
Accept-Encoding: gzip

";

const ACKNOWLEDGE: &str = r#"DELETE /acknowledge-batch HTTP/1.1
Host: relay.example:8081
User-Agent: Go-http-client/1.1
Content-Length: 17
Authorization: Bearer token
Content-Type: application/json
Rf-Bucket: a
Accept-Encoding: gzip

{"ids":["1","2"]}"#;

const NODE_INFO: &str = r#"POST /node-info HTTP/1.1
Host: relay.example:8081
User-Agent: Go-http-client/1.1
Content-Length: 25
Authorization: Bearer token
Rf-Bucket: a
Rf-Hostname: web-1
Accept-Encoding: gzip

{"memoryProcess":1048576}"#;

const RECORDED: &str = "HTTP/1.1 200 OK
accept-encoding: zstd, gzip
content-length: 0

";

const PULLED: &str = r#"HTTP/1.1 200 OK
content-type: application/json
content-length: 82

[{"id":1,"content":"{\"method\":\"POST\",\"body\":\"<\"}"},{"id":2,"content":"x"}]"#;

const ACKNOWLEDGED: &str = "HTTP/1.1 200 OK
content-type: text/plain; charset=utf-8
content-length: 21

2 events acknowledged";

const NOT_THERE: &str = r#"HTTP/1.1 404 Not Found
content-type: application/json
content-length: 41

{"error":"none of these events is there"}"#;

const EMPTY: &str = "HTTP/1.1 404 Not Found
content-type: application/json
content-length: 2

[]";

const TOLD: &str = "HTTP/1.1 200 OK
content-length: 0

";

/// One connection after another request, as Go keeps it.
async fn check(relay: &TestRelay, exchanges: &[(&str, &str)]) {
    let mut stream = TcpStream::connect(relay.api).await.unwrap();
    for (request, expected) in exchanges {
        assert_eq!(&speak(&mut stream, request).await, expected);
    }
}

#[tokio::test]
async fn an_old_proxy_and_an_old_player_notice_nothing() {
    with_relay(async |relay| {
        check(relay, &[(PULL, EMPTY), (RECORD, RECORDED), (NODE_INFO, TOLD)]).await;
        // Reading does not remove, and several readers see the same.
        check(relay, &[(PULL, PULLED), (PULL, PULLED)]).await;
        check(
            relay,
            &[(PULL, PULLED), (ACKNOWLEDGE, ACKNOWLEDGED), (ACKNOWLEDGE, NOT_THERE), (PULL, EMPTY)],
        )
        .await;
        let other_bucket = PULL.replace("Rf-Bucket: a", "Rf-Bucket: b");
        check(relay, &[(&other_bucket, PULLED)]).await;
    })
    .await;
}
