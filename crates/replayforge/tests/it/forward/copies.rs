//! The copies: which are made, and that no secret of theirs is ever written.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::rig::{Rig, Upstream, ok};
use crate::support::ports::free_port;
use crate::support::server::Answer;
use crate::support::small_disk::SmallDisk;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::{call, post};

#[test]
fn only_what_the_rules_name_is_copied() {
    let upstream = Upstream::answering(|_| ok(b"fine"));
    let params = json!({
        "include": [{ "paths": ["/api/**"] }, { "methods": ["DELETE"] }],
        "exclude": [{ "paths": ["/api/health"] }, { "headers": { "X-Private": "*" } }],
    });
    let mut rig = Rig::start(upstream.port, &params);
    let request = |method: &str, target: &str, headers: &[(&str, &[u8])]| {
        assert_eq!(call(rig.port, method, target, headers, b"").text(), "fine", "{target}");
    };
    request("GET", "/api/health", &[]);
    request("GET", "/other", &[]);
    request("GET", "/api/1", &[("X-Private", b"1")]);
    request("GET", "/api/1", &[]);
    request("DELETE", "/other", &[]);
    request("GET", "/api/last", &[]);
    // Those of two connections may come in any order, and what is not wanted as late as the stop.
    eventually("three copies", SOON, || rig.events().len() >= 3);
    assert!(rig.proxy.stop().success());
    let mut copied: Vec<String> =
        rig.events().iter().map(|event| format!("{} {}", event["method"], event["path"])).collect();
    copied.sort();
    assert_eq!(copied, [r#""DELETE" "/other""#, r#""GET" "/api/1""#, r#""GET" "/api/last""#]);
}

#[test]
fn a_share_by_a_header_copies_all_or_nothing_of_a_value() {
    let upstream = Upstream::answering(|_| ok(b"fine"));
    let rig = Rig::start(
        upstream.port,
        &json!({ "sample": 0.5, "sampleBy": "X-User", "exclude": [{ "paths": ["/end/*"] }] }),
    );
    let mut wire = rig.connect();
    for round in 0..3 {
        for user in 0..40 {
            let request =
                format!("GET /u{user}/{round} HTTP/1.1\r\nHost: x\r\nX-User: user-{user}\r\n\r\n");
            assert_eq!(wire.exchange(request.as_bytes()).status(), 200);
        }
    }
    let by_user = || {
        let mut counts = std::collections::BTreeMap::new();
        for event in rig.events() {
            *counts
                .entry(event["headers"]["X-User"][0].as_str().unwrap().to_owned())
                .or_insert(0) += 1;
        }
        counts
    };
    eventually("every copied user has all three", SOON, || {
        let counts = by_user();
        !counts.is_empty() && counts.values().all(|count| *count == 3)
    });
    let users = by_user().len();
    assert!((8..=32).contains(&users), "{users} of 40");
}

#[test]
fn without_capture_nothing_is_copied() {
    let upstream = Upstream::answering(|_| ok(b"fine"));
    let mut rig = Rig::start(upstream.port, &json!({ "capture": false }));
    assert_eq!(call(rig.port, "GET", "/a", &[], b"").text(), "fine");
    assert!(rig.proxy.stop().success());
    assert_eq!(rig.events(), Vec::<Value>::new());
}

/// Every secret holds this, and nothing else does.
const PLANTED: &str = "planted-secret";

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

type Headers<'a> = &'a [(&'a str, &'a [u8])];

/// What [`send_secrets`] sends.
const SECRET_REQUESTS: u64 = 11;

/// Sends a secret in every place where one can be.
fn send_secrets(port: u16) {
    let json = br#"{"user":{"name":"a","password":"planted-secret-1","deep":[{"Api_Key":"planted-secret-2"}]},"note":"planted-secret-3"}"#;
    let long = format!(
        r#"{{"pad":"{}","token":"planted-secret-4{}"}}"#,
        "x".repeat(3000),
        "y".repeat(3000)
    );
    let broken = br#"{"password":"planted-secret-5"#;
    let multipart = b"--b\r\nContent-Disposition: form-data; name=\"secret\"\r\n\r\nplanted-secret-6\r\n--b--\r\n";
    let is: fn(&'static str) -> (&'static str, &'static [u8]) =
        |kind| ("Content-Type", kind.as_bytes());
    let bodies: &[(Headers<'_>, Vec<u8>)] = &[
        (&[is("application/json")], json.to_vec()),
        (&[is("application/json"), ("Content-Encoding", b"gzip")], gzip(json)),
        (&[is("application/json"), ("Content-Encoding", b"br")], b"planted-secret-7".to_vec()),
        (&[is("application/json")], long.clone().into_bytes()),
        (&[is("application/json"), ("Content-Encoding", b"gzip")], gzip(long.as_bytes())),
        (&[is("application/json")], broken.to_vec()),
        (
            &[is("application/x-www-form-urlencoded")],
            b"a=b&password=planted-secret-8&user[token]=planted-secret-9".to_vec(),
        ),
        (&[is("multipart/form-data; boundary=b")], multipart.to_vec()),
        (&[is("text/xml")], b"<a><password>planted-secret-10</password></a>".to_vec()),
        (&[is("text/plain")], b"the card planted-secret-11 was used".to_vec()),
    ];
    assert_eq!(bodies.len() as u64 + 1, SECRET_REQUESTS);
    for (number, (headers, body)) in bodies.iter().enumerate() {
        let answer = call(port, "POST", &format!("/body/{number}"), headers, body);
        assert_eq!((answer.status(), &answer.body), (200, body), "the traffic itself is untouched");
    }
    let headers: &[(&str, &[u8])] = &[
        ("Authorization", b"Bearer planted-secret-12"),
        ("Cookie", b"session=planted-secret-13"),
        ("X-Api-Key", b"planted-secret-14"),
        ("Proxy-Authorization", b"planted-secret-15"),
        ("Referer", b"https://a.example/?access_token=planted-secret-16"),
        ("X-Note", b"see planted-secret-17 there"),
        ("X-Extra", b"planted-secret-18"),
    ];
    let target = "/t/planted-secret-19?api_key=planted-secret-20&password=planted-secret-21&x=%70lanted-secret-22&tok%65n=planted-secret-23";
    assert_eq!(call(port, "GET", target, headers, b"").status(), 200);
}

/// Files below `folder` that hold a secret, as it is or as a body in base64 would hold it.
fn leaks(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(leaks(&path));
            continue;
        }
        let mut bytes = Vec::new();
        fs::File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
        for needle in needles() {
            if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
                let around = &bytes[at.saturating_sub(80)..(at + 80).min(bytes.len())];
                found.push(format!("{}: {}", path.display(), String::from_utf8_lossy(around)));
            }
        }
    }
    found
}

fn needles() -> Vec<Vec<u8>> {
    use base64::Engine;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    // The middle of the word at each of the three places that it can have in a group of base64.
    let middle = |before: &str| encode(&format!("{before}{PLANTED}")).as_bytes()[8..18].to_vec();
    vec![PLANTED.as_bytes().to_vec(), middle(""), middle(" "), middle("  ")]
}

fn redaction() -> Value {
    json!({ "headers": ["X-Extra"], "fields": ["note"], "patterns": ["planted-secret-[0-9]+"] })
}

/// Echoes, with a secret of its own in the head.
fn echo() -> Upstream {
    Upstream::answering(|request| {
        let copied = ["content-type", "content-encoding"].map(|name| {
            request.header(name).map(|value| format!("{name}: {value}\r\n")).unwrap_or_default()
        });
        let head = format!(
            "HTTP/1.1 200 OK\r\nSet-Cookie: id=planted-secret-24\r\nLocation: /x?token=planted-secret-25\r\n{}Content-Length: {}\r\n\r\n",
            copied.concat(),
            request.body.len()
        );
        [head.as_bytes(), &request.body].concat()
    })
}

#[test]
fn no_secret_is_ever_written() {
    let (upstream, status) = (echo(), free_port());
    let params = json!({ "captureResponse": true, "maxCaptureBytes": 4096, "redact": redaction() });
    let mut rig = Rig::with(upstream.port, &params, |config| {
        config["portStatusZ"] = json!(status);
        // Nobody takes the copies: they stay in the queue.
        config["sinks"][0]["url"] = json!("http://127.0.0.1:1/");
    });
    // The most that it ever logs.
    for level in ["debug", "trace"] {
        rig.proxy.signal(Signal::USR1);
        rig.proxy.wait_for(&format!("the log level was changed by a signal level={level}"));
    }
    send_secrets(rig.port);
    let data = rig.folder().join("proxy");
    // The write-ahead log, as it stands while the proxy runs, and the database after its end.
    eventually("the copies are in the queue", SOON, || {
        let page = call(status, "GET", "/statusz", &[], b"").json();
        page["sinks"]["out"]["totalEvents"] == SECRET_REQUESTS
    });
    assert!(holds(&data, b"/body/9"), "the copies are there");
    assert_eq!(leaks(&data), Vec::<String>::new());
    rig.proxy.kill();
    assert!(!rig.proxy.log().contains(PLANTED), "{}", rig.proxy.log());
    assert_eq!(leaks(&data), Vec::<String>::new());
    rig.proxy.restart();
    assert!(rig.proxy.stop().success());
    assert_eq!(leaks(&data), Vec::<String>::new());
    assert!(holds(&data, b"/body/9"), "the copies are there");
    assert!(!rig.proxy.log().contains(PLANTED), "{}", rig.proxy.log());
}

#[test]
fn the_search_for_secrets_finds_them_where_nothing_is_masked() {
    let upstream = echo();
    let params = json!({ "captureResponse": true, "redact": { "keep": ["*"] } });
    let mut rig = Rig::with(upstream.port, &params, |config| {
        config["sinks"][0]["url"] = json!("http://127.0.0.1:1/");
    });
    for shift in 0..3 {
        let body = [&b"\xff   "[..=shift], PLANTED.as_bytes()].concat();
        assert_eq!(call(rig.port, "POST", "/", &[], &body).status(), 200);
    }
    assert_eq!(call(rig.port, "POST", "/", &[], PLANTED.as_bytes()).status(), 200);
    assert!(rig.proxy.stop().success());
    let database = rig.folder().join("proxy/proxy.sqlite3");
    let bytes = fs::read(&database).unwrap();
    for needle in needles() {
        assert!(
            bytes.windows(needle.len()).any(|window| window == needle),
            "{}",
            String::from_utf8_lossy(&needle)
        );
    }
}

#[test]
fn dead_letters_hold_no_secret() {
    let upstream = echo();
    let mut rig = Rig::start(
        upstream.port,
        &json!({ "captureResponse": true, "maxCaptureBytes": 4096, "redact": redaction() }),
    );
    rig.collector.answer(|_, _| Answer::status(400));
    send_secrets(rig.port);
    rig.proxy.expect_error("");
    rig.proxy.wait_for("dead letter");
    assert!(rig.proxy.stop().success());
    assert_eq!(leaks(&rig.folder().join("proxy")), Vec::<String>::new());
    assert!(!rig.proxy.log().contains(PLANTED), "{}", rig.proxy.log());
}

#[test]
fn what_is_kept_is_useful() {
    let upstream = echo();
    let rig = Rig::start(
        upstream.port,
        &json!({ "captureResponse": true, "maxCaptureBytes": 4096, "redact": { "keep": ["X-Api-Key"] } }),
    );
    send_secrets(rig.port);
    let event = rig.event("/body/0");
    let expected = r#"{"user":{"name":"a","password":"***","deep":[{"Api_Key":"***"}]},"note":"planted-secret-3"}"#;
    assert_eq!((&event["body"], &event["response"]["body"]), (&json!(expected), &json!(expected)));
    assert_eq!(event["response"]["headers"]["Set-Cookie"], json!(["***"]));
    assert_eq!(event["response"]["headers"]["Location"], json!(["/x?token=***"]));
    let event = rig.event("/body/1");
    assert_eq!((&event["body"], &event["bodyDecoded"]), (&json!(expected), &json!("gzip")));
    assert!(event["headers"].get("Content-Encoding").is_none(), "{event}");
    let event = rig.event("/body/2");
    assert_eq!(
        (&event["body"], &event["bodyOmitted"]),
        (&json!(""), &json!("its content encoding cannot be searched"))
    );
    assert_eq!(event["bodyBytes"], 16);
    assert_eq!(rig.event("/body/5")["body"], r#"{"password":"***""#);
    let event = rig.event("/t/planted-secret-19");
    assert_eq!(event["headers"]["Authorization"], json!(["***"]));
    assert_eq!(event["headers"]["X-Api-Key"], json!(["planted-secret-14"]));
    assert_eq!(event["params"]["api_key"], json!(["***"]));
    assert_eq!(event["params"]["token"], json!(["***"]));
}

#[test]
fn the_plain_source_masks_what_it_is_told_to() {
    let mut rig = Rig::with(1, &json!({}), |config| {
        let params = config["sources"][0]["params"].as_object_mut().unwrap();
        params.remove("forwardTo");
        params.insert(
            "redact".to_owned(),
            json!({ "fields": ["password"], "headers": ["X-Own"], "query": ["t"] }),
        );
    });
    let body = br#"{"password":"planted-secret","token":"kept"}"#;
    let answer =
        call(rig.port, "POST", "/p?t=planted-secret", &[("X-Own", b"planted-secret")], body);
    assert_eq!(answer.text(), "Request received");
    let coded: &[(&str, &[u8])] = &[("Content-Encoding", b"gzip")];
    assert_eq!(call(rig.port, "POST", "/gzip", coded, &gzip(body)).text(), "Request received");
    post(rig.port, "/plain", b"x");
    let event = rig.event("/p");
    assert_eq!(event["body"], r#"{"password":"***","token":"kept"}"#);
    assert_eq!(
        (&event["headers"]["X-Own"], &event["target"]),
        (&json!(["***"]), &json!("/p?t=***"))
    );
    assert_eq!(rig.event("/gzip")["body"], event["body"]);
    rig.event("/plain");
    assert!(rig.proxy.stop().success());
    assert_eq!(leaks(&rig.folder().join("proxy")), Vec::<String>::new());
}

/// Every request goes through, whatever the disk allows; clients of the plain source beside it wait.
#[test]
fn traffic_passes_where_the_queue_cannot_be_opened_and_is_copied_once_it_can() {
    let upstream = Upstream::answering(|_| ok(b"fine"));
    let (mut disk, status, plain) = (None, free_port(), free_port());
    let mut rig = Rig::with(upstream.port, &json!({}), |config| {
        let mounted = SmallDisk::mount(PathBuf::from(config["dataDir"].as_str().unwrap()));
        // The first start of all, so that there is no reserve to be given up.
        mounted.fill(0);
        disk = Some(mounted);
        config["portStatusZ"] = json!(status);
        let params = json!({ "listenPort": plain, "listenAddress": "127.0.0.1" });
        let source =
            json!({ "id": "plain", "type": "http", "params": params, "targetSink": "out" });
        config["sources"].as_array_mut().unwrap().push(source);
    });
    let disk = disk.expect("the rig asks for its file once");
    rig.proxy.expect_error("the database cannot be opened");
    rig.proxy.expect_error("the queue cannot be read or written");
    let told = |path: &str| call(status, "GET", path, &[], b"");
    let port = rig.port;
    let passes = |path: &str| assert_eq!(call(port, "GET", path, &[], b"").text(), "fine");
    let lost = || told("/node-info").json()["sources"]["in"]["dropped"]["refused"].as_u64();

    passes("/lost/1");
    eventually("the copy is counted as lost", SOON, || lost() == Some(1));
    let refused = call(plain, "POST", "/", &[], b"x");
    assert_eq!((refused.status(), refused.header("Retry-After").as_deref()), (503, Some("1")));
    eventually("it is not ready", SOON, || {
        let ready = told("/readyz");
        ready.status() == 503 && ready.text().contains("it cannot be opened now")
    });
    assert_eq!(told("/healthz").status(), 200, "a restart would not mend it");
    disk.make_room();
    eventually("it is ready", SOON, || told("/readyz").status() == 200);
    passes("/kept/1");
    rig.event("/kept/1");
    post(plain, "/plain", b"x");
    rig.event("/plain");

    assert!(rig.proxy.stop().success());
    disk.protect();
    rig.proxy.restart();
    passes("/lost/2");
    eventually("the copy is counted as lost", SOON, || lost() == Some(1));
    disk.unprotect();
    eventually("it is ready", SOON, || told("/readyz").status() == 200);
    passes("/kept/2");
    rig.event("/kept/2");
    let copied = rig.events();
    assert!(!copied.iter().any(|event| event["path"].as_str().unwrap().contains("lost")));
    assert!(rig.proxy.stop().success());
}

/// Whether a file below `folder` holds this.
fn holds(folder: &Path, needle: &[u8]) -> bool {
    let mut paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.any(|path| {
        fs::read(path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    })
}
