//! The loader as its callers see it: a text goes in, problems and values come out.

mod expansion;
mod properties;
mod unset;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ByteSize, Interval, MAX_DEPTH, MAX_FILE_BYTES, Problems, Secret, load, parse, schema_of,
};

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AgentConfig {
    /// Where events come from.
    sources: Vec<SourceConfig>,
    #[serde(default)]
    sinks: Vec<SinkConfig>,
    #[serde(default = "default_port")]
    port_status_z: u16,
    #[serde(default)]
    durability: Durability,
    relay_url: Option<String>,
    status_address: Option<SocketAddr>,
    #[serde(default)]
    labels: BTreeMap<String, u32>,
    #[serde(default)]
    extra: Value,
}

fn default_port() -> u16 {
    5253
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SourceConfig {
    #[schemars(length(min = 1))]
    id: String,
    #[serde(rename = "type")]
    kind: SourceKind,
    target_sink: Option<String>,
    hook_interval: Option<Interval>,
    #[serde(default)]
    verbose: bool,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum SourceKind {
    Http,
    LogFile,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SinkConfig {
    id: String,
    auth_bearer: Option<Secret>,
    #[serde(default)]
    buckets: Vec<String>,
    #[serde(default)]
    config: ShipConfig,
    #[serde(alias = "tls")]
    #[schemars(extend("x-aliases" = ["tls"]))]
    ttl_secs: Option<u32>,
}

#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
struct ShipConfig {
    max_payload_bytes: Option<ByteSize>,
    batch_max_events: Option<u64>,
    #[schemars(range(min = 0.5, max = 60.0))]
    batch_timeout_secs: Option<f64>,
}

/// With documented variants, which schemars writes as alternatives.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Durability {
    /// Survives power loss.
    #[default]
    Commit,
    /// Survives a killed process.
    Process,
}

fn env(name: &str) -> Option<String> {
    let value = match name {
        "TOKEN" => "hunter2 \"quoted\"",
        "PORT" => "8099",
        "YES" => "true",
        "EVERY" => "5",
        "ADDRESS" => "nowhere!",
        _ => return None,
    };
    Some(value.to_owned())
}

/// Decodes a text and gives back what came of it, and the problems as printed.
fn decode<T: serde::de::DeserializeOwned + JsonSchema>(text: &str) -> (Option<T>, String) {
    let mut problems = Problems::new();
    let decoded = parse("agent.json", text, &env, &mut problems)
        .and_then(|doc| doc.root().decode(&mut problems));
    assert_eq!(
        decoded.is_none(),
        problems.has_errors(),
        "a value and errors exclude each other:\n{problems}"
    );
    (decoded, problems.to_string())
}

fn problems_of(text: &str) -> String {
    decode::<AgentConfig>(text).1
}

/// Decodes what must be without a problem.
fn clean<T: serde::de::DeserializeOwned + JsonSchema>(text: &str) -> T {
    let (decoded, problems) = decode(text);
    assert_eq!(problems, "");
    decoded.expect("a value when there are no problems")
}

#[test]
fn a_size_that_is_too_large_is_told_so() {
    let text = r#"{"sinks": [{"id": "relay", "config": {"maxPayloadBytes": "99999999TB"}}]}"#;
    let problems = problems_of(text);
    let expected = "error: sinks[0].config.maxPayloadBytes: too large, found \"99999999TB\"";
    assert!(problems.contains(expected), "{problems}");
}

#[test]
fn tells_all_mistakes_of_a_file_at_once() {
    let text = r#"{
  // The proxy of the shop.
  "Sources": [
    {"id": "", "type": "htpp", "targetSnk": "relay", "hookInterval": "5 parsecs"},
    {"type": "http", "id": 7, "verbose": "yes", "HOOKINTERVAL": -1},
    "http",
  ],
  "sinks": [{
    "id": "relay", "authBearer": 4711, "buckets": "shop",
    "config": {
      "maxPayloadBytes": "5MB of data",
      "batchMaxEvents": "abc",
      "batchTimeoutSecs": 0.1,
    },
    "ttlSecs": 5000000000,
  }],
  "portStatusZ": 70000,
  "durability": "comit",
  "labels": {"a": 1, "b": 1.5},
  "colour": "red",
  "durability": "often",
}"#;
    insta::assert_snapshot!(problems_of(text), @r#"
    agent.json:4:12: error: Sources[0].id: must not be empty
    agent.json:4:24: error: Sources[0].type: expected one of "http", "logfile", found "htpp"; did you mean "http"?
    agent.json:4:70: error: Sources[0].hookInterval: expected a duration such as "300ms" or "2h45m", or a number of seconds, found "5 parsecs"
    agent.json:5:28: error: Sources[1].id: expected a string, found 7
    agent.json:5:42: error: Sources[1].verbose: expected true or false, found "yes"
    agent.json:5:65: error: Sources[1].HOOKINTERVAL: expected a duration such as "300ms" or "2h45m", or a number of seconds, found -1
    agent.json:6:5: error: Sources[2]: expected an object, found "http"
    agent.json:9:34: error: sinks[0].authBearer: expected a string, found ***
    agent.json:9:51: error: sinks[0].buckets: expected a list, found "shop"
    agent.json:11:26: error: sinks[0].config.maxPayloadBytes: expected a number of bytes, or a size such as "10MiB" or "1GB", found "5MB of data"
    agent.json:12:25: error: sinks[0].config.batchMaxEvents: expected a whole number, found "abc"
    agent.json:13:27: error: sinks[0].config.batchTimeoutSecs: expected a number from 0.5 to 60.0, found 0.1
    agent.json:15:16: error: sinks[0].ttlSecs: expected a whole number from 0 to 4294967295, found 5000000000
    agent.json:17:18: error: portStatusZ: expected a whole number from 0 to 65535, found 70000
    agent.json:19:27: error: labels.b: expected a whole number, found 1.5
    agent.json:21:17: error: durability: expected one of "commit", "process", found "often"
    agent.json:4:32: warning: Sources[0].targetSnk: unknown key `targetSnk`; did you mean `targetSink`?
    agent.json:20:3: warning: colour: unknown key `colour`; known here: `sources`, `sinks`, `portStatusZ`, `durability`, `relayUrl`, `statusAddress`, `labels`, `extra`
    agent.json:21:3: warning: durability: duplicate key, also on line 18; the last one counts
    "#);
}

#[test]
fn a_key_of_an_inner_object_is_told_where_it_belongs() {
    let text = r#"{"sources": [], "sinks": [{"id": "a", "batchMaxEvents": 7}]}"#;
    let expected =
        "warning: sinks[0].batchMaxEvents: unknown key `batchMaxEvents`; it belongs in `config`";
    let problems = problems_of(text);
    assert!(problems.ends_with(expected), "{problems}");
}

#[test]
fn keeps_secrets_and_expanded_values_out_of_problems() {
    let text = r#"{
  "sources": [{"id": "a", "type": "$TOKEN", "hookInterval": "x$TOKEN"}],
  "sinks": [{"id": "b", "authBearer": 4711}, {"id": "c", "authBearer": true, "buckets": "$TOKEN"}],
  "portStatusZ": "${TOKEN}",
  "durability": "$TOKEN",
}"#;
    insta::assert_snapshot!(problems_of(text), @r#"
    agent.json:2:35: error: sources[0].type: expected one of "http", "logfile", found ***
    agent.json:2:61: error: sources[0].hookInterval: expected a duration such as "300ms" or "2h45m", or a number of seconds, found ***
    agent.json:3:39: error: sinks[0].authBearer: expected a string, found ***
    agent.json:3:72: error: sinks[1].authBearer: expected a string, found ***
    agent.json:3:89: error: sinks[1].buckets: expected a list, found ***
    agent.json:4:18: error: portStatusZ: expected a whole number, found ***
    agent.json:5:17: error: durability: expected one of "commit", "process", found ***
    "#);
    insta::assert_snapshot!(problems_of(r#"{"sources": [], "statusAddress": "$ADDRESS"}"#), @"agent.json:1:34: error: statusAddress: invalid socket address syntax");
    insta::assert_snapshot!(problems_of(r#"{"sources": [], "statusAddress": "plain"}"#), @"agent.json:1:34: error: statusAddress: invalid socket address syntax");
}

#[test]
fn reads_the_files_of_the_original() {
    let config: AgentConfig = clean(
        r#"{
  "$schema": "./agent.schema.json",
  "SOURCES": [{"ID": "web", "Type": "http", "targetsink": "relay", "hookInterval": "300ms"}],
  "sinks": [{"id": "relay", "authbearer": "t", "buckets": null, "tls": 60, "config": {"maxpayloadbytes": 1e3}}],
  "RelayURL": "http://relay",
  "portStatusZ": null
}"#,
    );
    let expected = AgentConfig {
        sources: vec![SourceConfig {
            id: "web".to_owned(),
            kind: SourceKind::Http,
            target_sink: Some("relay".to_owned()),
            hook_interval: Some(Interval::from_millis(300)),
            verbose: false,
        }],
        sinks: vec![SinkConfig {
            id: "relay".to_owned(),
            auth_bearer: Some(Secret::new("t")),
            buckets: vec![],
            config: ShipConfig {
                max_payload_bytes: Some(ByteSize::new(1000)),
                ..ShipConfig::default()
            },
            ttl_secs: Some(60),
        }],
        port_status_z: 5253,
        durability: Durability::Commit,
        relay_url: Some("http://relay".to_owned()),
        status_address: None,
        labels: BTreeMap::new(),
        extra: Value::Null,
    };
    assert_eq!(config, expected);
}

#[test]
fn reads_json5() {
    let value: Value = clean(
        "\u{feff}{ /* all of it */ plain: 'it''s', 'a b': [1, .5, +5, 0xff, -0x10, 1e2,], // end\n $k: \"a\\\nb\\x41\", }"
            .replace("''", "\\'")
            .as_str(),
    );
    assert_eq!(value, json!({"plain": "it's", "a b": [1, 0.5, 5, 255, -16, 100.0], "$k": "abA"}));
}

#[test]
fn tells_where_the_syntax_is_wrong() {
    let check = |text: &str, expected: &str| {
        let (value, problems) = decode::<Value>(text);
        assert_eq!(
            (value, problems.as_str()),
            (None, format!("agent.json{expected}").as_str()),
            "{text}"
        );
    };
    check("", ":1:1: error: the file is empty, expected an object");
    check("// nothing\n", ":1:1: error: the file is empty, expected an object");
    check("{\n  'é': 1\n  b: 2\n}", ":2:9: error: expected a comma after this value");
    check(
        "{\n  a: \"x,\n  b: \"y\"\n}",
        ":2:6: error: the string that starts here is not closed on its line",
    );
    check("{a: 1", ":1:1: error: the object that starts here is not closed");
    check("[[1]", ":1:1: error: the list that starts here is not closed");
    check("{a 1}", ":1:4: error: expected a colon after the key");
    check("{a: }", ":1:5: error: unexpected close brace");
    check("port = 8081", ":1:6: error: unexpected character, expected JSON or JSON5");
    check("{a: yes }", ":1:5: error: unexpected word, expected a value; a text needs quotes");
    check("{a: 1} 2", ":1:8: error: expected the end of the file after the outermost value");
    check("[1, 1e999]", ":1:5: error: [1]: the number is too large, or not finite");
    check("{a: -Infinity}", ":1:5: error: a: the number is too large, or not finite");
    check(
        r#"["\ud800"]"#,
        ":1:3: error: invalid unicode escape sequence. 'd800 (unpaired high surrogate)' is not a valid UTF8 character",
    );
}

#[test]
fn bounds_nesting_and_length() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let _: Value = clean(&nested(MAX_DEPTH));
    assert_eq!(
        decode::<Value>(&nested(MAX_DEPTH + 1)).1,
        "agent.json:1:65: error: nested deeper than 64 lists and objects"
    );
    // Far deeper than any stack would hold.
    assert!(decode::<Value>(&nested(1_000_000)).0.is_none());

    let padded = |len: usize| format!("1{}", " ".repeat(len - 1));
    let _: Value = clean(&padded(MAX_FILE_BYTES));
    assert_eq!(
        decode::<Value>(&padded(MAX_FILE_BYTES + 1)).1,
        "agent.json: error: longer than 4194304 bytes"
    );
}

#[test]
fn knows_the_place_and_path_of_every_value() {
    let text = "{\n  a: [1, {'b c': 2, 'é': 3, \"ü\": 4}],\n  A: 5\n}";
    let mut problems = Problems::new();
    let document = parse("f", text, &env, &mut problems).unwrap();
    let inner = document.root().get("a").unwrap().items()[1];
    for (_, node) in inner.entries() {
        problems.warn(&node, node.shown());
    }
    problems.error(&document.root().get("A").unwrap(), "x");
    problems.error(&document.root(), "y");
    insta::assert_snapshot!(problems, @r#"
    f:1:1: error: y
    f:3:6: error: A: x
    f:2:18: warning: a[1]["b c"]: 2
    f:2:26: warning: a[1].é: 3
    f:2:34: warning: a[1].ü: 4
    "#);
    assert_eq!(document.root().get("a").unwrap().get("ü").map(|node| node.path()), None);
    assert_eq!(inner.get("ü").unwrap().path(), "a[1].ü");
}

#[test]
fn an_exact_key_wins_over_one_in_another_case() {
    let keys = |text: &str| {
        let mut problems = Problems::new();
        let document = parse("f", text, &env, &mut problems).unwrap();
        let found = document.root().get("relayUrl").map(|node| node.as_str().unwrap().to_owned());
        let decoded: Option<HashMap<String, Value>> = document.root().decode(&mut problems);
        (found, decoded.unwrap().len())
    };
    assert_eq!(keys("{relayUrl: 'exact', RelayURL: 'other'}"), (Some("exact".to_owned()), 2));
    assert_eq!(keys("{RELAYURL: 'first', RelayURL: 'last'}"), (Some("last".to_owned()), 2));
    assert_eq!(keys("{relay_url: ''}"), (None, 1));

    let (config, problems) = decode::<AgentConfig>(
        "{sources: [], relayUrl: 'exact',\n RelayURL: 'other', Labels: {a: 1},\n LABELS: {a: 2}}",
    );
    let config = config.unwrap();
    assert_eq!((config.relay_url.as_deref(), config.labels["a"]), (Some("exact"), 2));
    insta::assert_snapshot!(problems, @r#"
    agent.json:2:2: warning: RelayURL: ignored: `relayUrl` is there too and means the same
    agent.json:2:21: warning: Labels: ignored: `LABELS` is there too and means the same
    "#);
}

#[test]
fn of_a_repeated_key_the_last_counts() {
    let (value, problems) = decode::<Value>("{a: 1,\n b: 2,\n a: {c: 3, c: 4}}");
    assert_eq!(value, Some(json!({"a": {"c": 4}, "b": 2})));
    insta::assert_snapshot!(problems, @r#"
    agent.json:3:2: warning: a: duplicate key, also on line 1; the last one counts
    agent.json:3:12: warning: a.c: duplicate key, also on line 3; the last one counts
    "#);
}

#[test]
fn loads_files() {
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, content: Option<&[u8]>, expected: &str| {
        let path = dir.path().join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let mut problems = Problems::new();
        let document = load(&path, &env, &mut problems);
        let printed = problems.to_string().replace(&*dir.path().to_string_lossy(), "DIR");
        assert_eq!(
            (printed.as_str(), document.is_some()),
            (expected, expected.is_empty()),
            "{name}"
        );
    };
    check("good.json", Some(b"{}"), "");
    check(
        "none.json",
        None,
        "DIR/none.json: error: cannot be read: No such file or directory (os error 2)",
    );
    check(
        "latin1.json",
        Some(b"{\n\"a\": \"\xe9\"}"),
        "DIR/latin1.json:2:7: error: not UTF-8 from here on",
    );
    let long = vec![b' '; MAX_FILE_BYTES + 1];
    check("long.json", Some(&long), "DIR/long.json: error: longer than 4194304 bytes");
    assert!(load(Path::new("/"), &env, &mut Problems::new()).is_none());
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Tagged {
    Http { port: u16 },
    File { path: String, secret: Option<Secret> },
}

#[test]
fn tells_tagged_objects_apart() {
    assert_eq!(clean::<Tagged>("{type: 'http', port: 1}"), Tagged::Http { port: 1 });
    let problems = |text: &str| decode::<Tagged>(text).1;
    insta::assert_snapshot!(problems("{type: 'file', port: 1, secret: 5}"), @r#"
    agent.json:1:1: error: path: missing, expected a string
    agent.json:1:33: error: secret: expected a string, found ***
    agent.json:1:16: warning: port: unknown key `port`; known here: `type`, `path`, `secret`
    "#);
    insta::assert_snapshot!(problems("{type: 'fille', path: ''}"), @r#"agent.json:1:8: error: type: expected one of "http", "file", found "fille"; did you mean "file"?"#);
    insta::assert_snapshot!(problems("{path: ''}"), @r#"agent.json:1:1: error: type: missing, expected one of "http", "file""#);
    insta::assert_snapshot!(problems("[]"), @"agent.json:1:1: error: expected an object, found a list");
}

/// A type whose own message quotes a part of the value beside it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(try_from = "Login")]
#[schemars(with = "Login")]
struct CheckedLogin;

#[derive(Debug, Deserialize, JsonSchema)]
struct Login {
    user: String,
    password: Secret,
}

impl TryFrom<Login> for CheckedLogin {
    type Error = String;

    fn try_from(login: Login) -> Result<CheckedLogin, String> {
        Err(format!("{} cannot log in with {:?}", login.user, login.password.expose()))
    }
}

#[test]
fn a_message_that_quotes_a_secret_is_withheld() {
    let problems = |text: &str| decode::<Vec<CheckedLogin>>(text).1;
    insta::assert_snapshot!(problems(r#"[{user: "ann", password: "hunter\"2"}]"#), @"agent.json:1:2: error: [0]: the value is invalid (the reason is not shown, since it would quote a hidden value)");
    insta::assert_snapshot!(problems(r#"[{user: "$PORT", password: ""}]"#), @"agent.json:1:2: error: [0]: the value is invalid (the reason is not shown, since it would quote a hidden value)");
    insta::assert_snapshot!(problems(r#"[{user: "ann", password: ""}]"#), @r#"agent.json:1:2: error: [0]: ann cannot log in with """#);
}

#[test]
fn the_schema_is_that_of_the_reader() {
    let schema = schema_of::<SinkConfig>();
    insta::assert_snapshot!(serde_json::to_string_pretty(&schema.get("properties")).unwrap(), @r##"
    {
      "id": {
        "type": "string"
      },
      "authBearer": {
        "type": [
          "string",
          "null"
        ],
        "writeOnly": true
      },
      "buckets": {
        "type": "array",
        "items": {
          "type": "string"
        },
        "default": []
      },
      "config": {
        "$ref": "#/$defs/ShipConfig"
      },
      "ttlSecs": {
        "type": [
          "integer",
          "null"
        ],
        "format": "uint32",
        "minimum": 0,
        "x-aliases": [
          "tls"
        ]
      }
    }
    "##);
}
