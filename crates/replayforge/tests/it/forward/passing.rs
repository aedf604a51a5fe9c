//! What the client and the upstream see of each other: everything but what is about one connection.

use std::io::Write;

use serde_json::json;

use super::rig::{Rig, Upstream, ok, read_request, read_until};
use crate::support::http::Message;
use crate::support::wire::call;

#[test]
fn request_and_answer_pass_as_they_are() {
    let upstream = Upstream::answering(|request| {
        let seen: Vec<String> = request
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
            .collect();
        let body = format!("{}\n{}\n{}", request.start, seen.join("\n"), request.text());
        let head = format!(
            "HTTP/1.1 299 Quite Fine\r\nX-Odd-CASE: a\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nKeep-Alive: timeout=9\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body.as_bytes()].concat()
    });
    let rig = Rig::start(upstream.port, &json!({ "captureResponse": true }));
    let headers: &[(&str, &[u8])] = &[
        ("Host", b"shop.example"),
        ("X-MiXed", b"1"),
        ("x-twice", b"a"),
        ("x-twice", b"b"),
        ("Connection", b"keep-alive, X-Gone"),
        ("X-Gone", b"1"),
        ("TE", b"trailers, deflate"),
        ("Proxy-Connection", b"keep-alive"),
        ("X-Forwarded-For", b"203.0.113.7"),
        ("X-Latin", b"\xe4"),
    ];
    let answer = call(rig.port, "PUT", "/a%2Fb?x=1&x=%20|", headers, b"hello");
    assert_eq!(answer.start, "HTTP/1.1 299 Quite Fine");
    assert_eq!(answer.values("set-cookie"), [b"a=1", b"b=2"]);
    assert!(answer.headers.iter().any(|(name, _)| name == "X-Odd-CASE"), "{answer:?}");
    let gone = ["x-hop", "keep-alive", "transfer-encoding"].map(|name| answer.values(name).len());
    assert_eq!(gone, [0, 0, 0], "{answer:?}");
    let seen = answer.text();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[0], "PUT /a%2Fb?x=1&x=%20| HTTP/1.1");
    let has = |line: &str| assert!(lines.contains(&line), "{line}: {seen}");
    has("Host: shop.example");
    has("X-MiXed: 1");
    has("x-twice: a");
    has("x-twice: b");
    has("TE: trailers");
    has("x-forwarded-host: shop.example");
    has("x-forwarded-proto: http");
    has("hello");
    assert!(
        lines
            .iter()
            .any(|line| line.eq_ignore_ascii_case("x-forwarded-for: 203.0.113.7, 127.0.0.1")),
        "{seen}"
    );
    assert!(!seen.to_lowercase().contains("x-gone") && !seen.contains("deflate"), "{seen}");
    let event = rig.event("/a/b");
    assert_eq!(event["target"], "/a%2Fb?x=1&x=%20|");
    assert_eq!(event["method"], "PUT");
    assert_eq!(event["body"], "hello");
    assert_eq!(event["headers"]["X-Twice"], json!(["a", "b"]));
    assert_eq!(
        event["headers"]["X-Forwarded-For"],
        json!(["203.0.113.7"]),
        "as the client sent it"
    );
    assert_eq!(event["response"]["status"], 299);
    assert_eq!(event["response"]["body"], seen);
    assert!(event["timings"]["headUs"].as_u64() <= event["timings"]["totalUs"].as_u64(), "{event}");
    assert!(
        event.get("bodyTruncated").is_none() && event["response"].get("bodyTruncated").is_none(),
        "{event}"
    );
}

#[test]
fn the_upstream_is_told_of_the_client_as_the_file_says() {
    let check = |params: serde_json::Value, expected: &[(&str, Option<&str>)]| {
        let upstream = Upstream::answering(|request| {
            let told =
                ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "host"]
                    .map(|name| format!("{name}={}", request.header(name).unwrap_or_default()));
            ok(told.join("\n").as_bytes())
        });
        let rig = Rig::start(upstream.port, &params);
        let headers: &[(&str, &[u8])] = &[
            ("Host", b"a.example"),
            ("Forwarded", b"for=192.0.2.1"),
            ("X-Forwarded-For", b"192.0.2.1"),
            ("X-Forwarded-Proto", b"https"),
        ];
        let seen = call(rig.port, "GET", "/", headers, b"").text();
        for (name, value) in expected {
            let own = format!("127.0.0.1:{}", upstream.port);
            let line = format!("{name}={}", value.unwrap_or(&own));
            assert!(seen.lines().any(|found| found == line), "{params}: {line}: {seen}");
        }
    };
    check(
        json!({}),
        &[
            ("forwarded", Some("for=192.0.2.1")),
            ("x-forwarded-for", Some("192.0.2.1, 127.0.0.1")),
            ("x-forwarded-proto", Some("https")),
            ("x-forwarded-host", Some("a.example")),
            ("host", Some("a.example")),
        ],
    );
    check(
        json!({ "trustForwarded": false, "preserveHost": false }),
        &[
            ("forwarded", Some("")),
            ("x-forwarded-for", Some("127.0.0.1")),
            ("x-forwarded-proto", Some("http")),
            ("host", None),
        ],
    );
    check(
        json!({ "forwardedHeaders": "forwarded" }),
        &[("forwarded", Some("for=192.0.2.1, for=127.0.0.1;host=\"a.example\";proto=http"))],
    );
    check(
        json!({ "forwardedHeaders": "none" }),
        &[("x-forwarded-for", Some("192.0.2.1")), ("x-forwarded-host", Some(""))],
    );
    check(
        json!({ "forwardedHeaders": "none", "trustForwarded": false }),
        &[("forwarded", Some("")), ("x-forwarded-for", Some("")), ("x-forwarded-proto", Some(""))],
    );
}

#[test]
fn a_client_that_names_no_host_cannot_name_one_in_another_header() {
    let upstream = Upstream::answering(|request| {
        ok(request.header("x-forwarded-host").unwrap_or_default().as_bytes())
    });
    let rig = Rig::start(upstream.port, &json!({ "trustForwarded": false }));
    let request = b"GET / HTTP/1.0\r\nX-Forwarded-Host: evil.example\r\n\r\n";
    assert_eq!(rig.connect().exchange(request).text(), "");
}

#[test]
fn a_path_of_the_upstream_stands_before_each_request_s_own() {
    let upstream = Upstream::answering(|request| ok(request.target().as_bytes()));
    let rig = Rig::start(
        upstream.port,
        &json!({ "forwardTo": format!("http://127.0.0.1:{}/base/", upstream.port) }),
    );
    assert_eq!(call(rig.port, "GET", "/a?b", &[], b"").text(), "/base/a?b");
    assert_eq!(call(rig.port, "OPTIONS", "*", &[], b"").text(), "*");
}

#[test]
fn a_target_that_is_a_whole_url_names_the_host() {
    let upstream = Upstream::answering(|request| {
        ok(format!("{} {}", request.target(), request.header("host").unwrap_or_default())
            .as_bytes())
    });
    let rig = Rig::start(upstream.port, &json!({}));
    let answer = call(rig.port, "GET", "http://other.example:81/a?b", &[("Host", b"x")], b"");
    assert_eq!(answer.text(), "/a?b other.example:81");
    assert_eq!(rig.event("/a")["headers"]["Host"], json!(["other.example:81"]), "the copy, too");
}

#[test]
fn connections_are_kept_and_answers_come_in_order() {
    let upstream = Upstream::answering(|request| ok(request.target().as_bytes()));
    // Longer than a slow machine may pause between two requests.
    let rig = Rig::start(upstream.port, &json!({ "upstreamIdleTimeout": "10m" }));
    let mut wire = rig.connect();
    for round in 0..20 {
        let request = format!("GET /{round} HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(wire.exchange(request.as_bytes()).text(), format!("/{round}"));
    }
    // Or two: the next request may come before the connection of the one before is back.
    let accepted = upstream.accepted();
    assert!((1..=2).contains(&accepted), "{accepted} connections for one client");
    let many: String = (0..50)
        .map(|n| format!("POST /p{n} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"))
        .collect();
    wire.send(many.as_bytes());
    for n in 0..50 {
        assert_eq!(wire.answer().text(), format!("/p{n}"));
    }
    assert_eq!(rig.event("/p49")["body"], "hi");
    // HTTP/1.0, which closes.
    let mut old = rig.connect();
    old.send(b"GET /old HTTP/1.0\r\n\r\n");
    assert_eq!(old.answer().text(), "/old");
    assert!(old.is_closed_by_peer());
}

#[test]
fn heads_without_bodies_keep_their_lengths() {
    let upstream = Upstream::answering(|request| match request.target() {
        "/none" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/same" => b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n".to_vec(),
    });
    let rig = Rig::start(upstream.port, &json!({ "captureResponse": true }));
    let head = call(rig.port, "HEAD", "/", &[], b"");
    assert_eq!(head.header("content-length").as_deref(), Some("12345"));
    assert_eq!(call(rig.port, "GET", "/none", &[], b"").status(), 204);
    let same = call(rig.port, "GET", "/same", &[], b"");
    assert_eq!((same.status(), same.header("etag").as_deref()), (304, Some("\"x\"")));
    let event = rig.event("/same");
    assert_eq!(event["response"]["status"], 304);
    assert!(event["response"].get("bodyTruncated").is_none(), "{event}");
}

#[test]
fn many_headers_and_folded_ones_pass() {
    let upstream = Upstream::answering(|request| {
        let more: String = match request.target() {
            "/many" => (0..200).map(|n| format!("X-{n}: {n}\r\n")).collect(),
            _ => "X-Folded: one\r\n  two\r\n".to_owned(),
        };
        format!("HTTP/1.1 200 OK\r\n{more}Content-Length: 0\r\n\r\n").into_bytes()
    });
    let rig = Rig::start(upstream.port, &json!({}));
    let many = call(rig.port, "GET", "/many", &[], b"");
    assert_eq!((many.status(), many.header("x-199").as_deref()), (200, Some("199")));
    let folded = call(rig.port, "GET", "/folded", &[], b"");
    let value = folded.header("x-folded").unwrap_or_default();
    assert_eq!(value.split_whitespace().collect::<Vec<_>>(), ["one", "two"]);
}

#[test]
fn a_head_of_a_request_has_bounds() {
    let upstream = Upstream::answering(|request| {
        let sizes = request.headers.iter().map(|(_, value)| value.len());
        ok(sizes.max().unwrap_or_default().to_string().as_bytes())
    });
    let rig = Rig::start(upstream.port, &json!({}));
    let ask = |headers: &str| {
        let mut wire = rig.connect();
        wire.exchange(format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes())
    };
    let many = |count: usize| (0..count).map(|n| format!("X-{n}: {n}\r\n")).collect::<String>();
    let long = |bytes: usize| format!("X-Long: {}\r\n", "x".repeat(bytes));
    assert_eq!(ask(&many(99)).status(), 200);
    assert_eq!(ask(&many(100)).status(), 431);
    assert_eq!(ask(&long(60_000)).text(), "60000");
    assert_eq!(ask(&long(70_000)).status(), 431);
}

#[test]
fn trailers_pass_both_ways() {
    let upstream = Upstream::start(|stream| {
        let head = Message::read_head(stream)?.expect("a request");
        assert_eq!(head.header("transfer-encoding").as_deref(), Some("chunked"));
        let chunks = read_until(stream, b"\r\n\r\n")?;
        let seen = String::from_utf8_lossy(&chunks).to_lowercase();
        assert!(seen.contains("\r\n0\r\nx-sum: 7\r\n\r\n"), "{seen}");
        stream.get_mut().write_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Check\r\n\r\n3\r\nabc\r\n0\r\nX-Check: 9\r\n\r\n",
        )?;
        read_request(stream).map(drop)
    });
    let rig = Rig::start(upstream.port, &json!({ "captureResponse": true }));
    let mut wire = rig.connect();
    wire.send(b"POST /t HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n");
    wire.send(b"5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n");
    let answer = String::from_utf8_lossy(&wire.read_rest()).to_lowercase();
    assert!(
        answer.starts_with("http/1.1 200 ok\r\n")
            && answer.ends_with("3\r\nabc\r\n0\r\nx-check: 9\r\n\r\n"),
        "{answer}"
    );
    let event = rig.event("/t");
    assert_eq!((&event["body"], &event["response"]["body"]), (&json!("hello"), &json!("abc")));
}

#[test]
fn a_request_of_two_hosts_or_a_bad_one_is_refused() {
    let upstream = Upstream::answering(|request| ok(request.values("host").concat().as_slice()));
    let rig = Rig::start(upstream.port, &json!({}));
    let ask = |hosts: &[&str]| {
        let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        rig.connect().exchange(format!("GET / HTTP/1.1\r\n{hosts}\r\n").as_bytes())
    };
    for hosts in [
        &["a.example", "b.example"][..],
        &["a.example", "a.example"],
        &["a.example", ""],
        &["a b/../@c"],
        &["user@a.example"],
        &["a.example/x"],
    ] {
        let answer = ask(hosts);
        assert_eq!(answer.status(), 400, "{hosts:?}");
        assert_eq!(answer.text(), "The request has more than one host, or a bad one\n");
    }
    let target = "http://a.example@b.example/";
    assert_eq!(call(rig.port, "GET", target, &[("Host", b"a.example")], b"").status(), 400);
    assert_eq!(upstream.accepted(), 0, "none of them was passed on");
    for host in ["a.example", "A_b.example:81", "127.0.0.1:1", "[::1]:1"] {
        let answer = ask(&[host]);
        assert_eq!((answer.status(), answer.text().as_str()), (200, host));
    }
}

/// What the upstream takes for the body, and how it was told where that ends.
fn framing() -> Upstream {
    Upstream::answering(|request| {
        let told = ["content-length", "transfer-encoding"]
            .map(|name| String::from_utf8_lossy(&request.values(name).join(&b'+')).into_owned());
        ok(format!("{}|{}|{}", told[0], told[1], request.text()).as_bytes())
    })
}

#[test]
fn a_request_whose_end_is_not_certain_is_refused() {
    let upstream = framing();
    let rig = Rig::start(upstream.port, &json!({}));
    for (version, headers, status) in [
        ("1.1", "Content-Length: 2\r\nContent-Length: 3", 400),
        ("1.1", "Content-Length: 2, 2", 400),
        ("1.1", "Content-Length: +2", 400),
        ("1.1", "Content-Length: 0x2", 400),
        ("1.1", "Content-Length : 2", 400),
        ("1.1", "Content-Length:\r\n 2", 400),
        ("1.1", "X-Folded: a\r\n Content-Length: 2", 400),
        ("1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400),
        ("1.1", "Transfer-Encoding: xchunked", 400),
        ("1.1", "Transfer-Encoding: chunked, gzip", 400),
        ("1.0", "Transfer-Encoding: chunked", 400),
        // Where it ends is certain, but not what it is.
        ("1.1", "Transfer-Encoding: gzip, chunked", 501),
        ("1.1", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 501),
        ("1.1", "Transfer-Encoding: chunked, chunked", 501),
    ] {
        let mut wire = rig.connect();
        let head = format!("POST / HTTP/{version}\r\nHost: x\r\n{headers}\r\n\r\n");
        assert_eq!(wire.exchange(head.as_bytes()).status(), status, "{headers}");
    }
    assert_eq!(upstream.accepted(), 0, "none of them was passed on");
}

#[test]
fn the_upstream_is_told_of_one_end_of_a_body_only() {
    let upstream = framing();
    let rig = Rig::start(upstream.port, &json!({}));
    let chunked = "5\r\nhello\r\n0\r\n\r\n";
    for (headers, body, expected) in [
        ("Content-Length: 5\r\nContent-Length: 5", "hello", "5||hello"),
        ("Content-Length: 5\r\nConnection: Content-Length", "hello", "5||hello"),
        ("Transfer-Encoding: ChunkeD", chunked, "|chunked|hello"),
        ("Transfer-Encoding: , chunked", chunked, "|chunked|hello"),
        ("Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding", chunked, "|chunked|hello"),
        ("Content-Length: 3\r\nTransfer-Encoding: chunked", chunked, "|chunked|hello"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 30", chunked, "|chunked|hello"),
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n{body}");
        assert_eq!(rig.connect().exchange(request.as_bytes()).text(), expected, "{headers}");
    }
}

#[test]
fn an_answer_that_is_chunked_and_names_a_length_comes_whole() {
    let upstream = Upstream::answering(|request| {
        match request.target() {
        "/plain" => ok(b"next"),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n".to_vec(),
    }
    });
    let rig = Rig::start(upstream.port, &json!({}));
    let mut wire = rig.connect();
    let answer = wire.exchange(b"GET /both HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((answer.text().as_str(), answer.header("content-length")), ("hello world", None));
    let next = wire.exchange(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(next.text(), "next", "the connection stays in step");
}

#[test]
fn a_get_with_a_chunked_body_keeps_it() {
    let upstream = Upstream::answering(|request| ok(&request.body));
    let rig = Rig::start(upstream.port, &json!({}));
    let mut wire = rig.connect();
    wire.send(
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    );
    assert_eq!(wire.answer().text(), "hi");
}

#[test]
fn interim_answers_pass() {
    let upstream = Upstream::start(|stream| {
        while read_request(stream)?.is_some() {
            stream.get_mut().write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")?;
            stream.get_mut().write_all(&ok(b"done"))?;
        }
        Ok(())
    });
    let rig = Rig::start(upstream.port, &json!({}));
    let mut wire = rig.connect();
    for _ in 0..3 {
        let early = wire.exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!((early.status(), early.header("link").as_deref()), (103, Some("</a.css>")));
        assert!(early.header("connection").is_none());
        assert_eq!(wire.answer().status(), 102);
        assert_eq!(wire.answer().text(), "done");
    }
    let mut old = rig.connect();
    old.send(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(old.answer().text(), "done", "HTTP/1.0 knows no interim answers");
}
