//! Discord, Slack, Telegram, Matrix and Teams.

use std::time::Duration;

use axum::http::Method;
use rf_notify::NotifyError;
use serde_json::json;

use super::support::{Received, Service, build, hostile, message, target};

fn utf16(text: &str) -> usize {
    text.encode_utf16().count()
}

/// <https://docs.discord.com/developers/resources/webhook#execute-webhook>: 204 without `wait`; 400 for content that is
/// empty or longer than 2000; mentions are parsed unless `allowed_mentions` forbids it.
fn discord(request: &Received) -> (u16, String) {
    let content = request.json["content"].as_str().unwrap_or_default();
    if request.path != "/api/webhooks/1/token" {
        return (404, r#"{"message": "Unknown Webhook", "code": 10015}"#.to_owned());
    }
    if content.is_empty() || content.chars().count() > 2000 {
        let error = r#"{"content": ["Must be 2000 or fewer in length."]}"#;
        return (400, error.to_owned());
    }
    let calls = request.json["allowed_mentions"]["parse"] != json!([]);
    assert!(!calls, "somebody would be called");
    (204, String::new())
}

#[tokio::test]
async fn discord_takes_a_message_and_calls_nobody() {
    let service = Service::start(discord).await;
    let url = format!("{}/api/webhooks/1/token", service.url);
    let discord = target(&json!({ "kind": "discord", "url": url }));
    let sent = discord.send(&hostile(), "id").await.unwrap();
    assert_eq!((sent.answer.as_str(), sent.missed), ("204 No Content", None));
    let content = service.only().json["content"].as_str().unwrap().to_owned();
    assert_eq!(content, format!("**{}**\n{}", hostile().subject, hostile().text));
}

#[tokio::test]
async fn discord_is_never_sent_more_than_2000_characters() {
    let service = Service::start(discord).await;
    let url = format!("{}/api/webhooks/1/token", service.url);
    let discord = target(&json!({ "kind": "discord", "url": url }));
    for text in ["x".repeat(2000), "x".repeat(2001), "🦀".repeat(5000), "\"".repeat(9000)] {
        discord.send(&message("", &text), "id").await.unwrap();
    }
    let sizes: Vec<usize> =
        service.received().iter().map(|got| utf16(got.json["content"].as_str().unwrap())).collect();
    assert_eq!(sizes, [2000, 2000, 1999, 2000]);
}

/// <https://docs.discord.com/developers/reference#message-formatting>, and the Markdown of adaptive cards.
#[tokio::test]
async fn a_link_shows_where_it_leads() {
    let service = Service::start(|_| (204, String::new())).await;
    let [discord, teams] =
        ["discord", "teams"].map(|kind| target(&json!({ "kind": kind, "url": service.url })));
    let masked = message("[your bank](https://evil.example)", "see ![x](http://h) and a[0] (b)");
    let (subject, text) =
        ("[your bank]\u{2060}(https://evil.example)", "see ![x]\u{2060}(http://h) and a[0] (b)");
    for target in [&discord, &teams] {
        target.send(&masked, "id").await.unwrap();
    }
    let received = service.received();
    assert_eq!(received[0].json["content"], format!("**{subject}**\n{text}"));
    let card = &received[1].json["attachments"][0]["content"]["body"];
    assert_eq!((&card[0]["text"], &card[1]["text"]), (&json!(subject), &json!(text)));
    // A group leaves room for what comes in between.
    let burst: Vec<_> =
        (0..12).map(|n| message("", &format!("{n}{}", "[a](".repeat(900)))).collect();
    discord.send(&discord.grouped(&burst), "id").await.unwrap();
    let content = service.received()[2].json["content"].as_str().unwrap().to_owned();
    assert!(utf16(&content) <= 2000 && content.ends_with("\nand 2 more"), "{content}");
}

#[tokio::test]
async fn discord_says_when_to_come_back_and_when_the_webhook_is_gone() {
    let limited = r#"{"message":"You are being rate limited.","retry_after":1.5,"global":false}"#;
    let service = Service::start(|_| (429, limited.to_owned())).await;
    let discord = target(&json!({ "kind": "discord", "url": service.url }));
    let expected = NotifyError::Retry {
        reason: "answered 429 Too Many Requests: You are being rate limited.".to_owned(),
        after: Some(Duration::from_millis(1500)),
    };
    assert_eq!(discord.send(&message("", "x"), "id").await, Err(expected));
    let service = Service::start(self::discord).await;
    let discord = target(&json!({ "kind": "discord", "url": service.url }));
    let expected = NotifyError::Refused("answered 404 Not Found: Unknown Webhook".to_owned());
    assert_eq!(discord.send(&message("", "x"), "id").await, Err(expected));
}

/// <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>: answers `ok`; `<...>` is a command.
#[tokio::test]
async fn slack_is_sent_text_without_commands() {
    let service = Service::start(|request| {
        let text = request.json["text"].as_str().unwrap_or_default();
        if text.is_empty() { (400, "no_text".to_owned()) } else { (200, "ok".to_owned()) }
    })
    .await;
    let slack = target(&json!({ "kind": "slack", "url": service.url }));
    slack.send(&hostile(), "id").await.unwrap();
    slack.send(&message("", &"<".repeat(3000)), "id").await.unwrap();
    let texts: Vec<String> = service
        .received()
        .iter()
        .map(|got| got.json["text"].as_str().unwrap().to_owned())
        .collect();
    assert!(texts[0].contains("&lt;!channel&gt; &lt;@U024BE7LH&gt;"), "{}", texts[0]);
    assert!(!texts[0].contains(['<', '>']), "{}", texts[0]);
    assert!(utf16(&texts[1]) <= 4000 && texts[1].ends_with("&lt;…"));
}

#[tokio::test]
async fn slack_names_its_refusals_in_one_word() {
    let service = Service::start(|_| (403, "invalid_token".to_owned())).await;
    let slack = target(&json!({ "kind": "slack", "url": service.url }));
    let expected = NotifyError::Refused("answered 403 Forbidden: invalid_token".to_owned());
    assert_eq!(slack.send(&message("", "x"), "id").await, Err(expected));
}

/// <https://core.telegram.org/bots/api#sendmessage>: the token is in the path; 1 to 4096 characters.
fn telegram(request: &Received) -> (u16, String) {
    if request.path != "/bot12:AB-c/sendMessage" {
        let error = r#"{"ok":false,"error_code":401,"description":"Unauthorized"}"#;
        return (401, error.to_owned());
    }
    let text = request.json["text"].as_str().unwrap_or_default();
    if text.is_empty() || utf16(text) > 4096 {
        let error =
            r#"{"ok":false,"error_code":400,"description":"Bad Request: message text is empty"}"#;
        return (400, error.to_owned());
    }
    if request.json["chat_id"] == "-7" {
        let error = r#"{"ok":false,"error_code":400,"description":"Bad Request: group chat was upgraded to a supergroup chat","parameters":{"migrate_to_chat_id":-1007}}"#;
        return (400, error.to_owned());
    }
    if request.json["chat_id"] != "-100" {
        let error = r#"{"ok":false,"error_code":400,"description":"Bad Request: chat not found"}"#;
        return (400, error.to_owned());
    }
    (200, r#"{"ok":true,"result":{"message_id":1}}"#.to_owned())
}

#[tokio::test]
async fn telegram_takes_a_message_and_finds_no_names_in_it() {
    let service = Service::start(telegram).await;
    let mut config =
        json!({ "kind": "telegram", "url": service.url, "token": "12:AB-c", "chatId": "-100" });
    let telegram = target(&config);
    telegram.send(&hostile(), "id").await.unwrap();
    telegram.send(&message("s", &"@".repeat(5000)), "id").await.unwrap();
    let text = service.received()[0].json["text"].as_str().unwrap().to_owned();
    let names = text.split('@').skip(1).filter(|rest| rest.starts_with(char::is_alphanumeric));
    assert_eq!(names.count(), 0, "{text}");
    assert_eq!(service.received()[0].json.get("parse_mode"), None);
    config["token"] = json!("12:wrong");
    let expected = NotifyError::Refused("answered 401 Unauthorized: Unauthorized".to_owned());
    assert_eq!(target(&config).send(&message("", "x"), "id").await, Err(expected));
}

/// It says so with the status of a bad message, and no notification is to be lost to that.
#[tokio::test]
async fn a_chat_that_is_not_there_is_no_fault_of_the_message() {
    let service = Service::start(telegram).await;
    let send = async |chat: &str, text: &str| {
        let config =
            json!({ "kind": "telegram", "url": service.url, "token": "12:AB-c", "chatId": chat });
        target(&config).send(&message("", text), "id").await.unwrap_err()
    };
    let answered = "answered 400 Bad Request: Bad Request: ";
    let gone = NotifyError::Refused(format!("{answered}chat not found"));
    assert_eq!(send("-1", "x").await, gone);
    let moved = format!(
        "{answered}group chat was upgraded to a supergroup chat: the chat has the chatId -1007 now"
    );
    assert_eq!(send("-7", "x").await, NotifyError::Refused(moved));
    let empty = NotifyError::Permanent(format!("{answered}message text is empty"));
    assert_eq!(send("-100", "").await, empty);
}

#[tokio::test]
async fn every_word_of_telegram_about_the_chat_is_known() {
    for (said, is_about_the_chat) in [
        ("not enough rights to send text messages to the chat", true),
        ("have no rights to send a message", true),
        ("need administrator rights in the channel chat", true),
        ("group is deactivated", true),
        ("user not found", true),
        ("CHAT_WRITE_FORBIDDEN", true),
        ("CHANNEL_PRIVATE", true),
        ("PEER_ID_INVALID", true),
        ("TOPIC_CLOSED", true),
        ("message is too long", false),
        ("text must be non-empty", false),
        ("strings must be encoded in UTF-8", false),
    ] {
        let answer = json!({ "ok": false, "description": format!("Bad Request: {said}") });
        let service = Service::start(move |_| (400, answer.to_string())).await;
        let config =
            json!({ "kind": "telegram", "url": service.url, "token": "1:A", "chatId": "1" });
        let error = target(&config).send(&message("", "x"), "id").await.unwrap_err();
        assert_eq!(matches!(error, NotifyError::Refused(_)), is_about_the_chat, "{error}");
    }
}

/// Every service with its own way to say when.
#[tokio::test]
async fn a_rate_answer_says_when_to_come_back() {
    let telegram = r#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 5","parameters":{"retry_after":5}}"#;
    let matrix =
        r#"{"errcode":"M_LIMIT_EXCEEDED","error":"Too Many Requests","retry_after_ms":2500}"#;
    let (token, room) = ("12:AB-c", "!r:example.com");
    for (mut config, answer, millis) in [
        (json!({ "kind": "telegram", "token": token, "chatId": "-100" }), telegram, 5000),
        (json!({ "kind": "matrix", "token": token, "room": room }), matrix, 2500),
    ] {
        let service = Service::start(move |_| (429, answer.to_owned())).await;
        config["url"] = json!(service.url);
        let limited = target(&config).send(&message("", "x"), "id").await.unwrap_err();
        let after = Some(Duration::from_millis(millis));
        assert!(
            matches!(&limited, NotifyError::Retry { after: told, .. } if *told == after),
            "{limited:?}"
        );
    }
}

/// As Slack and ntfy do: <https://docs.slack.dev/apis/web-api/rate-limits>.
#[tokio::test]
async fn a_rate_answer_may_say_it_in_its_head() {
    let service =
        Service::with_headers(&[("retry-after", "7")], |_| (429, "rate_limited".to_owned())).await;
    for config in [
        json!({ "kind": "slack", "url": service.url }),
        json!({ "kind": "ntfy", "url": service.url, "topic": "alerts" }),
    ] {
        let limited = target(&config).send(&message("", "x"), "id").await;
        let expected = NotifyError::Retry {
            reason: "answered 429 Too Many Requests: rate_limited".to_owned(),
            after: Some(Duration::from_secs(7)),
        };
        assert_eq!(limited, Err(expected), "{config}");
    }
}

/// <https://spec.matrix.org/v1.7/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid>.
#[tokio::test]
async fn matrix_is_sent_each_message_under_its_own_id() {
    let service = Service::start(|request| {
        if request.header("authorization") != "Bearer syt_x" {
            let error = r#"{"errcode":"M_UNKNOWN_TOKEN","error":"Invalid access token"}"#;
            return (401, error.to_owned());
        }
        (200, r#"{"event_id":"$x"}"#.to_owned())
    })
    .await;
    let mut config = json!({
        "kind": "matrix", "url": format!("{}/", service.url), "token": "syt_x", "room": "!r:example.com"
    });
    target(&config).send(&hostile(), "alerts-7-1").await.unwrap();
    let got = service.only();
    assert_eq!(got.method, Method::PUT);
    assert_eq!(
        got.path,
        "/_matrix/client/v3/rooms/%21r%3Aexample%2Ecom/send/m.room.message/alerts%2D7%2D1"
    );
    assert_eq!(got.json["m.mentions"], json!({}));
    assert_eq!(got.json["msgtype"], "m.text");
    target(&config).send(&message("", &"\u{1}".repeat(100_000)), "id").await.unwrap();
    assert!(service.received()[1].text.len() < 60_000);
    config["token"] = json!("wrong");
    let expected = "answered 401 Unauthorized: Invalid access token, M_UNKNOWN_TOKEN".to_owned();
    let refused = target(&config).send(&message("", "x"), "id").await;
    assert_eq!(refused, Err(NotifyError::Refused(expected)));
    config["room"] = json!("#alias:example.com");
    assert!(build(&config).unwrap_err().contains("room: expected a room's id"));
}

/// <https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>: at most 28 KiB; a
/// connector answers 200 also when it was refused further on.
#[tokio::test]
async fn teams_takes_a_card_and_its_hidden_refusals_are_found() {
    let service = Service::start(|request| {
        if request.text.len() > 28 * 1024 { (413, String::new()) } else { (202, String::new()) }
    })
    .await;
    let teams = target(&json!({ "kind": "teams", "url": service.url }));
    teams.send(&hostile(), "id").await.unwrap();
    teams.send(&message(&"\u{1}".repeat(300), &"\"".repeat(50_000)), "id").await.unwrap();
    let card = &service.received()[0].json["attachments"][0]["content"];
    assert_eq!(card["body"][1]["text"], hostile().text);
    assert_eq!(card.get("msteams"), None, "no entities, so nobody is mentioned");
    let hidden = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId x";
    let service = Service::start(|_| (200, hidden.to_owned())).await;
    let teams = target(&json!({ "kind": "teams", "url": service.url }));
    let expected =
        NotifyError::Retry { reason: "answered 429 Too Many Requests".to_owned(), after: None };
    assert_eq!(teams.send(&message("", "x"), "id").await, Err(expected));
}
