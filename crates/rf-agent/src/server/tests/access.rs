use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;

use super::*;

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

fn guarded() -> ServerPlan {
    let mut plan = plan();
    plan.access.login = Some(("anna".to_owned(), password("with:colon")));
    plan.access.tokens = vec![
        password("token-1"),
        password(
            "$6$saltsalt$8iYtNHxjWRl.NF6oNZ5tF.iKFlQREaXBLlSmZKP6dy9l5z3vsooWNW0/GZ6Nej73/TFug6pIPSqbJoCT6dfnj.",
        ),
    ];
    plan
}

#[tokio::test]
async fn credentials_are_asked_for_everywhere_but_at_ping() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "file.txt", "secret");
    let mut plan = guarded();
    plan.folder = Some(StaticFolder::open(folder.path()).unwrap());
    let server = start(plan);
    for path in [
        "/",
        "/-/",
        "/-/main.js",
        "/sink/list",
        "/db/x",
        "/file.txt",
        "/static/file.txt",
        "/relay-proxy/x",
        "/nothing",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(
            answer.header("www-authenticate"),
            "Basic realm=\"ReplayForge\", charset=\"UTF-8\""
        );
        assert_eq!(answer.text(), r#"{"error":"credentials are needed"}"#, "{path}");
    }
    let ping = server.get("/ping").await;
    assert_eq!((ping.status.as_u16(), ping.text().as_str()), (200, "pong"));
}

#[tokio::test]
async fn right_credentials_open_and_wrong_ones_do_not() {
    let server = &start(guarded());
    let mut asked = Vec::new();
    for (value, expected) in [
        (basic("anna:with:colon"), 200),
        (basic("anna:with"), 401),
        (basic("ann:with:colon"), 401),
        (basic(":with:colon"), 401),
        (basic("anna"), 401),
        (basic("anna:token-1"), 401),
        ("Basic !".to_owned(), 401),
        ("Bearer token-1".to_owned(), 200),
        ("bearer  token-1 ".to_owned(), 200),
        ("Bearer hunter2".to_owned(), 200),
        ("Bearer token-2".to_owned(), 401),
        ("Bearer with:colon".to_owned(), 401),
        ("Bearer".to_owned(), 401),
        ("Bearer ".to_owned(), 401),
        ("Digest token-1".to_owned(), 401),
    ] {
        asked.push(async move {
            let headers = [("authorization", value.as_str())];
            let answer = server.ask("GET", "/sink/list", &headers, "").await;
            assert_eq!(answer.status, expected, "{value}");
            if expected == 401 {
                assert_eq!(answer.text(), r#"{"error":"wrong credentials"}"#, "{value}");
            }
        });
    }
    join_all(asked).await;
    let twice = [("authorization", "Bearer token-1"), ("authorization", "Bearer token-1")];
    assert_eq!(server.ask("GET", "/sink/list", &twice, "").await.status, 401);
}

#[tokio::test]
async fn an_own_listener_asks_for_the_same_credentials() {
    let mut plan = guarded();
    let shape = plan.sinks[0].sink.shape().clone();
    plan.sinks[0].sink = Arc::new(Echo { shape, own_listener: true });
    let server = start(plan);
    let own = format!("GET http://127.0.0.1:{}/list?a=b", server.ports[0]);
    assert_eq!(ask(&own, &[], "").await.status, 401);
    let answer = ask(&own, &[("authorization", "Bearer token-1")], "").await;
    assert_eq!(answer.text(), "GET /list?a=b ");
}

#[tokio::test]
async fn a_foreign_name_on_loopback_is_refused_where_no_credentials_are_asked_for() {
    let (open, guarded) = (start(plan()), start(guarded()));
    for (host, expected) in [
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("localhost", 200),
        ("LOCALHOST.:80", 200),
        ("player.localhost:1", 200),
        ("known.example", 200),
        ("Known.Example:443", 200),
        ("rebound.example", 403),
        ("known.example.evil.test", 403),
        ("127.0.0.1.evil.test", 403),
    ] {
        assert_eq!(
            open.ask("GET", "/sink/list", &[("host", host)], "").await.status,
            expected,
            "{host}"
        );
        let headers = [("host", host), ("authorization", "Bearer token-1")];
        assert_eq!(guarded.ask("GET", "/sink/list", &headers, "").await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let server = start(plan());
    for (name, value, expected) in [
        ("sec-fetch-site", "same-origin", 200),
        ("sec-fetch-site", "none", 200),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
        ("origin", "http://localhost:1", 200),
        ("origin", "http://evil.test", 403),
        ("origin", "null", 403),
        ("x-none", "curl", 200),
    ] {
        let headers = [("host", "localhost:1"), (name, value)];
        assert_eq!(
            server.ask("POST", "/db/x", &headers, "").await.status,
            expected,
            "{name} {value}"
        );
        assert_eq!(server.ask("GET", "/db/x", &headers, "").await.status, 200, "{name} {value}");
    }
}

#[tokio::test]
async fn a_body_is_bounded() {
    let server = start(plan());
    assert_eq!(server.ask("POST", "/db/x", &[], "abc").await.text(), "POST /x abc");
    let large = "x".repeat(1024 * 1024 + 1);
    let answer = server.ask("POST", "/db/x", &[], &large).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.text(), r#"{"error":"the body is larger than 1048576 bytes"}"#);
}

#[tokio::test]
async fn answers_are_not_kept_and_not_guessed_at() {
    let answer = start(plan()).get("/db/x").await;
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
}
