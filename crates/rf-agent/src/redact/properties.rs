//! Properties of redaction over any JSON: a secret never shows, however the text is cut, and all else stays.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::tests::{WHOLE, text, usual};
use super::{BodyForm, MASK};

const SECRET: &str = "planted";

/// Any JSON, in which fields named `password` hold anything, and nothing else holds the secret.
fn any_json() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        Just("password".to_owned()),
        Just("Pass_Word".to_owned()),
        "[a-c\"\\\\{}\\[\\]:,é ]{0,4}"
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c\"\\\\{}\\[\\]:,\\n é]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn is_secret(name: &str) -> bool {
    name.to_lowercase().replace('_', "") == "password"
}

/// The value with every secret replaced.
fn with(value: &Value, secret: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| with(item, secret)).collect(),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| {
                    let value = if is_secret(name) { secret.clone() } else { with(value, secret) };
                    (name.clone(), value)
                })
                .collect(),
        ),
        other => other.clone(),
    }
}

/// A text that looks like JSON is looked into, which may write it anew: not what the first property is about.
fn has_json_texts(value: &Value) -> bool {
    match value {
        Value::String(text) => text.trim_start().starts_with(['{', '[']),
        Value::Array(items) => items.iter().any(has_json_texts),
        Value::Object(fields) => fields.values().any(has_json_texts),
        _ => false,
    }
}

proptest! {
    #[test]
    fn fields_are_masked_and_the_rest_stays(value in any_json(), is_pretty in any::<bool>()) {
        prop_assume!(!has_json_texts(&value) && (value.is_object() || value.is_array()));
        let planted = with(&value, &Value::from(SECRET));
        let body = if is_pretty { serde_json::to_string_pretty(&planted) } else { serde_json::to_string(&planted) }.unwrap();
        let masked = text(&usual(serde_json::json!({})).body(body.as_bytes(), WHOLE));
        prop_assert_eq!(&masked, &body.replace(&format!("\"{SECRET}\""), &format!("\"{MASK}\"")));
        let parsed: Value = serde_json::from_str(&masked).unwrap();
        prop_assert_eq!(parsed, with(&value, &Value::from(MASK)));
    }

    #[test]
    fn no_cut_shows_a_secret(value in any_json(), secret in any_json(), end in 0..300_usize) {
        let secret = serde_json::json!([SECRET, { "a": secret, "b": SECRET }]);
        let body = with(&value, &secret).to_string();
        prop_assume!(body.starts_with(['{', '[']));
        let cut = BodyForm { is_cut: true, ..WHOLE };
        let masked = text(&usual(serde_json::json!({})).body(&body.as_bytes()[..end.min(body.len())], cut));
        prop_assert!(!masked.contains("plan"), "{} of {}", masked, body);
    }

    #[test]
    fn noise_never_panics(body in prop::collection::vec(any::<u8>(), 0..200), kind in 0..6_usize, coding in 0..4_usize) {
        let kinds = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "text/xml", "text/plain", ""];
        let codings = ["", "gzip", "zstd", "br"];
        let form = BodyForm {
            content_type: kinds[kind].as_bytes(),
            content_encoding: codings[coding].as_bytes(),
            is_cut: true,
            max_bytes: 50,
        };
        let redactor = usual(serde_json::json!({ "patterns": ["[a-z]{3}"], "fields": ["a.b", "$.c"] }));
        if let super::Redacted::Body { bytes, .. } = redactor.body(&body, form) {
            prop_assert!(bytes.len() <= 50);
        }
        let noise = String::from_utf8_lossy(&body).into_owned();
        redactor.target(&noise);
        redactor.header("referer", &body);
    }

    #[test]
    fn quotes_before_a_field_of_xml_hide_nothing(before in "[<>!?'\"= a/-]{0,12}") {
        // Where the noise ends within a tag, the field's own `<` ends it.
        let body = format!("<r>{before}<password>planted</password></r>");
        let form = BodyForm { content_type: b"application/xml", ..WHOLE };
        let masked = text(&usual(serde_json::json!({})).body(body.as_bytes(), form));
        prop_assert!(!masked.contains("planted"), "{}: {}", body, masked);
    }

    #[test]
    fn names_in_noise_are_found_where_they_can_be_read(before in "[{\\[\",:a ]{0,12}") {
        let body = format!("{{{before}\"x\":1,\"password\":\"planted\"}}");
        let redactor = usual(serde_json::json!({}));
        let masked = text(&redactor.body(body.as_bytes(), WHOLE));
        prop_assert!(!masked.contains("planted"), "{}: {}", body, masked);
    }
}
