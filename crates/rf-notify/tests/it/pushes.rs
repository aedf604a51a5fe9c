//! ntfy and Gotify.

use rf_notify::NotifyError;
use serde_json::json;

use super::support::{Received, Service, build, hostile, message, target};

/// <https://docs.ntfy.sh/publish/#publish-as-json>: to the root; a message over 4096 bytes becomes a file.
fn ntfy(request: &Received) -> (u16, String) {
    let known = ["Bearer tk_1", "Basic bWU6c2VjcmV0"];
    if !known.contains(&request.header("authorization")) {
        return (403, r#"{"code":40301,"http":403,"error":"forbidden"}"#.to_owned());
    }
    let message = request.json["message"].as_str().unwrap_or_default();
    assert!(message.len() <= 4096, "it would become an attachment");
    if request.path != "/" || request.json["topic"] != "alerts" {
        return (400, r#"{"code":40024,"http":400,"error":"invalid request"}"#.to_owned());
    }
    (200, r#"{"id":"x","event":"message"}"#.to_owned())
}

#[tokio::test]
async fn ntfy_takes_a_message_with_its_title_and_priority() {
    let service = Service::start(ntfy).await;
    let config = json!({
        "kind": "ntfy", "url": service.url, "topic": "alerts", "token": "tk_1", "priority": 4
    });
    target(&config).send(&hostile(), "id").await.unwrap();
    let got = service.only().json;
    assert_eq!(got["title"], hostile().subject);
    assert_eq!(got["message"], hostile().text);
    assert_eq!(got["priority"], 4);
    target(&config).send(&message("", &"ä".repeat(4000)), "id").await.unwrap();
    target(&config).send(&message("disk full", " "), "id").await.unwrap();
    let got = service.received().pop().unwrap().json;
    assert_eq!(got, json!({ "topic": "alerts", "message": "disk full", "priority": 4 }));
    let basic = json!({
        "kind": "ntfy", "url": service.url, "topic": "alerts", "username": "me", "password": "secret"
    });
    target(&basic).send(&message("", "x"), "id").await.unwrap();
    let open = json!({ "kind": "ntfy", "url": service.url, "topic": "alerts" });
    let expected = NotifyError::Refused("answered 403 Forbidden: forbidden".to_owned());
    assert_eq!(target(&open).send(&message("", "x"), "id").await, Err(expected));
}

#[test]
fn what_ntfy_and_gotify_would_refuse_is_refused_before() {
    let check = |config, expected: &str| {
        let problems = build(&config).unwrap_err();
        assert!(problems.contains(expected), "{problems}");
    };
    check(json!({ "kind": "ntfy", "topic": "a/b" }), "topic: expected 1 to 64");
    check(json!({ "kind": "ntfy", "topic": "a", "priority": 6 }), "priority: expected 1");
    check(json!({ "kind": "gotify", "url": "http://h", "token": "a\nb" }), "token: expected");
    let urgent = json!({ "kind": "gotify", "url": "http://h", "token": "a", "priority": 11 });
    check(urgent, "priority: expected 0");
}

/// <https://gotify.net/docs/pushmsg>, <https://gotify.net/api-docs>.
#[tokio::test]
async fn gotify_takes_a_message_with_the_key_of_an_application() {
    let service = Service::start(|request| {
        if request.header("x-gotify-key") != "A1" {
            let error = r#"{"error":"Unauthorized","errorCode":401,"errorDescription":"you need to provide a valid access token"}"#;
            return (401, error.to_owned());
        }
        if request.json["message"].as_str().is_none_or(str::is_empty) {
            let error = r#"{"error":"Bad Request","errorCode":400,"errorDescription":"Field 'message' is required"}"#;
            return (400, error.to_owned());
        }
        (if request.path == "/sub/message" { 200 } else { 404 }, "{}".to_owned())
    })
    .await;
    let url = format!("{}/sub/", service.url);
    let config = json!({ "kind": "gotify", "url": url, "token": "A1", "priority": 8 });
    target(&config).send(&hostile(), "id").await.unwrap();
    let got = service.only().json;
    let sent = json!({ "title": hostile().subject, "message": hostile().text, "priority": 8 });
    assert_eq!(got, sent);
    target(&config).send(&message("disk full", ""), "id").await.unwrap();
    let got = service.received().pop().unwrap().json;
    assert_eq!(got, json!({ "message": "disk full", "priority": 8 }));
    target(&config).send(&message("", &"ä".repeat(20_000)), "id").await.unwrap();
    let got = service.received().pop().unwrap().json;
    let text = got["message"].as_str().unwrap();
    assert!(text.len() <= 32 * 1024 && text.ends_with("ä…"), "{} bytes", text.len());
    let config = json!({ "kind": "gotify", "url": url, "token": "A2" });
    let refused = target(&config).send(&message("", "x"), "id").await.unwrap_err();
    assert!(matches!(refused, NotifyError::Refused(_)), "{refused:?}");
}
