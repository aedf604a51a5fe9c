//! Mail against a real server, aiosmtpd: with STARTTLS and a login, and in the clear.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rf_notify::NotifyError;
use serde_json::{Value, json};

use super::support::{build, hostile, message, target};

/// Prints its port, then a JSON object for each mail. Dropped, it ends.
struct MailServer {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    port: u16,
}

impl MailServer {
    fn start(mode: &str) -> MailServer {
        let mut python = Command::new("/usr/bin/python3");
        python
            .arg(data("mail_server.py"))
            .arg(mode)
            .arg(tls("localhost.pem"))
            .arg(tls("localhost.key"));
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
    let answer = email.send(&hostile(), "alerts-1-1").await.unwrap();
    assert!(answer.starts_with("250 "), "{answer}");
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
async fn a_mail_server_says_what_is_wrong() {
    let server = MailServer::start("starttls");
    let wrong = target(&with_login(config(server.port, "starttls"), "wrong"));
    let refused = wrong.send(&message("s", "m"), "id").await.unwrap_err();
    assert!(matches!(refused, NotifyError::Refused(_)), "{refused:?}");
    let mut unknown = with_login(config(server.port, "starttls"), "pass");
    unknown["to"] = json!(["unknown@example.com"]);
    let refused = target(&unknown).send(&message("s", "m"), "id").await.unwrap_err();
    assert!(matches!(refused, NotifyError::Refused(_)), "{refused:?}");
    let mut busy = with_login(config(server.port, "starttls"), "pass");
    busy["to"] = json!(["busy@example.com"]);
    let later = target(&busy).send(&message("s", "m"), "id").await.unwrap_err();
    assert!(matches!(later, NotifyError::Retry { .. }), "{later:?}");
    let port = server.port;
    drop(server);
    let email = target(&config(port, "starttls"));
    let away = email.send(&message("s", "m"), "id").await.unwrap_err();
    assert!(matches!(away, NotifyError::Away(_)), "{away:?}");
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
    assert!(problems.contains("security: a password is not sent in the clear"), "{problems}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let server = MailServer::start("tls");
    let mut config = config(server.port, "tls");
    config.as_object_mut().unwrap().remove("caFile");
    let refused = target(&config).send(&message("s", "m"), "id").await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused:?}");
}
