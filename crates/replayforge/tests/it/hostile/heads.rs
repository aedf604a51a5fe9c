//! Methods, targets and headers.

use crate::support::http::{Kind, request};
use crate::support::stack::Stack;
use crate::support::wire::Wire;

use super::{names, replay, replay_bytes};

#[test]
fn every_method_is_replayed_with_and_without_a_body() {
    let stack = Stack::start();
    let methods = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "M-SEARCH",
        "PROPFIND", "X_1!#",
    ];
    for method in methods {
        for body in ["", "with a body"] {
            let received = replay(&stack, method, "/m?x=1", &[], body.as_bytes());
            assert_eq!(received.start, format!("{method} /m?x=1 HTTP/1.1"));
            assert_eq!(received.text(), body, "{method}");
        }
    }
}

#[test]
fn targets_are_replayed_as_they_stood_in_the_request_line() {
    let stack = Stack::start();
    let long = format!("/{}?{}", "p".repeat(3000), "q=1&".repeat(1000));
    for target in [
        "/",
        "//",
        "//a//b/",
        "/a%2Fb%2fc",
        "/%00%01%7F%FF",
        "/%2e%2e/%2E",
        "/a/../b/./c",
        "/?",
        "/a?",
        "/?&&",
        "/??",
        "/?a=?b",
        "/?a&b=&c=1&a=2&a=1&=",
        "/?x=%20+%2B&y=a/b",
        "/a;b=c,d",
        "/~user/(x)'!*$&",
        "/%7euser",
        "/a:b@c",
        "/100%25",
        "/a+b",
        "/?q=%C3%A9%FF",
        "/?a[]=1&a[]=2",
        "/?redirect=http://x.test/?a=1&b=2",
        "/a|b^c",
        long.as_str(),
    ] {
        let received = replay(&stack, "GET", target, &[], b"");
        assert_eq!(received.target(), target);
    }
}

#[test]
fn a_target_that_no_url_may_have_is_replayed_or_refused() {
    let stack = Stack::start();
    for target in ["/caf\u{e9}?q=\u{4f60}", "/a\"b`c{d}<e>", "/?{\"json\":1}", "/a\\b"] {
        let before = stack.target.count();
        let status =
            Wire::connect(stack.ports.proxy).exchange(&request("GET", target, &[], b"")).status();
        assert!(status == 200 || status == 400, "{status}: {target}");
        if status == 200 {
            assert_eq!(stack.target.wait_for(before + 1)[before].target(), target);
        }
    }
}

#[test]
fn other_forms_of_a_target_become_a_path() {
    let stack = Stack::start();
    let absolute = replay_bytes(
        &stack,
        b"GET http://elsewhere.test/p%2Fq?x=1 HTTP/1.1\r\nHost: elsewhere.test\r\n\r\n",
    );
    assert_eq!(absolute.target(), "/p%2Fq?x=1");
    let only_host =
        replay_bytes(&stack, b"GET http://elsewhere.test HTTP/1.1\r\nHost: elsewhere.test\r\n\r\n");
    assert_eq!(only_host.target(), "/");
    let asterisk = replay_bytes(&stack, b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(asterisk.start, "OPTIONS / HTTP/1.1");
    let old = replay_bytes(&stack, b"POST /old HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!((old.start.as_str(), old.text().as_str()), ("POST /old HTTP/1.1", "hi"));
}

#[test]
fn a_connect_request_is_refused_and_holds_up_nobody() {
    let stack = Stack::start();
    let mut wire = Wire::connect(stack.ports.proxy);
    let refused = wire.exchange(b"CONNECT db.test:5432 HTTP/1.1\r\nHost: db.test:5432\r\n\r\n");
    assert_eq!(refused.status(), 405);
    let after = request("POST", "/after", &[], b"");
    assert_eq!(Wire::connect(stack.ports.proxy).exchange(&after).status(), 200);
    // Had it been taken, it would have come before.
    assert_eq!(stack.target.wait_for(1)[0].target(), "/after");
}

#[test]
fn a_body_in_a_transfer_coding_that_would_be_lost_is_refused() {
    let stack = Stack::start();
    for codings in ["gzip, chunked", "gzip\r\nTransfer-Encoding: chunked"] {
        let head =
            format!("POST /coded HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {codings}\r\n\r\n");
        let mut wire = Wire::connect(stack.ports.proxy);
        assert_eq!(wire.exchange(head.as_bytes()).status(), 501, "{codings}");
    }
    let after = request("POST", "/after", &[], b"");
    assert_eq!(Wire::connect(stack.ports.proxy).exchange(&after).status(), 200);
    assert_eq!(stack.target.wait_for(1)[0].target(), "/after");
}

#[test]
fn header_values_keep_their_bytes_their_order_and_their_repeats() {
    let stack = Stack::start();
    let long = "v".repeat(8000);
    let headers: [(&str, &[u8]); 14] = [
        ("X-Many", b"first"),
        ("X-Latin", b"caf\xe9 \xa7\xff"),
        ("x-many", b"second"),
        ("X-Utf8", "żółć 你好".as_bytes()),
        ("X-Empty", b""),
        ("X-MANY", b"first"),
        ("X-Mixed", b"\xe9"),
        ("X-Mixed", "é".as_bytes()),
        ("X-Inner", b"a  b\tc, d; e=\"f\""),
        ("X-Long", long.as_bytes()),
        ("X_Under.Score!#$%&'*+^`|~9", b"1"),
        ("Content-Type", b"text/plain; charset=\"x\""),
        ("Authorization", b"Bearer abc=="),
        ("Accept", b"*/*"),
    ];
    let received = replay(&stack, "POST", "/h", &headers, b"x");
    for (name, _) in headers {
        let sent: Vec<&[u8]> = headers
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
            .collect();
        assert_eq!(received.values(name), sent, "{name}");
    }
    let mut sent: Vec<String> = headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    sent.sort();
    sent.dedup();
    assert_eq!(names(&received), sent, "nothing is invented");
}

#[test]
fn what_is_about_the_connection_or_unwanted_is_left_out() {
    let stack = Stack::with(|configs| {
        configs.proxy["sources"][0]["params"]["dropHeaders"] =
            serde_json::json!(["x-secret", "Authorization"]);
    });
    let headers: [(&str, &[u8]); 15] = [
        ("Connection", b"close, X-Hop"),
        ("X-Hop", b"1"),
        ("Cookie", b"session=1"),
        ("cookie", b"other=2"),
        ("X-Secret", b"s"),
        ("AUTHORIZATION", b"Bearer t"),
        ("Keep-Alive", b"timeout=5"),
        ("TE", b"trailers"),
        ("Trailer", b"X-T"),
        ("Upgrade", b"websocket"),
        ("Proxy-Authorization", b"Basic x"),
        ("Proxy-Connection", b"keep-alive"),
        ("Set-Cookie", b"kept=1"),
        ("X-Secret-Not", b"kept"),
        ("X-Forwarded-For", b"1.2.3.4"),
    ];
    let received = replay(&stack, "POST", "/h", &headers, b"x");
    assert_eq!(names(&received), ["set-cookie", "x-forwarded-for", "x-secret-not"]);
    assert_eq!(received.header("content-length").as_deref(), Some("1"));
}

#[test]
fn the_host_is_the_target_s_or_the_client_s_as_configured() {
    for preserve in [false, true] {
        let stack = Stack::with(|configs| {
            configs.player["sinks"][0]["params"]["preserveHost"] = preserve.into();
        });
        let received = replay(&stack, "GET", "/", &[("Host", b"shop.example.com:8443")], b"");
        let own = format!("127.0.0.1:{}", stack.ports.target);
        let expected = if preserve { "shop.example.com:8443" } else { own.as_str() };
        assert_eq!(received.values("host"), [expected.as_bytes()], "preserveHost {preserve}");
    }
}

#[test]
fn a_client_s_own_key_is_kept_and_our_mark_cannot_be_forged() {
    let stack = Stack::start();
    let received = replay(
        &stack,
        "POST",
        "/k",
        &[("Idempotency-Key", b"mine-1"), ("X-ReplayForge-Id", b"forged")],
        b"",
    );
    assert_eq!(received.values("Idempotency-Key"), [b"mine-1"]);
    let ours = received.values("X-ReplayForge-Id");
    assert!(
        ours.len() == 1
            && uuid::Uuid::try_parse_ascii(ours[0]).is_ok_and(|id| id.get_version_num() == 7),
        "{ours:?}"
    );
    let received = replay(&stack, "POST", "/k", &[], b"");
    assert_eq!(received.values("Idempotency-Key"), received.values("X-ReplayForge-Id"));
}

#[test]
fn pipelined_requests_are_answered_and_replayed_in_order() {
    let stack = Stack::start();
    let mut wire = Wire::connect(stack.ports.proxy);
    let one = |n: usize| request("POST", &format!("/{n}"), &[], "x".repeat(n * 100).as_bytes());
    wire.send(&(0..25).flat_map(one).collect::<Vec<u8>>());
    for n in 0..25 {
        assert_eq!(wire.try_answer(Kind::Answer).unwrap().text(), "Request received", "{n}");
    }
    let received = stack.target.wait_for(25);
    for (n, request) in received.iter().enumerate() {
        assert_eq!((request.target(), request.body.len()), (format!("/{n}").as_str(), n * 100));
    }
}
