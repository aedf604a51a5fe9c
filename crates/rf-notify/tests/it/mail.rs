//! Mail against a real server, aiosmtpd: with STARTTLS and a login, and in the clear.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rf_notify::NotifyError;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

use super::support::{build, hostile, message, target};

/// Prints its port, then a JSON object for each mail. Dropped, it ends.
struct MailServer {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    port: u16,
}

impl MailServer {
    fn start(mode: &str) -> MailServer {
        MailServer::with(mode, &tls("localhost.pem"), &tls("localhost.key"))
    }

    fn with(mode: &str, certificate: &Path, key: &Path) -> MailServer {
        let mut python = Command::new("/usr/bin/python3");
        python.arg(data("mail_server.py")).arg(mode).arg(certificate).arg(key);
        let mut child = python
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 with aiosmtpd, which test.sh installs");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next().expect("aiosmtpd, which test.sh installs").unwrap();
        MailServer { child, lines, port: port.parse().unwrap() }
    }

    fn mail(&mut self) -> Value {
        let line = self.lines.next().expect("the server goes on").unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data").join(name)
}

/// The certificates of the tests of `rf-net`.
fn tls(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rf-net/tests/it/data").join(name)
}

fn config(port: u16, security: &str) -> Value {
    json!({
        "kind": "email",
        "host": "localhost",
        "port": port,
        "security": security,
        "from": "ReplayForge <rf@example.com>",
        "to": ["Ops <ops@example.com>", "boss@example.com"],
        "caFile": tls("ca.pem"),
    })
}

fn with_login(mut config: Value, password: &str) -> Value {
    config["username"] = json!("user");
    config["password"] = json!(password);
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_arrives_through_starttls_with_a_login() {
    let mut server = MailServer::start("starttls");
    let email = target(&with_login(config(server.port, "starttls"), "pass"));
    let sent = email.send(&hostile(), "alerts-1-1").await.unwrap();
    assert!(sent.answer.starts_with("250 ") && sent.missed.is_none(), "{sent:?}");
    let mail = server.mail();
    assert_eq!(mail["from"], "rf@example.com");
    assert_eq!(mail["to"], json!(["ops@example.com", "boss@example.com"]));
    assert_eq!(mail["subject"], hostile().subject);
    assert_eq!(mail["messageId"], "<alerts-1-1@example.com>");
    assert_eq!(mail["tls"], true);
    assert_eq!(mail["text"].as_str().unwrap().trim_end(), hostile().text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_arrives_through_tls_from_the_first_byte_and_no_header_can_be_put_in() {
    let mut server = MailServer::start("tls");
    let email = target(&with_login(config(server.port, "tls"), "pass"));
    let sneaky = message("caf\u{e9} \u{1f980}\r\nBcc: x@example.com", ".\r\n.\nQUIT\n");
    email.send(&sneaky, "id").await.unwrap();
    let mail = server.mail();
    assert_eq!(mail["subject"], "caf\u{e9} \u{1f980} Bcc: x@example.com");
    assert_eq!(mail["bcc"], Value::Null);
    assert_eq!(mail["text"].as_str().unwrap().trim_end(), ".\n.\nQUIT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_more_than_a_mebibyte_is_cut() {
    const MAX_BYTES: usize = 1024 * 1024;
    let mut server = MailServer::start("plain");
    let email = target(&config(server.port, "none"));
    let line = format!("{}\n", "x".repeat(63));
    for (lines, is_whole) in [(MAX_BYTES / 64 - 1, true), (MAX_BYTES / 64 + 1, false)] {
        let text = line.repeat(lines);
        // Read meanwhile: what the server prints is more than a pipe holds.
        let reading = std::thread::spawn(move || (server.mail(), server));
        email.send(&message("s", &text), &format!("id-{lines}")).await.unwrap();
        let mail;
        (mail, server) = reading.join().unwrap();
        let arrived = mail["text"].as_str().unwrap().trim_end();
        assert_eq!(arrived == text.trim_end(), is_whole, "{lines}");
        assert!((MAX_BYTES - 128..=MAX_BYTES).contains(&arrived.len()), "{}", arrived.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_says_what_is_wrong() {
    let server = MailServer::start("starttls");
    let wrong = target(&with_login(config(server.port, "starttls"), "wrong"));
    let refused = wrong.send(&message("s", "m"), "id").await.unwrap_err();
    assert!(matches!(refused, NotifyError::Refused(_)), "{refused:?}");
    let mut unknown = with_login(config(server.port, "starttls"), "pass");
    unknown["to"] = json!(["unknown@example.com"]);
    let refused = target(&unknown).send(&message("s", "m"), "id").await.unwrap_err();
    let reason = format!("mail server localhost:{}: 550 5.1.1 no such user", server.port);
    assert_eq!(refused, NotifyError::Refused(reason));
    let mut busy = with_login(config(server.port, "starttls"), "pass");
    busy["to"] = json!(["busy@example.com"]);
    let later = target(&busy).send(&message("s", "m"), "id").await.unwrap_err();
    assert!(matches!(later, NotifyError::Retry { .. }), "{later:?}");
    // The port is taken, so that no server of another test is there.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = taken.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost"] {
        let mut config = config(port, "starttls");
        config["host"] = json!(host);
        let away = target(&config).send(&message("s", "m"), "id").await.unwrap_err();
        let server = format!("mail server {host}:{port}: ");
        assert!(
            matches!(&away, NotifyError::Away(reason) if reason.starts_with(&server)),
            "{away:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_refused_keeps_the_mail_from_nobody_else() {
    let mut server = MailServer::start("plain");
    let mut config = config(server.port, "none");
    config["to"] = json!(["unknown@example.com", "ops@example.com", "unknown@example.org"]);
    let sent = target(&config).send(&message("s", "m"), "id").await.unwrap();
    let said = format!("mail server localhost:{}: 550 5.1.1 no such user", server.port);
    let missed = format!("unknown@example.com: {said}; unknown@example.org: {said}");
    assert_eq!(sent.missed, Some(missed));
    assert_eq!(server.mail()["to"], json!(["ops@example.com"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_put_off_is_tried_again_alone() {
    let mut server = MailServer::start("plain");
    let mut config = config(server.port, "none");
    config["to"] = json!(["slow@example.com", "ops@example.com"]);
    let email = target(&config);
    let later = email.send(&message("s", "m"), "id").await.unwrap_err();
    assert!(matches!(later, NotifyError::Retry { .. }), "{later:?}");
    assert_eq!(server.mail()["to"], json!(["ops@example.com"]));
    let sent = email.send(&message("s", "m"), "id").await.unwrap();
    assert_eq!(sent.missed, None);
    let mail = server.mail();
    assert_eq!(mail["to"], json!(["slow@example.com"]));
    assert_eq!(mail["messageId"], "<id@example.com>");
    // The next mail goes to both.
    email.send(&message("s", "m"), "id2").await.unwrap();
    assert_eq!(server.mail()["to"], json!(["slow@example.com", "ops@example.com"]));
}

/// What becomes of a mail to a server that says this, line after line, whatever it is told.
async fn said(lines: &[&str]) -> NotifyError {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(listener.local_addr().unwrap().port(), "none");
    config["host"] = json!("127.0.0.1");
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = tokio::io::BufReader::new(stream);
        let mut told = String::new();
        for (n, line) in lines.iter().enumerate() {
            if n > 0 {
                stream.read_line(&mut told).await.unwrap();
            }
            stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        }
        // Read to the goodbye or the end: closed with something unread, the last reply might get lost.
        loop {
            told.clear();
            let length = stream.read_line(&mut told).await.unwrap_or_default();
            if length == 0 || told.starts_with("QUIT") {
                break;
            }
        }
    };
    let email = target(&config);
    let message = message("s", "m");
    let (outcome, ()) = tokio::join!(email.send(&message, "id"), server);
    outcome.unwrap_err()
}

#[tokio::test]
async fn only_what_is_said_of_the_mail_itself_is_held_against_it() {
    let closed = said(&["554 no SMTP service here"]).await;
    assert!(matches!(closed, NotifyError::Retry { after: None, .. }), "{closed:?}");
    let reason = closed.to_string();
    assert!(reason.starts_with("mail server 127.0.0.1:"), "{reason}");
    assert!(reason.ends_with(": 554 no SMTP service here"), "{reason}");
    let no_greeting = said(&["220 hello", "502 not now"]).await;
    assert!(matches!(no_greeting, NotifyError::Retry { .. }), "{no_greeting:?}");
    let sender = said(&["220 hello", "250 hello", "554 go away"]).await;
    assert!(matches!(sender, NotifyError::Refused(_)), "{sender:?}");
    let too_many = "552 5.5.3 too many recipients";
    let later = said(&["220 hello", "250 hello", "250 ok", too_many, too_many]).await;
    assert!(matches!(later, NotifyError::Retry { .. }), "{later:?}");
    let taken = ["220 hello", "250 hello", "250 ok", "250 ok", "250 ok", "354 go on"];
    let content = said(&[&taken[..], &["552 too large"]].concat()).await;
    assert!(matches!(content, NotifyError::Permanent(_)), "{content:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_in_the_clear_that_should_not_be() {
    let mut server = MailServer::start("plain");
    // The server offers no STARTTLS: nothing goes out.
    let email = target(&config(server.port, "starttls"));
    let refused = email.send(&message("s", "m"), "id").await.unwrap_err();
    assert!(matches!(refused, NotifyError::Retry { .. }), "{refused:?}");
    // Asked for, and without a login, it goes.
    target(&config(server.port, "none")).send(&message("s", "m"), "id").await.unwrap();
    assert_eq!(server.mail()["tls"], false);
    let mut far = with_login(config(25, "none"), "pass");
    far["host"] = json!("mail.example.com");
    let problems = build(&far).unwrap_err();
    assert!(problems.contains("security: a password is not sent unencrypted"), "{problems}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let server = MailServer::start("tls");
    let mut config = config(server.port, "tls");
    config.as_object_mut().unwrap().remove("caFile");
    let refused = target(&config).send(&message("s", "m"), "id").await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused:?}");
    assert!(!refused.to_string().contains("onnection error"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_as_a_server_is_told_in_words() {
    let server = MailServer::with("tls", &data("authority.pem"), &data("authority.key"));
    let mut config = config(server.port, "tls");
    config["caFile"] = json!(data("authority.pem"));
    let refused = target(&config).send(&message("s", "m"), "id").await.unwrap_err();
    let port = server.port;
    let words =
        format!("mail server localhost:{port}: its certificate is that of a certificate authority");
    assert!(refused.to_string().starts_with(&words), "{refused:?}");
}

#[test]
fn what_is_no_address_is_told_what_one_is() {
    let expected = "expected an address such as name@example.com";
    for (key, value, shown) in [
        ("from", json!("x"), "from: `x`"),
        ("from", json!("a b@example.com\nBcc: x"), "from: `a b@example.com\\nBcc: x`"),
        ("to", json!(["ops@example.com", "x"]), "to: `x`"),
        ("to", json!(["ops@exa mple..com"]), "to: `ops@exa mple..com`"),
    ] {
        let mut config = config(25, "none");
        config[key] = value;
        let problems = build(&config).unwrap_err();
        assert!(problems.ends_with(&format!("{shown}: {expected}")), "{problems}");
    }
}
