//! Webhooks as the original has them, and what a wrong file is told.

use axum::http::Method;
use rf_notify::NotifyError;
use serde_json::{Value, json};

use super::support::{self, Service, build, hostile, message, target};

async fn echo() -> Service {
    Service::start(|_| (200, String::new())).await
}

#[tokio::test]
async fn a_payload_of_the_original_is_filled_in_as_json() {
    let service = echo().await;
    let config = json!({
        "url": format!("{}/hook?x=1", service.url),
        "contentType": "json",
        "header": { "X-Token": "secret", "Content-Type": "application/vnd.x+json" },
        "buildPayload": "{\"title\": \"{{subject}}\", \"text\": \"{{message}}\"}",
    });
    target(&config).send(&hostile(), "alerts-1-1").await.unwrap();
    let got = service.only();
    assert_eq!((got.method.clone(), got.path.as_str()), (Method::POST, "/hook?x=1"));
    assert_eq!(got.json, json!({ "title": hostile().subject, "text": hostile().text }));
    assert_eq!(got.header("x-token"), "secret");
    assert_eq!(got.header("content-type"), "application/vnd.x+json");
    assert_eq!(got.header("idempotency-key"), "alerts-1-1");
}

/// Where the type is told by a header alone, too.
#[tokio::test]
async fn a_payload_is_filled_in_as_the_type_that_it_is_sent_as() {
    let service = echo().await;
    let send = async |config: Value| {
        target(&config).send(&hostile(), "id").await.unwrap();
        service.received().pop().unwrap()
    };
    let form = "application/x-www-form-urlencoded";
    let payload = "to=ops&text={{message}}";
    let got =
        send(json!({ "url": service.url, "contentType": form, "buildPayload": payload })).await;
    let (to, text) = got.text.split_once("&text=").unwrap();
    assert_eq!((to, got.header("content-type")), ("to=ops", form));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'%';
    assert!(text.bytes().all(is_plain), "{text}");
    let header = json!({ "Content-Type": "application/json" });
    let payload = r#"{"text":"{{message}}"}"#;
    let got = send(json!({ "url": service.url, "header": header, "buildPayload": payload })).await;
    assert_eq!(got.json, json!({ "text": hostile().text }));
}

/// It begins with the name of a sink, which may be any text.
#[tokio::test]
async fn an_id_of_any_characters_can_be_sent() {
    let service = echo().await;
    let target = target(&json!({ "url": service.url }));
    for (id, sent) in [
        ("Störung-7-1", "St%C3%B6rung-7-1"),
        ("a b\n>%-7-1", "a%20b%0A%3E%25-7-1"),
        ("a_b.c", "a_b.c"),
    ] {
        target.send(&message("", "x"), id).await.unwrap();
        assert_eq!(service.received().pop().unwrap().header("idempotency-key"), sent);
    }
}

/// As the original's client does.
#[tokio::test]
async fn name_and_password_of_a_url_are_sent_unless_a_header_takes_their_place() {
    let service = echo().await;
    let server = service.url.strip_prefix("http://").unwrap();
    for (user, sent) in [("me:p%40ss", "Basic bWU6cEBzcw=="), ("key", "Basic a2V5Og==")] {
        let url = format!("http://{user}@{server}/hook");
        for kind in ["webhook", "slack"] {
            let (target, problems) = support::check(&json!({ "kind": kind, "url": url }));
            assert!(problems.is_ok(), "{problems}");
            target.unwrap().send(&message("", "x"), "id").await.unwrap();
            assert_eq!(service.received().pop().unwrap().header("authorization"), sent, "{kind}");
        }
        let header = json!({ "authorization": "Bearer other" });
        let (target, problems) = support::check(&json!({ "url": url, "header": header }));
        let told = problems.to_string();
        let expected = "warning: url: its name and password are not sent";
        assert!(told.contains(expected) && !told.contains(user), "{told}");
        target.unwrap().send(&message("", "x"), "id").await.unwrap();
        assert_eq!(service.received().pop().unwrap().header("authorization"), "Bearer other");
    }
}

#[tokio::test]
async fn a_refusal_shows_no_password_of_the_url() {
    let service =
        Service::start(|got| (400, json!({ "error": got.header("authorization") }).to_string()));
    let service = service.await;
    let url = service.url.replace("http://", "http://me:secret-1@");
    let refused = target(&json!({ "url": url })).send(&message("s", "m"), "id").await.unwrap_err();
    let expected = "answered 400 Bad Request: Basic ***";
    assert_eq!(refused, NotifyError::Permanent(expected.to_owned()));
}

/// The original sends all but `json` as plain text.
#[test]
fn a_content_type_that_is_none_is_a_warning() {
    let told = |config: Value| {
        let (target, problems) = support::check(&config);
        assert!(target.is_some() && !problems.has_errors(), "{problems}");
        problems.to_string()
    };
    for kind in ["", "json", "JSON", "text", "plain", "text/html", "application/json; v=1"] {
        assert_eq!(told(json!({ "url": "http://h", "contentType": kind })), "", "{kind}");
    }
    let expected = "warning: contentType: this is sent as plain text: expected json, or a media type such as text/html";
    for (kind, meant) in [("jsom", "; did you mean \"json\"?"), ("xyz", "")] {
        let config = json!({ "url": "http://h", "contentType": kind });
        assert!(told(config.clone()).ends_with(&format!("{expected}{meant}")), "{kind}");
        // Then it is the header that is sent.
        let mut with_header = config;
        with_header["header"] = json!({ "content-type": "application/json" });
        assert_eq!(told(with_header), "", "{kind}");
    }
}

#[tokio::test]
async fn without_a_payload_the_content_type_decides() {
    let service = echo().await;
    let check = async |config: Value, expected: &str, content_type: &str| {
        target(&config).send(&message("s", "m"), "id").await.unwrap();
        let got = service.received().pop().unwrap();
        assert_eq!((got.text.as_str(), got.header("content-type")), (expected, content_type));
        assert_eq!(got.method, Method::POST);
    };
    let json = r#"{"subject":"s","message":"m"}"#;
    let plain = "text/plain; charset=utf-8";
    check(json!({ "url": service.url, "contentType": "json" }), json, "application/json").await;
    let header = json!({ "content-type": "application/json" });
    check(json!({ "url": service.url, "header": header }), json, "application/json").await;
    check(json!({ "url": service.url }), "s\nm", plain).await;
    let empty = json!({ "url": service.url, "method": "", "contentType": "", "header": null });
    check(empty, "s\nm", plain).await;
    check(json!({ "url": service.url, "buildPayload": "{{subject}}!" }), "s!", plain).await;
    check(json!({ "url": service.url, "contentType": "text/x" }), "s\nm", "text/x").await;
}

#[tokio::test]
async fn a_service_that_is_down_only_delays() {
    // Its port is taken, so that no server of another test is there.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    let down = target(&json!({ "url": url })).send(&message("", "x"), "id").await.unwrap_err();
    assert!(matches!(down, NotifyError::Away(_)), "{down:?}");
}

#[tokio::test]
async fn a_refusal_that_repeats_the_request_shows_no_secret() {
    let service = Service::start(|got| {
        let said = format!("no `{}` with {}", got.path, got.header("x-token"));
        (400, json!({ "message": said }).to_string())
    });
    let service = service.await;
    let config = json!({
        "url": format!("{}/hook?key=secret-1", service.url),
        "header": { "X-Token": "secret-2" },
    });
    let refused = target(&config).send(&message("s", "m"), "id").await.unwrap_err();
    let expected = "answered 400 Bad Request: no `/hook?key=***` with ***";
    assert_eq!(refused, NotifyError::Permanent(expected.to_owned()));
}

#[test]
fn a_wrong_file_is_told_what_is_expected_and_shows_no_secret() {
    let check = |config: Value, expected: &str| {
        let problems = build(&config).unwrap_err();
        assert!(problems.contains(expected), "{problems}");
        assert!(!problems.contains("secret"), "{problems}");
    };
    check(json!({ "kind": "fax" }), "no kind `fax`; known: webhook, discord, slack");
    check(json!({ "kind": "discrod" }), "no kind `discrod`; did you mean \"discord\"?; known: ");
    check(json!({ "kind": "discord" }), "kind `discord` needs url");
    check(
        json!({ "kind": "discord", "url": "http://h/secret", "topic": "x" }),
        "topic: kind `discord` has no such key; its keys: url, kind, timeout, groupMax, caFile",
    );
    check(json!({ "kind": "slack", "url": "hooks/secret" }), "url: expected a URL such as");
    let url = "http://me:secret@h";
    for (kind, key, value) in [("matrix", "room", "!a:b"), ("ntfy", "topic", "t")] {
        let config = json!({ "kind": kind, "url": url, "token": "secret", key: value });
        check(config, "url: expected a URL without name and password: another key says who asks");
    }
    check(
        json!({ "url": "http://h", "header": { "a b": "secret" } }),
        "header: `a b`: invalid HTTP header name",
    );
    check(
        json!({ "url": "http://h", "contentType": "json", "buildPayload": "{\"a\": {{message}" }),
        "buildPayload: expected JSON once it is filled in",
    );
    check(json!({ "url": "http://h", "timeout": 0 }), "timeout: expected a time above zero");
}

/// Such files of the original work for messages that are numbers.
#[tokio::test]
async fn a_payload_without_quotes_is_a_warning_and_takes_numbers() {
    let service = echo().await;
    let payload = r#"{"text":"{{message}}","priority":{{subject}}}"#;
    let config = json!({ "url": service.url, "contentType": "json", "buildPayload": payload });
    let (target, problems) = support::check(&config);
    assert!(!problems.has_errors(), "{problems}");
    assert!(problems.to_string().contains("buildPayload: filled in with a text"), "{problems}");
    target.unwrap().send(&message("5", "full"), "id").await.unwrap();
    assert_eq!(service.only().json, json!({ "text": "full", "priority": 5 }));
    let quoted =
        json!({ "url": service.url, "contentType": "json", "buildPayload": r#"["{{message}}"]"# });
    assert!(support::check(&quoted).1.is_ok());
}
