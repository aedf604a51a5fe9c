//! Values that come from the environment and from files.

use serde_json::{Value, json};

use super::{AgentConfig, SinkConfig, clean, decode, problems_of};
use crate::config::Interval;

#[test]
fn expands_values_and_not_keys() {
    let (value, problems) = decode::<Value>(
        r#"{"$PORT": "$PORT", "b": ["http://h:${PORT}/", "\$PORT \\$PORT \\\$PORT"]}"#,
    );
    assert_eq!(
        value,
        Some(json!({"$PORT": "8099", "b": ["http://h:8099/", "$PORT $PORT \\$PORT"]}))
    );
    assert_eq!(problems, "");

    let (value, problems) =
        decode::<Value>("{a: 'x$NONE',\n b: ['$file:/nonexistent/secret', '${', '${NONE:-y}']}");
    assert_eq!(value, None);
    insta::assert_snapshot!(problems, @r#"
    agent.json:2:6: error: b[0]: cannot read /nonexistent/secret: No such file or directory (os error 2)
    agent.json:1:5: warning: a: the environment variable NONE is not set; an empty text is used
    agent.json:2:35: warning: b[1]: a `${` that names no variable stays as it is: write `\${` if that is meant, else `${NAME}` or `${NAME:-default}`
    "#);

    let (value, problems) = decode::<Value>("{a: 'cost ${{message}} $PORT'}");
    assert_eq!(value, Some(json!({"a": "cost ${{message}} 8099"})));
    insta::assert_snapshot!(problems, @r#"
    agent.json:1:5: warning: a: a `${` that names no variable stays as it is: write `\${` if that is meant, else `${NAME}` or `${NAME:-default}`
    "#);
}

#[test]
fn an_expanded_text_becomes_what_is_wanted() {
    let config: AgentConfig = clean(
        r#"{"sources": [{"id": "$PORT", "type": "${NONE:-http}", "hookInterval": "$EVERY", "verbose": "$YES"}],
            "portStatusZ": "$PORT", "relayUrl": "$PORT", "labels": {"a": "$EVERY"}, "extra": ["$EVERY"]}"#,
    );
    let source = &config.sources[0];
    assert_eq!((source.id.as_str(), source.verbose), ("8099", true));
    assert_eq!(source.hook_interval, Some(Interval::from_secs(5)));
    assert_eq!((config.port_status_z, config.labels["a"]), (8099, 5));
    assert_eq!((config.relay_url.as_deref(), config.extra), (Some("8099"), json!(["5"])));

    insta::assert_snapshot!(problems_of(r#"{"sources": [], "portStatusZ": "8099"}"#), @r#"agent.json:1:32: error: portStatusZ: expected a whole number, found "8099""#);
    insta::assert_snapshot!(problems_of(r#"{"sources": [], "portStatusZ": "$NONE"}"#), @r#"
    agent.json:1:32: error: portStatusZ: expected a whole number, found ***
    agent.json:1:32: warning: portStatusZ: the environment variable NONE is not set; an empty text is used
    "#);
}

#[test]
fn reads_secrets_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "s3cret\n").unwrap();
    let sink: SinkConfig =
        clean(&json!({"id": "a", "authBearer": format!("$file:{}", path.display())}).to_string());
    assert_eq!(sink.auth_bearer.unwrap().expose(), "s3cret");
}
