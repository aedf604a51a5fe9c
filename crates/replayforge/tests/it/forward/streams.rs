//! Bodies are not held: each side gets a piece before the other one has sent the next.

use std::io::{ErrorKind, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::rig::{Rig, Upstream, ok, read_request, read_until, send_rest};
use crate::support::http::Message;
use crate::support::wait::{SOON, eventually_some, let_pass};
use crate::support::wire::Wire;

/// The test's end and the upstream's end of a wish and its fulfilment.
fn signals() -> (Sender<()>, Mutex<Receiver<()>>) {
    let (sender, receiver) = channel();
    (sender, Mutex::new(receiver))
}

fn wait(signal: &Mutex<Receiver<()>>) {
    signal.lock().recv_timeout(SOON).expect("the other side goes on");
}

/// Reads a head, and nothing of the body.
fn read_head(wire: &mut Wire) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(wire.read(1));
    }
}

#[test]
fn server_sent_events_come_one_by_one() {
    let (go_on, wanted) = signals();
    let upstream = Upstream::start(move |stream| {
        read_request(stream)?;
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for round in 0..5 {
            stream.get_mut().write_all(format!("9\r\ndata: {round}\n\n\r\n").as_bytes())?;
            // Nothing more is sent before the client has this one.
            wait(&wanted);
        }
        stream.get_mut().write_all(b"0\r\n\r\n")
    });
    // A stream outlives every limit that is about waiting for a request. Request and head come well in time, also on a machine
    // that stands still for a while.
    let short = json!({ "captureResponse": true, "idleTimeout": "5s", "requestTimeout": "5s", "upstreamTimeout": "5s" });
    let rig = Rig::start(upstream.port, &short);
    let mut wire = rig.connect();
    wire.send(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
    read_head(&mut wire);
    for round in 0..5 {
        assert_eq!(wire.read(14), format!("9\r\ndata: {round}\n\n\r\n").as_bytes());
        if round == 2 {
            let_pass(Duration::from_secs(6));
        }
        go_on.send(()).unwrap();
    }
    assert_eq!(wire.read(5), b"0\r\n\r\n");
    assert_eq!(
        rig.event("/events")["response"]["body"],
        "data: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n"
    );
}

#[test]
fn the_copy_tells_of_the_answer_and_its_times_only_if_it_is_asked_to() {
    const PAUSE: Duration = Duration::from_millis(200);
    let upstream = Upstream::start(|stream| {
        while read_request(stream)?.is_some() {
            let_pass(PAUSE);
            stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")?;
            let_pass(PAUSE);
            stream.get_mut().write_all(b"later")?;
        }
        Ok(())
    });
    let copy = |params: serde_json::Value| {
        let rig = Rig::start(upstream.port, &params);
        let answer = rig.connect().exchange(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(answer.text(), "firstlater");
        rig.event("/a")
    };
    let event = copy(json!({ "captureResponse": true }));
    assert_eq!(event["response"]["body"], "firstlater");
    let times = ["headUs", "totalUs"].map(|key| event["timings"][key].as_u64().expect(key));
    let pause = u64::try_from(PAUSE.as_micros()).unwrap();
    assert!(times[0] >= pause && times[1] >= 2 * pause && times[0] < times[1], "{times:?}");
    let event = copy(json!({}));
    assert_eq!((event.get("response"), event.get("timings")), (None, None), "{event}");
}

#[test]
fn an_upload_reaches_the_upstream_piece_by_piece() {
    let (got, seen) = signals();
    let got = Mutex::new(got);
    let upstream = Upstream::start(move |stream| {
        Message::read_head(stream)?;
        let mut piece = [0; 5];
        for _ in 0..3 {
            stream.read_exact(&mut piece)?;
            got.lock().send(()).unwrap();
        }
        stream.get_mut().write_all(&ok(&piece))
    });
    let rig = Rig::start(upstream.port, &json!({}));
    let mut wire = rig.connect();
    wire.send(b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n");
    for piece in [b"first", b"secon", b"third"] {
        wire.send(piece);
        wait(&seen);
    }
    assert_eq!(wire.answer().text(), "third");
    assert_eq!(rig.event("/up")["body"], "firstseconthird");
}

#[test]
fn an_upload_goes_on_beside_an_answer_that_has_begun() {
    let upstream = Upstream::start(|stream| {
        Message::read_head(stream)?;
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let mut piece = [0; 5];
        for _ in 0..7 {
            stream.read_exact(&mut piece)?;
            stream.get_mut().write_all(&[&b"5\r\n"[..], &piece, b"\r\n"].concat())?;
        }
        stream.get_mut().write_all(b"0\r\n\r\n")?;
        read_request(stream).map(drop)
    });
    // Each piece comes well in time, also on a machine that stands still for a while; all of them together take longer.
    let rig = Rig::start(upstream.port, &json!({ "requestTimeout": "5s" }));
    let mut wire = rig.connect();
    wire.send(b"POST /both HTTP/1.1\r\nHost: x\r\nContent-Length: 35\r\n\r\n");
    read_head(&mut wire);
    for _ in 0..7 {
        let_pass(Duration::from_millis(800));
        wire.send(b"piece");
        assert_eq!(wire.read(10), b"5\r\npiece\r\n");
    }
    assert_eq!(wire.read(5), b"0\r\n\r\n");
    // The head of the next request may not take longer.
    wire.send(b"GET /slow");
    assert!(wire.is_closed_by_peer());
}

#[test]
fn a_client_that_is_refused_while_it_sends_may_go_on_and_gets_the_answer() {
    let upstream = Upstream::start(|stream| {
        let head = Message::read_head(stream)?.expect("a request");
        if head.target() == "/late" {
            stream.read_exact(&mut [0; 100_000])?;
        }
        stream.get_mut().write_all(
            b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge",
        )
    });
    let rig = Rig::start(upstream.port, &json!({ "captureResponse": true }));
    let piece = vec![b'x'; 100_000];
    for path in ["/early", "/late"] {
        let mut wire = rig.connect();
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n");
        let since = Instant::now();
        wire.send(head.as_bytes());
        send_rest(&mut wire, &piece, since);
        let answer = wire.answer();
        assert_eq!((answer.status(), answer.text().as_str()), (413, "large"), "{path}");
        // A reset would break it off, and on many systems take the answer with it.
        for _ in 0..5 {
            let_pass(Duration::from_millis(100));
            send_rest(&mut wire, &piece, since);
        }
        assert!(wire.is_closed_by_peer(), "{path}");
        let event = rig.event(path);
        assert_eq!(event["response"]["status"], 413, "{event}");
        assert_eq!(event["bodyTruncated"], true, "{event}");
    }
}

#[test]
fn the_answer_of_an_upstream_that_closes_within_the_request_is_passed_on() {
    // It reads nothing, so that its end resets the connection while more is being sent.
    let upstream = Upstream::start(|stream| {
        Message::read_head(stream)?;
        stream.get_mut().write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge")
    });
    let rig = Rig::start(upstream.port, &json!({}));
    for round in 0..20 {
        let mut wire = rig.connect();
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGE}\r\n\r\n");
        let since = Instant::now();
        wire.send(head.as_bytes());
        send_rest(&mut wire, &pattern(LARGE), since);
        let answer = wire.answer();
        assert_eq!((answer.status(), answer.text().as_str()), (413, "large"), "{round}");
    }
}

const WAITING: &[u8] =
    b"POST /w HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

#[test]
fn the_client_goes_on_when_the_upstream_says_so() {
    let (go_on, wanted) = signals();
    // Its connection ends with each answer, and may not be used for the next request.
    let last = |body: &[u8]| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
        [&head[..], body].concat()
    };
    let upstream = Upstream::start(move |stream| {
        let head = Message::read_head(stream)?.expect("a request");
        assert_eq!(head.header("expect").as_deref(), Some("100-continue"));
        match head.target() {
            "/w" => {
                wait(&wanted);
                stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                let mut body = [0; 5];
                stream.read_exact(&mut body)?;
                stream.get_mut().write_all(&last(&body))
            }
            "/no" => stream.get_mut().write_all(
                b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            ),
            _ => {
                // It does not know the header, and waits for the body.
                let mut body = [0; 5];
                stream.read_exact(&mut body)?;
                stream.get_mut().write_all(&last(&body))
            }
        }
    });
    let rig = Rig::start(upstream.port, &json!({}));
    let mut wire = rig.connect();
    wire.send(WAITING);
    go_on.send(()).unwrap();
    assert_eq!(wire.answer().status(), 100);
    wire.send(b"hello");
    assert_eq!(wire.answer().text(), "hello");
    // The upstream's own refusal is the first thing that the client hears.
    let refused = String::from_utf8_lossy(WAITING).replace("/w", "/no");
    let (mut wire, status) = eventually_some("an upstream that is asked in time", SOON, || {
        let (mut wire, since) = (rig.connect(), Instant::now());
        let status = wire.exchange(refused.as_bytes()).status();
        // One that takes a second, as on a machine that stands still, is taken for one that does not know the header.
        (status != 100 || since.elapsed() < Duration::from_secs(1)).then_some((wire, status))
    });
    assert_eq!(status, 413);
    assert!(wire.is_closed_by_peer());
    let silent = String::from_utf8_lossy(WAITING).replace("/w", "/silent");
    let mut wire = rig.connect();
    assert_eq!(wire.exchange(silent.as_bytes()).status(), 100);
    wire.send(b"hello");
    assert_eq!(wire.answer().text(), "hello");
}

const LARGE: usize = 3 * 1024 * 1024;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

#[test]
fn large_bodies_pass_whole_and_are_copied_up_to_the_limit() {
    let upstream = Upstream::answering(|request| ok(&request.body));
    let rig = Rig::start(
        upstream.port,
        &json!({ "captureResponse": true, "maxCaptureBytes": "64KiB", "redact": { "keep": ["*"] } }),
    );
    let body = pattern(LARGE);
    let mut wire = rig.connect();
    wire.send(
        format!("POST /large HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes(),
    );
    wire.send(&body);
    assert!(wire.answer().body == body, "every byte comes back");
    let event = rig.event("/large");
    for part in [&event, &event["response"]] {
        assert_eq!((&part["bodyBytes"], &part["bodyTruncated"]), (&json!(LARGE), &json!(true)));
        use base64::Engine;
        let kept = base64::engine::general_purpose::STANDARD
            .decode(part["body"].as_str().unwrap())
            .unwrap();
        assert!(kept == body[..64 * 1024], "{} bytes", kept.len());
    }
}

#[test]
fn a_slow_client_holds_back_nobody_else() {
    let upstream = Upstream::answering(|request| {
        if request.target() == "/large" { ok(&pattern(LARGE)) } else { ok(b"quick") }
    });
    let rig = Rig::start(upstream.port, &json!({ "captureResponse": true }));
    let mut slow: Vec<Wire> = (0..4).map(|_| rig.connect()).collect();
    for wire in &mut slow {
        wire.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
        read_head(wire);
    }
    let mut quick = rig.connect();
    for _ in 0..100 {
        assert_eq!(quick.exchange(b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n").text(), "quick");
    }
    for wire in &mut slow {
        assert!(wire.read(LARGE) == pattern(LARGE), "in the end it has every byte");
    }
}

#[test]
fn a_client_that_sends_no_more_gets_its_answer() {
    let upstream = Upstream::start(|stream| {
        while read_request(stream)?.is_some() {
            // The client's end comes before the answer, and within it.
            let_pass(Duration::from_millis(300));
            stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")?;
            let_pass(Duration::from_millis(300));
            stream.get_mut().write_all(b"later")?;
        }
        Ok(())
    });
    let rig = Rig::start(upstream.port, &json!({ "captureResponse": true }));
    for request in [
        &b"GET /get HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let mut wire = rig.connect();
        wire.send(request);
        wire.finish();
        assert_eq!(wire.answer().text(), "firstlater");
        assert!(wire.is_closed_by_peer());
    }
    assert_eq!(rig.event("/get")["response"]["body"], "firstlater");
    assert_eq!(rig.event("/post")["body"], "hello");
}

#[test]
fn a_client_that_leaves_ends_the_request_at_the_upstream() {
    let (left, seen) = signals();
    let left = Mutex::new(left);
    let upstream = Upstream::start(move |stream| {
        let head = Message::read_head(stream)?.expect("a request");
        if head.target() == "/download" {
            stream.get_mut().write_all(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            )?;
        }
        // Ends when the proxy gives the request up; not when the test has waited for it in vain.
        let end = read_until(stream, b"never").expect_err("nobody sends it");
        if end.kind() != ErrorKind::WouldBlock {
            left.lock().send(()).unwrap();
        }
        Ok(())
    });
    // A client that pauses is no reason here.
    let params = json!({ "captureResponse": true, "requestTimeout": "10m" });
    let rig = Rig::start(upstream.port, &params);
    let mut wire = rig.connect();
    wire.send(b"GET /download HTTP/1.1\r\nHost: x\r\n\r\n");
    read_head(&mut wire);
    // What it has got, the copy has, too.
    assert_eq!(wire.read(10), b"5\r\nhello\r\n");
    drop(wire);
    wait(&seen);
    let event = rig.event("/download");
    assert_eq!(
        (&event["response"]["bodyBytes"], &event["response"]["bodyTruncated"]),
        (&json!(5), &json!(true))
    );
    let mut wire = rig.connect();
    wire.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
    drop(wire);
    wait(&seen);
    let event = rig.event("/upload");
    assert_eq!(
        (&event["body"], &event["bodyTruncated"], &event["bodyBytes"]),
        (&json!("half"), &json!(true), &json!(4))
    );
}

/// Behind trailers hyper asks for nothing more.
#[test]
fn a_body_that_ends_with_trailers_is_captured_whole() {
    let upstream = Upstream::start(|stream| {
        read_until(stream, b"\r\n0\r\n")?;
        stream.get_mut().write_all(
            b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 2\r\n\r\n",
        )
    });
    for declared in ["Trailer: X-Sum\r\n", ""] {
        let rig = Rig::start(upstream.port, &json!({ "captureResponse": true }));
        let mut wire = rig.connect();
        let head = format!(
            "POST /t HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n{declared}Transfer-Encoding: chunked\r\n\r\n"
        );
        wire.send(head.as_bytes());
        wire.send(b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n");
        read_head(&mut wire);
        assert_eq!(wire.read(10), b"5\r\nhello\r\n");
        let event = rig.event("/t");
        for (part, body) in [(&event, "abc"), (&event["response"], "hello")] {
            assert_eq!(part["body"], body, "{event}");
            assert!(part.get("bodyTruncated").is_none(), "{event}");
        }
    }
}
