//! What is told of `params` that can be read and make no sense together.

use std::path::Path;

use rf_core::config::{Problems, parse};

use crate::sink::SinkContext;
use crate::sink::alert::build;

/// What is told of the sink `me` beside these others.
fn told(params: &str, sinks: &[&str]) -> String {
    let context = SinkContext { name: "me", data_dir: Path::new("."), sinks };
    let mut problems = Problems::new();
    let document = parse("player.json", params, &|_| None, &mut problems).expect("JSON");
    drop(build(&context, &document.root(), &mut problems));
    problems.to_string()
}

#[test]
fn a_table_has_one_entry_however_it_is_spelled() {
    let check = |scripts: &str, expected: &str| {
        let params = format!(r#"{{ "database": "a", "scripts": {{ {scripts} }} }}"#);
        let told = told(&params, &["me"]);
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
    let alone = told(params, &["me"]);
    assert!(alone.ends_with(&format!("{nobody}; there is no other sink")), "{alone}");
    let among_others = told(params, &["chat", "me", "log"]);
    assert!(among_others.ends_with(&format!("{nobody}; known: chat, log")), "{among_others}");
}
