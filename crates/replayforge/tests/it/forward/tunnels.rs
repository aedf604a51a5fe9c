//! Upgrades are tunnels, each side of which waits for the other; what is no upgrade is a request as any other.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::json;

use super::rig::{Rig, Upstream, ok};
use crate::support::http::Message;
use crate::support::wait::let_pass;

#[test]
fn a_websocket_is_a_tunnel() {
    let upstream = Upstream::start(|stream| {
        let head = Message::read_head(stream)?.expect("a handshake");
        let told = ["connection", "upgrade", "sec-websocket-key"]
            .map(|name| head.header(name).unwrap_or_default());
        assert_eq!(told, ["upgrade", "websocket", "dGhlIHNhbXBsZSBub25jZQ=="]);
        // The first frame comes with the handshake, as servers may send it.
        stream.get_mut().write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x02hi",
        )?;
        let mut frame = [0; 4];
        while stream.read_exact(&mut frame).is_ok() {
            stream.get_mut().write_all(&frame)?;
        }
        Ok(())
    });
    // Shorter than the silence below: a tunnel knows no requests that could be too slow.
    let rig = Rig::start(
        upstream.port,
        &json!({ "captureResponse": true, "requestTimeout": "5s", "idleTimeout": "5s" }),
    );
    let mut wire = rig.connect();
    wire.send(b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    let answer = wire.answer();
    assert_eq!((answer.status(), answer.header("upgrade").as_deref()), (101, Some("websocket")));
    assert_eq!(answer.header("connection").as_deref(), Some("upgrade"));
    assert_eq!(wire.read(4), b"\x81\x02hi");
    for round in 0..3_u8 {
        if round == 1 {
            let_pass(Duration::from_secs(6));
        }
        let frame = [0x81, 2, b'a', b'0' + round];
        wire.send(&frame);
        assert_eq!(wire.read(4), frame);
    }
    let event = rig.event("/chat");
    assert_eq!(event["response"]["status"], 101);
    assert_eq!(event["headers"]["Sec-Websocket-Version"], json!(["13"]));
    // The client's end ends the tunnel; a stop of the proxy, too.
    drop(wire);
    let mut second = rig.connect();
    second.send(b"GET /chat2 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    assert_eq!(second.answer().status(), 101);
    assert_eq!(second.read(4), b"\x81\x02hi");
    drop(rig);
    assert_eq!(second.read_rest(), b"");
}

#[test]
fn an_upgrade_too_many_is_refused_and_the_copy_says_so() {
    let upstream = Upstream::start(|stream| {
        Message::read_head(stream)?;
        stream.get_mut().write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: upgrade\r\n\r\n",
        )?;
        // The tunnel stays until the other end goes.
        stream.read_exact(&mut [0])
    });
    let rig = Rig::start(upstream.port, &json!({ "captureResponse": true, "maxConnections": 1 }));
    let ask = |path: &str| {
        let mut wire = rig.connect();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n"
        );
        let status = wire.exchange(head.as_bytes()).status();
        (status, wire)
    };
    let (status, _tunnel) = ask("/first");
    assert_eq!(status, 101);
    assert_eq!(ask("/second").0, 503);
    let event = rig.event("/second");
    let answer = &event["response"];
    assert_eq!((&answer["status"], &answer["generated"]), (&json!(503), &json!(true)), "{event}");
}

/// More than the buffers of the system take on the way.
const FLOOD: usize = 64 * 1024 * 1024;

#[test]
fn a_tunnel_waits_for_a_client_that_does_not_read() {
    let upstream = Upstream::start(|stream| {
        Message::read_head(stream)?;
        stream.get_mut().write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: upgrade\r\n\r\n",
        )?;
        stream.get_mut().write_all(&vec![b'x'; FLOOD])
    });
    let rig = Rig::start(upstream.port, &json!({ "clientTimeout": "200ms" }));
    let mut wire = rig.connect();
    let answer = wire
        .exchange(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
    assert_eq!(answer.status(), 101);
    let_pass(Duration::from_secs(1));
    assert_eq!(wire.read(FLOOD).len(), FLOOD);
}

#[test]
fn a_tunnel_waits_for_an_upstream_that_does_not_read() {
    let upstream = Upstream::start(|stream| {
        Message::read_head(stream)?;
        stream.get_mut().write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: upgrade\r\n\r\nearly",
        )?;
        let_pass(Duration::from_secs(6));
        stream.read_exact(&mut vec![0; FLOOD])?;
        stream.get_mut().write_all(b"late")
    });
    // Shorter than that, and long enough for its answer.
    let rig = Rig::start(upstream.port, &json!({ "upstreamTimeout": "5s" }));
    let mut wire = rig.connect();
    let answer = wire
        .exchange(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
    assert_eq!(answer.status(), 101);
    wire.send(&vec![b'x'; FLOOD]);
    assert_eq!(wire.read(9), b"earlylate");
}

#[test]
fn an_upgrade_that_is_refused_is_an_answer_and_http2_is_not_asked_for() {
    let upstream = Upstream::answering(|request| match request.header("upgrade") {
        Some(protocol) => {
            let head = format!(
                "HTTP/1.1 426 Upgrade Required\r\nUpgrade: {protocol}\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n"
            );
            head.into_bytes()
        }
        None => ok(b"plain"),
    });
    let rig = Rig::start(upstream.port, &json!({}));
    let mut wire = rig.connect();
    let refused = wire
        .exchange(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
    assert_eq!((refused.status(), refused.header("upgrade").as_deref()), (426, Some("other")));
    for protocols in ["h2c", "other, H2C", "other\r\nUpgrade: h2c"] {
        let h2c = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocols}\r\nHTTP2-Settings: AAM\r\n\r\n"
        );
        assert_eq!(wire.exchange(h2c.as_bytes()).text(), "plain", "{protocols}");
    }
    assert_eq!(wire.exchange(b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n").status(), 405);
    let old = b"GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n";
    assert_eq!(rig.connect().exchange(old).text(), "plain", "HTTP/1.0 knows no upgrades");
}
