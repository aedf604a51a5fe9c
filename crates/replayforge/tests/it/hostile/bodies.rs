//! Bodies of all kinds and framings.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::http::request;
use crate::support::stack::Stack;
use crate::support::wire::Wire;

use super::{replay, replay_bytes};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn any_bytes_arrive() {
    let stack = Stack::start();
    let every_byte: Vec<u8> = (0..=255).collect();
    let bodies: [&[u8]; 13] = [
        b"",
        b"\0",
        b"\0\0\0text\0",
        &every_byte,
        b"\xff\xfe\xfd",
        b"text and one bad byte \x80",
        b"\xed\xa0\x80 half of a surrogate pair",
        "\u{feff}a byte order mark, \u{2028}\u{2029}\u{10ffff}".as_bytes(),
        b"{\"quotes\": \"\\\"\\\\\\u0000\", \"nested\": \"{\\\"a\\\":1}\"}",
        b"line\r\nline\nline\r\n\r\n",
        b"POST /smuggled HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"aGVsbG8=",
        b"\\ud800",
    ];
    for body in bodies {
        let received = replay(&stack, "POST", "/b", &[], body);
        assert_eq!(received.body, body);
        assert_eq!(
            received.header("content-length"),
            Some(body.len().to_string()),
            "also an empty POST says so"
        );
    }
}

#[test]
fn three_random_megabytes_arrive() {
    let stack = Stack::start();
    let mut rng = fastrand::Rng::with_seed(7);
    let body: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(3_000_000).collect();
    let received = replay(&stack, "PUT", "/large", &[], &body);
    assert!(received.body == body, "{} bytes came, and others", received.body.len());
}

#[test]
fn a_compressed_body_stays_as_it_is() {
    let stack = Stack::start();
    let body = gzip("the same again and again ".repeat(1000).as_bytes());
    let received = replay(
        &stack,
        "POST",
        "/gz",
        &[("Content-Encoding", b"gzip"), ("Content-Type", b"text/plain")],
        &body,
    );
    assert_eq!(received.body, body);
    assert_eq!(received.header("content-encoding").as_deref(), Some("gzip"));
}

#[test]
fn chunks_become_one_body_with_its_length() {
    let stack = Stack::start();
    let head = "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n";
    let chunks = "5\r\nhello\r\n1;name=value\r\n \r\n00006\r\nworld!\r\n0\r\nX-T: dropped\r\n\r\n";
    let received = replay_bytes(&stack, format!("{head}{chunks}").as_bytes());
    assert_eq!(received.text(), "hello world!");
    assert_eq!(received.header("content-length").as_deref(), Some("12"));
    assert!(received.values("transfer-encoding").is_empty() && received.values("x-t").is_empty());
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let stack = Stack::start();
    let mut wire = Wire::connect(stack.ports.proxy);
    let head = b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(wire.exchange(head).status(), 100);
    assert_eq!(wire.exchange(b"hello").text(), "Request received");
    let received = stack.target.wait_for(1);
    assert_eq!((received[0].text().as_str(), received[0].header("expect")), ("hello", None));
}

#[test]
fn a_request_in_two_frames_is_refused_or_read_by_one() {
    let stack = Stack::start();
    // The classics of request smuggling: whoever believes the other length finds a second request.
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let attacks = [
        format!(
            "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
            5 + smuggled.len()
        ),
        format!(
            "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: {}\r\n\r\nhello{smuggled}",
            5 + smuggled.len()
        ),
        format!("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello{smuggled}"),
        format!("POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n{smuggled}"),
        format!(
            "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!(
            "POST /a HTTP/1.1\r\nHost: x\r\nX: 1\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
        ),
    ];
    for attack in &attacks {
        let mut wire = Wire::connect(stack.ports.proxy);
        wire.send(attack.as_bytes());
        wire.finish();
        let status = wire.answer().status();
        assert!(status == 200 || status == 400, "{status}: {attack}");
    }
    // What is in the proxy by now stands before this one.
    assert_eq!(
        Wire::connect(stack.ports.proxy).exchange(&request("POST", "/last", &[], b"")).status(),
        200
    );
    let is_last = |message: &crate::support::http::Message| message.target() == "/last";
    crate::support::wait::eventually("the last", crate::support::wait::SOON, || {
        stack.target.requests().iter().any(is_last)
    });
    let smuggled =
        stack.target.requests().iter().filter(|message| message.target() == "/smuggled").count();
    assert_eq!(smuggled, 0, "a part of one request became another: {:#?}", stack.target.requests());
}
