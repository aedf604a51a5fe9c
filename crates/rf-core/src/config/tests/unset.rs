//! What means "not set": keys that are missing, null, or of a value that the original cannot tell from these.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{SourceConfig, clean, env, problems_of};
use crate::config::{ByteSize, Interval, Problems, parse};

/// Keys as the original has them, and two of our own.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OldConfig {
    #[serde(default = "port")]
    #[schemars(extend("x-zero-is-unset" = true))]
    port: u16,
    #[serde(default = "host")]
    #[schemars(extend("x-zero-is-unset" = true))]
    host: String,
    #[serde(default)]
    #[schemars(extend("x-zero-is-unset" = true))]
    every: Option<Interval>,
    #[serde(default = "pause")]
    #[schemars(extend("x-zero-is-unset" = true))]
    pause: Interval,
    #[serde(default)]
    #[schemars(extend("x-zero-is-unset" = true, "x-any-case" = true))]
    level: Level,
    #[serde(default = "port")]
    new_port: u16,
    #[serde(default)]
    new_size: Option<ByteSize>,
}

#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Level {
    /// With a text, so that the schema has an alternative for each.
    #[default]
    Info,
    /// The same.
    Warn,
}

fn port() -> u16 {
    8081
}

fn host() -> String {
    "localhost".to_owned()
}

fn pause() -> Interval {
    Interval::from_secs(60)
}

#[test]
fn zero_and_empty_values_of_old_keys_take_the_default() {
    let defaults: OldConfig = clean("{}");
    assert_eq!((defaults.port, defaults.every), (8081, None));
    for text in [
        "{port: 0, host: '', every: '', pause: '', level: ''}",
        "{port: 0.0, every: 0, pause: 0}",
        "{every: '0s', pause: '0'}",
        "{port: null, host: null, every: null, pause: null, level: null}",
        "{port: '${ZERO}', host: '${NIL:-}', every: '${ZERO}'}",
    ] {
        let zero = |name: &str| if name == "ZERO" { Some("0".to_owned()) } else { env(name) };
        let mut problems = Problems::new();
        let document = parse("old.json", text, &zero, &mut problems).unwrap();
        let config: Option<OldConfig> = document.root().decode(&mut problems);
        assert_eq!(problems.error_count(), 0, "{text}: {problems}");
        assert_eq!(config.as_ref(), Some(&defaults), "{text}");
    }
    let ours: OldConfig = clean("{newPort: 0, newSize: 0}");
    assert_eq!((ours.new_port, ours.new_size), (0, Some(ByteSize::new(0))));
    let ours: OldConfig = clean("{newPort: null, newSize: null}");
    assert_eq!((ours.new_port, ours.new_size), (8081, None));
}

#[test]
fn other_values_of_old_keys_are_read_as_ever() {
    let config: OldConfig = clean("{port: 1, host: 'h', every: '1ns', level: 'WaRN'}");
    assert_eq!((config.port, config.host.as_str(), config.level), (1, "h", Level::Warn));
    assert!(config.every.is_some());
    for (text, told) in [
        ("{port: ''}", "port: expected a whole number, found \"\""),
        ("{host: 0}", "host: expected a string, found 0"),
        ("{level: 'wran'}", "found \"wran\"; did you mean \"warn\"?"),
        ("{newPort: ''}", "newPort: expected a whole number, found \"\""),
    ] {
        let problems = super::decode::<OldConfig>(text).1;
        assert!(problems.contains(told), "{text}: {problems}");
    }
}

#[test]
fn null_is_no_interval_and_no_problem() {
    let told = problems_of("{sources: [{id: 'a', type: 'http', hookInterval: null}]}");
    assert_eq!(told, "");
}

#[test]
fn an_object_that_is_missing_or_null_is_an_empty_one() {
    for (text, place) in [
        ("{\n a: [{}, {x: 1}]}", "f:2:10"),
        ("{\n a: [{}, {Params: null}]}", "f:2:10"),
        ("{\n a: [{}, {params: {}}]}", "f:2:19"),
    ] {
        let mut problems = Problems::new();
        let document = parse("f", text, &env, &mut problems).unwrap();
        let params = document.root().get("a").unwrap().items()[1].object("params");
        assert_eq!(params.entries().len(), 0, "{text}");
        let value: Option<Value> = params.decode(&mut problems);
        assert_eq!(value, Some(serde_json::json!({})), "{text}");
        assert!(params.decode::<SourceConfig>(&mut problems).is_none());
        let told = problems.to_string().to_lowercase();
        let expected = format!("{place}: error: a[1].params.id: missing, expected a string");
        assert!(told.contains(&expected), "{text}: {told}");
    }
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "inner of a missing object: one level only")]
fn a_missing_object_has_none_within_it() {
    let document = parse("f", "{}", &env, &mut Problems::new()).unwrap();
    document.root().object("outer").object("inner");
}
