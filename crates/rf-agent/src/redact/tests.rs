//! Targets and headers, and what a file says of names, paths and patterns.

mod bodies;
mod cut_and_coded;

use rf_core::config::{Problems, parse};
use serde_json::json;

use super::*;

fn build(config: serde_json::Value, defaults: Defaults) -> Result<Option<Redactor>, String> {
    let mut problems = Problems::new();
    let none = |_: &str| None;
    let document = parse("test", &config.to_string(), &none, &mut problems).expect("JSON");
    let redactor = document
        .root()
        .decode::<RedactConfig>(&mut problems)
        .and_then(|config| config.build(defaults, &document.root(), &mut problems));
    let errors: Vec<String> = problems.errors().map(ToString::to_string).collect();
    if errors.is_empty() { Ok(redactor) } else { Err(errors.concat()) }
}

pub(super) fn usual(config: serde_json::Value) -> Redactor {
    build(config, Defaults::On).expect("valid").expect("something to mask")
}

pub(super) const WHOLE: BodyForm<'static> = BodyForm {
    content_type: b"application/json",
    content_encoding: b"",
    is_cut: false,
    max_bytes: 1 << 20,
};

pub(super) fn text(redacted: &Redacted<'_>) -> String {
    match redacted {
        Redacted::Body { bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
        Redacted::Omitted(reason) => format!("omitted: {reason}"),
    }
}

fn check_body(redactor: &Redactor, content_type: &str, body: &str, expected: &str) {
    let form = BodyForm { content_type: content_type.as_bytes(), ..WHOLE };
    assert_eq!(text(&redactor.body(body.as_bytes(), form)), expected, "{content_type}: {body}");
}

#[test]
fn paths_are_followed() {
    let redactor = build(json!({ "fields": ["user.pin", "$.top", "*.deep.x"] }), Defaults::Off)
        .unwrap()
        .unwrap();
    let check =
        |body: &str, expected: &str| check_body(&redactor, "application/json", body, expected);
    check(r#"{"pin":1,"user":{"pin":2}}"#, r#"{"pin":1,"user":{"pin":"***"}}"#);
    check(
        r#"{"a":{"user":[{"b":1,"pin":2}]},"pin":3}"#,
        r#"{"a":{"user":[{"b":1,"pin":"***"}]},"pin":3}"#,
    );
    check(r#"{"top":1,"a":{"top":2}}"#, r#"{"top":"***","a":{"top":2}}"#);
    check(
        r#"{"a":{"deep":{"x":1}},"deep":{"x":2}}"#,
        r#"{"a":{"deep":{"x":"***"}},"deep":{"x":2}}"#,
    );
    check_body(
        &redactor,
        "application/x-www-form-urlencoded",
        "pin=1&user[pin]=2",
        "pin=1&user[pin]=***",
    );
}

#[test]
fn targets_and_headers_are_masked() {
    let redactor = usual(json!({ "patterns": ["\\b4[0-9]{15}\\b"], "headers": ["X-Own"] }));
    let target = |text: &str| redactor.target(text).into_owned();
    assert_eq!(target("/a?x=1&api_key=k&y=%20"), "/a?x=1&api_key=***&y=%20");
    assert_eq!(target("/pay/4111111111111111/x"), "/pay/***/x");
    assert_eq!(target("/pay/%34111111111111111?n=%34111111111111111"), "/pay/***?n=***");
    assert_eq!(target("/plain?x=1"), "/plain?x=1");
    let header = |name: &str, value: &str| {
        String::from_utf8_lossy(&redactor.header(name, value.as_bytes())).into_owned()
    };
    assert_eq!(header("authorization", "Bearer x"), "***");
    assert_eq!(header("x-own", "x"), "***");
    assert_eq!(header("referer", "http://a/b?token=x&c=d#e"), "http://a/b?token=***&c=d#e");
    assert_eq!(header("location", "/cb#access_token=x&state=y"), "/cb#access_token=***&state=y");
    assert_eq!(header("x-note", "card 4111111111111111."), "card ***.");
    assert_eq!(header("accept", "*/*"), "*/*");
    assert_eq!(header("referer", "http://user:x@a/b"), "http://***@a/b");
    assert_eq!(header("x-uri", "/pay/%34111111111111111"), "/pay/***");
    assert_eq!(header("x-json", "{\"token\":\"x\"}"), "{\"token\":\"***\"}");
    assert_eq!(target("/a?next=%2Fx%3Ftoken%3Dx&b=1"), "/a?next=%2Fx%3Ftoken%3D***&b=1");
    assert_eq!(target("/a?d=%7B%22otp%22%3A1%7D"), "/a?d=%7B%22otp%22%3A%22***%22%7D");
    assert_eq!(target("/a?password=b?x;y&c=d"), "/a?password=***&c=d");
    assert_eq!(target("http://user:x@a/b"), "http://***@a/b");
    assert_eq!(target("/pay?n=%2534111111111111111&m=1"), "/pay?n=***&m=1");
    let form = "application/x-www-form-urlencoded";
    check_body(&redactor, form, "n=%34111111111111111&m=1", "n=***&m=1");
    let kept = usual(json!({ "keep": ["password"] }));
    assert_eq!(&*kept.target("http://user:x@a/b"), "http://user:x@a/b");
}

#[test]
fn keep_takes_names_off_the_defaults_but_not_off_what_is_asked_for() {
    let redactor = usual(json!({ "keep": ["authorization", "Token"], "headers": ["X-Own"] }));
    assert_eq!(&*redactor.header("authorization", b"x"), b"x");
    assert_eq!(&*redactor.header("cookie", b"x"), b"***");
    check_body(
        &redactor,
        "application/json",
        r#"{"token":1,"otp":2}"#,
        r#"{"token":1,"otp":"***"}"#,
    );
    assert!(build(json!({ "keep": ["*"] }), Defaults::On).unwrap().is_none());
    assert!(build(json!({}), Defaults::Off).unwrap().is_none());
}

#[test]
fn patterns_that_cannot_work_are_refused() {
    let refused = |patterns: serde_json::Value| {
        build(json!({ "patterns": patterns }), Defaults::Off).unwrap_err()
    };
    let two = refused(json!(["(", "a", "["]));
    assert!(two.contains("patterns[0]: `(` is not a regular expression"), "{two}");
    assert!(two.contains("patterns[2]: `[` is not a regular expression"), "{two}");
    assert!(refused(json!(["a*"])).contains("matches an empty text"));
    assert!(refused(json!(vec!["a"; 65])).contains("at most 64"));
}

#[test]
fn entries_that_nothing_can_match_are_refused() {
    let check = |config: serde_json::Value, expected: &[&str]| {
        let told = build(config.clone(), Defaults::Off).err().unwrap_or_default();
        for expected in expected {
            assert!(told.contains(expected), "{config}: {told}");
        }
        assert_eq!(told.matches("error: ").count(), expected.len(), "{config}: {told}");
    };
    check(
        json!({ "fields": ["pin", "", "$.", "_"] }),
        &[
            "fields[1]: expected a name, a path such as user.pin, or one",
            "fields[2]: expected a name,",
            "such as $.user.pin, found \"_\"",
        ],
    );
    check(
        json!({ "headers": [""], "query": ["-"], "keep": ["", "*"], "patterns": ["("] }),
        &[
            "headers[0]: expected a name, found \"\"",
            "query[0]: expected a name, found \"-\"",
            "keep[0]: expected a name, found \"\"",
            "patterns[0]: `(`",
        ],
    );
    for matching in ["$", "a..b", ".a", "a.", "a[0].b", "*", "$.*", "a._"] {
        check(json!({ "fields": [matching] }), &[]);
    }
}

#[test]
fn an_entry_with_a_dot_too_many_is_the_path_without_it() {
    let redactor =
        build(json!({ "fields": ["$", "a..b", ".c", "d."] }), Defaults::Off).unwrap().unwrap();
    check_body(
        &redactor,
        "application/json",
        r#"{"$":1,"a":{"b":2,"e":3},"c":4,"d":5}"#,
        r#"{"$":"***","a":{"b":"***","e":3},"c":"***","d":"***"}"#,
    );
}
