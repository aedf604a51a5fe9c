//! What is told of `params`, and what empty ones mean.

use std::path::Path;

use rf_core::config::{Problems, parse};

use crate::sink::SinkContext;
use crate::sink::alert::build;
use crate::sink::table::rig::sink;

/// What is told of the sink `me` with this `dataDir`, beside these others.
fn told(data_dir: &Path, params: &str, sinks: &[&str]) -> String {
    let context = SinkContext { name: "me", data_dir, sinks };
    let mut problems = Problems::new();
    let document = parse("player.json", params, &|_| None, &mut problems).expect("JSON");
    drop(build(&context, &document.root(), &mut problems));
    problems.to_string()
}

#[test]
fn a_table_has_one_entry_however_it_is_spelled() {
    let check = |scripts: &str, expected: &str| {
        let params = format!(r#"{{ "database": "a", "scripts": {{ {scripts} }} }}"#);
        let told = told(Path::new("."), &params, &["me"]);
        assert!(told.contains(expected), "{scripts}: {told}");
        assert_eq!(told.is_empty(), expected.is_empty(), "{scripts}: {told}");
    };
    check(r#""shop": {}, "shops": {}, "\u00c4": {}, "\u00e4": {}"#, "");
    check(
        r#""shop": {}, "a": {}, "Shop": {}"#,
        "warning: scripts.shop: `Shop` and `shop` are one table, since case does not matter: only the entry `Shop` counts",
    );
}

#[test]
fn an_alert_that_is_the_only_sink_has_no_other_to_name() {
    let params = r#"{ "database": "a", "notification_sink": "mail" }"#;
    let nobody = "error: notification_sink: no other sink has the name `mail`";
    let alone = told(Path::new("."), params, &["me"]);
    assert!(alone.ends_with(&format!("{nobody}; there is no other sink")), "{alone}");
    let among_others = told(Path::new("."), params, &["chat", "me", "log"]);
    assert!(among_others.ends_with(&format!("{nobody}; known: chat, log")), "{among_others}");
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.lua"), "function extractStatus(").unwrap();
    std::fs::write(folder.path().join("none.lua"), "x = 1").unwrap();
    let script = "function extractStatus(json)\n io.write(json) end";
    std::fs::write(folder.path().join("files.lua"), script).unwrap();
    for (params, why) in [
        (
            r#"{"database":"a","notification_sink":"nobody"}"#,
            "no other sink has the name `nobody`; known: mail",
        ),
        (r#"{"database":"a","notification_sink":"me"}"#, "no other sink has the name `me`"),
        (r#"{"database":"a","scripts":{"t":{"scriptPath":"bad.lua"}}}"#, "bad.lua:1:"),
        (
            r#"{"database":"a","scripts":{"t":{"scriptPath":"none.lua"}}}"#,
            "no function extractStatus",
        ),
        (r#"{"database":"a","scripts":{"t":{"scriptPath":"gone.lua"}}}"#, "gone.lua"),
        (
            r#"{"database":"a","scripts":{"t":{"scriptPath":"files.lua"}}}"#,
            "files.lua:2: `io.write` is not available, calling it fails: a script of an alert cannot use it",
        ),
        (
            r#"{"database":"a","scripts":{"t":{"consecutiveBad":3,"outOf":2}}}"#,
            "expected at least consecutiveBad (3)",
        ),
        (r#"{"database":"a","scripts":{"t":{"silencedUntil":"later"}}}"#, "expected Unix time"),
        (r#"{"database":"a","scripts":{"a b":{}}}"#, "cannot name a table"),
    ] {
        let told = told(folder.path(), params, &["me", "mail"]);
        assert!(told.contains(why), "{params}: {told}");
    }
}

#[test]
fn empty_keys_are_as_if_they_were_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let listener = |keys: &str| {
        let params = format!(
            r#"{{ "database": "a", {keys}, "scripts": {{ "t": {{ "scriptPath": "", "heartbeatInterval": "" }} }} }}"#
        );
        sink(build, folder.path(), &params).own_listener()
    };
    assert_eq!(listener(r#""exposed_port": "", "listen_addr": """#), None);
    let expected = Some(("localhost".to_owned(), 8090));
    assert_eq!(listener(r#""exposed_port": "8090", "listen_addr": """#), expected);
}
