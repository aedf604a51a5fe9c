//! The client against a raw socket: what leaves is what was asked for.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::Full;
use rf_net::body::read_capped;
use rf_net::client::{Client, ClientError, ClientOptions};
use rf_net::listen::listen;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const MINUTE: Duration = Duration::from_secs(60);

fn client() -> Client {
    Client::new(&ClientOptions::default()).unwrap()
}

fn get(url: &str) -> Request<Full<Bytes>> {
    Request::builder().uri(url).body(Full::default()).unwrap()
}

fn url(listener: &TcpListener, path_and_query: &str) -> String {
    format!("http://{}{path_and_query}", listener.local_addr().unwrap())
}

/// Reads a request up to the end of its head, and `body_bytes` more.
async fn read_request(stream: &mut TcpStream, body_bytes: usize) -> Vec<u8> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    let mut body = vec![0; body_bytes];
    stream.read_exact(&mut body).await.unwrap();
    request.extend(body);
    request
}

/// Sends a request and returns its bytes as a raw server sees them, with the server's address blanked out.
async fn bytes_of(
    build: impl FnOnce(&TcpListener) -> Request<Full<Bytes>>,
    body_bytes: usize,
) -> String {
    let listener = listen("127.0.0.1", 0).unwrap();
    let request = build(&listener);
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream, body_bytes).await;
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        request
    };
    let client = client();
    let (request, answer) = tokio::join!(serve, client.send(request, MINUTE));
    assert_eq!(answer.unwrap().status(), 204);
    let text: String = request.iter().map(|&byte| char::from(byte)).collect();
    text.replace(&listener.local_addr().unwrap().to_string(), "HOST")
}

#[tokio::test]
async fn the_answer_of_a_server_that_closes_within_a_request_is_read() {
    // Which of its two ends a connection looks at first is left to chance.
    for _ in 0..10 {
        let listener = listen("127.0.0.1", 0).unwrap();
        let body = Full::from(vec![b'x'; 8 * 1024 * 1024]);
        let request = Request::post(url(&listener, "/")).body(body).unwrap();
        let refuse = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream, 0).await;
            let answer = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            // With what it has not read: its kernel sends a reset.
            drop(stream);
        };
        let client = client();
        let ((), answer) = tokio::join!(refuse, client.send(request, MINUTE));
        assert_eq!(answer.unwrap().status(), 401);
    }
}

async fn check_target(path_and_query: &str) {
    let sent = bytes_of(|listener| get(&url(listener, path_and_query)), 0).await;
    assert_eq!(sent, format!("GET {path_and_query} HTTP/1.1\r\nhost: HOST\r\n\r\n"));
}

#[tokio::test]
async fn path_and_query_are_sent_byte_for_byte() {
    for target in [
        "/",
        "/a%2Fb/%2e%2E/%zz",
        "//double//slashes/",
        "/a/../b/./c",
        "/empty?",
        "/?",
        "/q?a=1&a=2&b=&&c==%20+&d",
        "/q?u=http://x/?y=1",
        "/semi;colon=1,2!$'()*:@[]|{}\"^~",
    ] {
        check_target(target).await;
    }
}

#[tokio::test]
async fn any_method_and_all_headers_are_sent_as_given() {
    let sent = bytes_of(
        |listener| {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("kept.example"));
            headers.append("x-many", HeaderValue::from_static("one"));
            headers.append("x-many", HeaderValue::from_static(""));
            headers.append("x-many", HeaderValue::from_bytes(b"latin-\xe9").unwrap());
            let method = Method::from_bytes(b"M-SEARCH").unwrap();
            let mut request = Request::builder().method(method).uri(url(listener, "/x"));
            *request.headers_mut().unwrap() = headers;
            request.body(Full::from("a\0b")).unwrap()
        },
        3,
    )
    .await;
    let expected = "M-SEARCH /x HTTP/1.1\r\nhost: kept.example\r\nx-many: one\r\nx-many: \r\nx-many: latin-\u{e9}\r\n\
                    content-length: 3\r\n\r\na\0b";
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn an_empty_post_says_so() {
    let post =
        |listener: &TcpListener| Request::post(url(listener, "/x")).body(Full::default()).unwrap();
    assert_eq!(
        bytes_of(post, 0).await,
        "POST /x HTTP/1.1\r\ncontent-length: 0\r\nhost: HOST\r\n\r\n"
    );
}

#[tokio::test]
async fn connections_are_used_again_and_redirects_are_answers() {
    let listener = listen("127.0.0.1", 0).unwrap();
    let client = client();
    let serve = async {
        // One connection: a second dial would never be accepted.
        let (mut stream, _) = listener.accept().await.unwrap();
        for _ in 0..2 {
            read_request(&mut stream, 0).await;
            let answer =
                b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 4\r\n\r\nbody";
            stream.write_all(answer).await.unwrap();
        }
    };
    let ask = async {
        for _ in 0..2 {
            let answer = client.send(get(&url(&listener, "/x")), MINUTE).await.unwrap();
            assert_eq!(answer.status(), 302);
            assert_eq!(read_capped(answer.into_body(), 10, MINUTE).await.unwrap(), "body");
        }
    };
    tokio::join!(serve, ask);
}

#[tokio::test]
async fn errors_are_told_apart_and_name_the_host_only() {
    let listener = listen("127.0.0.1", 0).unwrap();
    let host = listener.local_addr().unwrap();
    let secret = url(&listener, "/secret?token=hush");

    let timeout =
        client().send(get(&secret), Duration::from_millis(1)).await.expect_err("nobody answers");
    assert_eq!(timeout.to_string(), format!("no answer from {host} within 1ms"));

    let serve = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"SSH-2.0-OpenSSH\r\n\r\n").await.unwrap();
        }
    };
    let client = client();
    let exchange = tokio::select! {
        () = serve => unreachable!("serves for ever"),
        answer = client.send(get(&secret), MINUTE) => answer.expect_err("not HTTP"),
    };
    assert!(matches!(exchange, ClientError::Exchange { .. }), "{exchange:?}");
    assert!(
        exchange.to_string().starts_with(&format!("the request to {host} failed: ")),
        "{exchange}"
    );

    // The port is taken, so that no server of another test is there.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let host = taken.local_addr().unwrap();
    let secret = format!("http://{host}/secret?token=hush");
    let connect = client.send(get(&secret), MINUTE).await.expect_err("nobody listens");
    assert!(matches!(connect, ClientError::Connect { .. }), "{connect:?}");
    assert!(connect.to_string().starts_with(&format!("cannot connect to {host}: ")), "{connect}");
    assert!(!format!("{exchange:?}{connect:?}").contains("hush"));
}

#[tokio::test]
async fn a_server_without_tls_is_said_to_be_one() {
    let listener = listen("127.0.0.1", 0).unwrap();
    let host = listener.local_addr().unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        // Held until the client has read it.
        std::future::pending::<()>().await;
    };
    let client = client();
    let error = tokio::select! {
        () = serve => unreachable!("serves for ever"),
        answer = client.send(get(&format!("https://{host}/")), MINUTE) => answer.expect_err("no TLS"),
    };
    assert_eq!(
        error.to_string(),
        format!(
            "cannot connect to {host}: no TLS is spoken there: is it http:// instead of https://?"
        )
    );
}

#[tokio::test]
async fn a_request_needs_an_absolute_http_url() {
    for url in ["/x", "ftp://example.org/x"] {
        let error = client().send(get(url), MINUTE).await.expect_err("no target");
        assert!(matches!(error, ClientError::NoTarget), "{error:?}");
    }
}
