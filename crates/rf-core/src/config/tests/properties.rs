//! What holds for every text.

use proptest::prelude::*;
use serde_json::Value;

use super::{AgentConfig, decode, env};
use crate::config::{Problems, parse};

fn any_json() -> impl Strategy<Value = Value> {
    let text = "[^$]{0,8}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(text, inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Pieces of the syntax in any order come nearer to the parser's corners than any characters do.
fn any_tokens() -> impl Strategy<Value = String> {
    const TOKENS: [&str; 36] = [
        "{", "}", "[", "]", ":", ",", "\"", "'", "\\", "\\u", "d83d", "\\x", "$", "${", "$PORT",
        ":-", "-", "+", "0x", "1", ".", "e9", "NaN", "Infinity", "null", "true", "//", "/*", "*/",
        "\n", "\r", " ", "a", "é", "\u{2028}", "\u{feff}",
    ];
    prop::collection::vec(prop::sample::select(&TOKENS[..]), 0..24)
        .prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in prop_oneof![any::<String>(), any_tokens()]) {
        let mut problems = Problems::new();
        if let Some(document) = parse("any", &text, &env, &mut problems) {
            let config = document.root().decode::<AgentConfig>(&mut problems);
            prop_assert_eq!(config.is_none(), problems.has_errors());
        } else {
            prop_assert!(problems.has_errors());
        }
    }

    #[test]
    fn json_is_read_as_serde_json_reads_it(value in any_json(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(decode::<Value>(&text), (Some(expected), String::new()));
    }
}
