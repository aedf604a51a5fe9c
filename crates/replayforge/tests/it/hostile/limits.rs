//! Too large, too many, too slow, or no HTTP at all: refused, and nobody else notices.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::support::http::{Kind, request};
use crate::support::load::try_post;
use crate::support::stack::{Stack, TOKEN};
use crate::support::wait::{SOON, eventually, eventually_some, let_pass};
use crate::support::wire::{Wire, call, post};

/// What is cut off later than this may have been cut off by the default of `requestTimeout`, 30 s, and not by the file's.
const BELOW_THE_DEFAULTS: Duration = Duration::from_secs(20);

#[test]
fn a_body_over_the_limit_is_refused() {
    let stack = Stack::with(|configs| {
        configs.proxy["sources"][0]["params"]["maxBodyBytes"] = json!("100KiB");
    });
    let limit = 100 * 1024;
    let body = vec![b'x'; limit + 1];
    let answer = call(stack.ports.proxy, "POST", "/declared", &[], &body);
    assert_eq!(answer.status(), 413);
    assert!(answer.text().contains("102400"), "{}", answer.text());
    let mut chunked =
        b"POST /chunked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..11 {
        chunked.extend(format!("2800\r\n{}\r\n", "y".repeat(0x2800)).as_bytes());
    }
    assert_eq!(Wire::connect(stack.ports.proxy).exchange(&chunked).status(), 413);
    assert_eq!(call(stack.ports.proxy, "POST", "/exactly", &[], &body[..limit]).status(), 200);
    let received = stack.target.wait_for(1);
    assert_eq!((received[0].target(), received[0].body.len()), ("/exactly", limit));
}

#[test]
fn a_refusal_by_declared_length_does_not_wait_for_the_body() {
    let stack = Stack::start();
    let mut wire = Wire::connect(stack.ports.proxy);
    let answer = wire.exchange(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000000\r\n\r\n");
    assert_eq!(answer.status(), 413);
    let mut asking = Wire::connect(stack.ports.proxy);
    let answer = asking.exchange(
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000000\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(answer.status(), 413, "and it is not asked for");
}

#[test]
fn many_large_bodies_share_what_memory_there_is() {
    let mut stack = Stack::with(|configs| {
        let params = &mut configs.proxy["sources"][0]["params"];
        params["maxBodyBytes"] = json!("1MiB");
        params["bodyMemoryBytes"] = json!("1MiB");
        configs.relay["limits"] = json!({"maxBodyBytes": "1MiB", "bodyMemoryBytes": "1MiB"});
    });
    // What goes to the relay here is no request.
    stack.player.expect_error("event moved to the dead letters");
    let token = format!("Bearer {TOKEN}");
    let to_relay = [("Authorization", token.as_str()), ("RF-BUCKETS", "b")];
    let body = "x".repeat(600 * 1024);
    let cases: [(u16, &str, &[(&str, &str)], u16); 2] =
        [(stack.ports.proxy, "/", &[], 503), (stack.ports.relay, "/record", &to_relay, 429)];
    for (port, target, headers, refused) in cases {
        let headers: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let post = |body: &str| call(port, "POST", target, &headers, body.as_bytes());
        let begun = request("POST", target, &headers, body.as_bytes());
        let begin = || {
            let mut slow = Wire::connect(port);
            slow.send(&begun[..begun.len() - 1]);
            slow
        };
        let mut slow = begin();
        let answer = eventually_some("the memory is used up", SOON, || {
            let answer = post(&body);
            if answer.status() == refused {
                return Some(answer);
            }
            // This one came first, and the slow one may have been refused in its place.
            if slow.answer_within(Duration::from_millis(1)).is_some() {
                slow = begin();
            }
            None
        });
        assert!(answer.header("retry-after").is_some());
        assert_eq!(post("small").status(), 200, "a small one takes nothing of it");
        drop(slow);
        eventually("the memory is free again", SOON, || post(&body).status() == 200);
    }
}

#[test]
fn a_flood_of_headers_is_refused() {
    let stack = Stack::start();
    let value = "v".repeat(1000);
    let large: Vec<(String, String)> = (0..90).map(|n| (format!("X-{n}"), value.clone())).collect();
    let many: Vec<(String, String)> =
        (0..5000).map(|n| (format!("X-{n}"), String::new())).collect();
    for headers in [large, many] {
        let headers: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let answer = Wire::connect(stack.ports.proxy).exchange(&request("GET", "/", &headers, b""));
        assert_eq!(answer.status(), 431);
    }
    let target = format!("/{}", "x".repeat(100_000));
    let status =
        Wire::connect(stack.ports.proxy).exchange(&request("GET", &target, &[], b"")).status();
    assert!(status == 414 || status == 431, "{status}");
    post(stack.ports.proxy, "/after", b"");
    assert_eq!(stack.target.wait_for(1)[0].target(), "/after");
}

#[test]
fn what_comes_too_slowly_is_cut_off() {
    let stack = Stack::with(|configs| {
        let params = &mut configs.proxy["sources"][0]["params"];
        params["requestTimeout"] = json!("300ms");
        params["idleTimeout"] = json!("400ms");
    });
    let port = stack.ports.proxy;
    // `started` lies before the connecting: the proxy's clock may run before this thread goes on.
    let check_cut = |what: &str, wire: &mut Wire, started: Instant| {
        assert!(wire.is_closed_by_peer(), "{what}");
        let after = started.elapsed();
        assert!(
            (Duration::from_millis(250)..BELOW_THE_DEFAULTS).contains(&after),
            "{what}: {after:?}"
        );
    };
    let started = Instant::now();
    let mut silent = Wire::connect(port);
    check_cut("a connection that says nothing", &mut silent, started);

    let started = Instant::now();
    let mut half = Wire::connect(port);
    half.send(b"POST / HTTP/1.1\r\nHost: x\r\nX-Lor");
    check_cut("half a head", &mut half, started);

    let started = Instant::now();
    let mut trickling = Wire::connect(port);
    trickling.send(b"POST / HTTP/1.1\r\n");
    while started.elapsed() < BELOW_THE_DEFAULTS && trickling.try_send(b"X-A: b\r\n").is_ok() {
        let_pass(Duration::from_millis(50));
    }
    assert!(
        started.elapsed() < BELOW_THE_DEFAULTS,
        "a head that never ends is cut off while it trickles"
    );

    // Where this thread stands still after connecting, the connection is cut off as one that is silent.
    let status = eventually_some("a slow body is answered", SOON, || {
        let mut slow_body = Wire::connect(port);
        let begun = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhello";
        slow_body.try_send(begun).ok()?;
        Some(slow_body.try_answer(Kind::Answer).ok()?.status())
    });
    assert_eq!(status, 408);

    eventually("a whole request is taken", SOON, || try_post(port, "/after", b""));
    eventually("it arrives", SOON, || stack.target.count() > 0);
    // One whose answer did not come may have arrived, too.
    let requests = stack.target.requests();
    assert!(requests.iter().all(|request| request.target() == "/after"), "{requests:#?}");
}

#[test]
fn what_is_not_http_harms_nobody() {
    let stack = Stack::start();
    let mut rng = fastrand::Rng::with_seed(11);
    let noise: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(5000).collect();
    let garbage: [&[u8]; 9] = [
        b"\r\n\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: ten\r\n\r\n",
        &noise,
    ];
    for bytes in garbage {
        let mut wire = Wire::connect(stack.ports.proxy);
        // It may be cut off before its end.
        drop(wire.try_send(bytes));
        wire.finish();
        if let Ok(answer) = wire.try_answer(Kind::Answer) {
            assert!(
                (400..500).contains(&answer.status()),
                "{}: {:?}",
                answer.start,
                super::shown(bytes)
            );
        }
    }
    post(stack.ports.proxy, "/after", b"");
    assert_eq!(stack.target.wait_for(1)[0].target(), "/after");
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_nothing_behind() {
    let stack = Stack::start();
    for cut in [10, 30, 60, 90] {
        let bytes = request("POST", "/half", &[("X-A", b"1")], &[b'x'; 100]);
        let mut wire = Wire::connect(stack.ports.proxy);
        wire.send(&bytes[..bytes.len() - 100 + cut]);
    }
    post(stack.ports.proxy, "/whole", b"");
    assert_eq!(stack.target.wait_for(1)[0].target(), "/whole");
}
