//! From bytes to events: ends, lengths, encodings, groups.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde_json::{Value, json};
use std::time::Duration;

use super::super::encoding::Encoding;
use super::super::lines::{Flush, Lines, Rules};
use super::super::multiline::{Multiline, Rule};
use super::super::record::Within;
use super::rig::Rig;

const NO_FLUSH: Flush = Flush { partial: false, group: false, last: false };
const FLUSH: Flush = Flush { partial: true, group: true, last: false };

/// Pieces as text, with their marks; and what is left.
fn split(bytes: &[u8], rules: Rules<'_>, flush: Flush) -> (Vec<String>, usize, Within) {
    let mut lines = Lines::new(bytes, Within::Nothing, rules, flush);
    let mut pieces = Vec::new();
    while let Some(piece) = lines.next() {
        let marks = [(piece.partial, "…"), (piece.truncated, "✂"), (piece.broken.is_some(), "?")];
        let marks: String =
            marks.iter().filter(|(is_set, _)| *is_set).map(|(_, mark)| *mark).collect();
        pieces.push(format!("{}{marks}", piece.text));
    }
    (pieces, bytes.len() - lines.taken, lines.within)
}

fn rules(encoding: Encoding, max_line: usize) -> Rules<'static> {
    Rules { encoding, max_line, multiline: None }
}

fn check(bytes: &[u8], flush: Flush, expected: &[&str], left: usize) {
    let (pieces, rest, _) = split(bytes, rules(Encoding::Utf8, 20), flush);
    assert_eq!(
        (pieces.as_slice(), rest),
        (&expected.iter().map(ToString::to_string).collect::<Vec<_>>()[..], left),
        "{:?}",
        String::from_utf8_lossy(bytes)
    );
}

#[test]
fn lines_end_with_a_break() {
    check(b"", NO_FLUSH, &[], 0);
    check(b"\n", NO_FLUSH, &[""], 0);
    check(b"one\ntwo\r\n\nthree", NO_FLUSH, &["one", "two", ""], 5);
    check(b"one\nthree", FLUSH, &["one", "three…"], 0);
    check(b"a\r\r\n", NO_FLUSH, &["a\r"], 0);
    check("\u{feff}one\n".as_bytes(), NO_FLUSH, &["one"], 0);
}

#[test]
fn a_long_line_is_cut_at_a_character() {
    check(b"12345678901234567890\nx\n", NO_FLUSH, &["12345678901234567890", "x"], 0);
    check(b"123456789012345678901\nx\n", NO_FLUSH, &["12345678901234567890✂", "x"], 0);
    check(b"1234567890123456789012", NO_FLUSH, &["12345678901234567890✂"], 0);
    check(
        "1234567890123456789é rest of it\nx\n".as_bytes(),
        NO_FLUSH,
        &["1234567890123456789✂", "x"],
        0,
    );
    let (_, _, within) = split(&[b'x'; 50], rules(Encoding::Utf8, 20), NO_FLUSH);
    assert_eq!(within, Within::Cut);
}

#[test]
fn broken_bytes_do_not_stop_it() {
    check(b"a\xff\xfeb\nc\n", NO_FLUSH, &["a\u{fffd}\u{fffd}b?", "c"], 0);
    check(b"\x00\x01\n", NO_FLUSH, &["\0\u{1}"], 0);
}

fn wide(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(unit).collect()
}

#[test]
fn other_encodings() {
    for (encoding, unit) in [
        (Encoding::Utf16Le, u16::to_le_bytes as fn(u16) -> [u8; 2]),
        (Encoding::Utf16Be, u16::to_be_bytes),
    ] {
        // U+0A0A and U+010A hold the byte of a line break.
        let bytes = wide("\u{feff}one ਊ Ċ 😀\r\ntwo\nthree", unit);
        let (pieces, rest, _) = split(&bytes, rules(encoding, 100), NO_FLUSH);
        assert_eq!(pieces, ["one ਊ Ċ 😀", "two"]);
        assert_eq!(rest, 10);
        // A character of two units is not cut in half.
        let long = wide("aaaaaaaaa😀 rest of it\nx\n", unit);
        assert_eq!(split(&long, rules(encoding, 20), NO_FLUSH).0, ["aaaaaaaaa✂", "x"]);
        let lone = [wide("a", unit), unit(0xD800).to_vec(), wide("\n", unit)].concat();
        assert_eq!(split(&lone, rules(encoding, 100), NO_FLUSH).0, ["a\u{fffd}?"]);
    }
    let (pieces, _, _) = split(b"caf\xe9\n", rules(Encoding::Latin1, 100), NO_FLUSH);
    assert_eq!(pieces, ["café"]);
}

#[test]
fn half_a_unit_waits_for_its_other_half() {
    let last = Flush { last: true, ..FLUSH };
    for (encoding, unit) in [
        (Encoding::Utf16Le, u16::to_le_bytes as fn(u16) -> [u8; 2]),
        (Encoding::Utf16Be, u16::to_be_bytes),
    ] {
        let bytes = wide("one\ntorn?", unit);
        let torn = &bytes[..bytes.len() - 1];
        let (pieces, rest, within) = split(torn, rules(encoding, 100), FLUSH);
        assert_eq!((pieces.as_slice(), rest), (&["one".to_owned(), "torn…".to_owned()][..], 1));
        assert_eq!(within, Within::Partial);
        assert_eq!(split(&bytes[..1], rules(encoding, 100), FLUSH).1, 1, "it is nothing yet");
        // Where nothing more will come it is what it is.
        let (pieces, rest, _) = split(torn, rules(encoding, 100), last);
        assert_eq!((pieces[1].as_str(), rest), ("torn\u{fffd}?", 0));
    }
}

fn check_groups(rule: Rule, pattern: &str, flush: Flush, text: &str, expected: &[&str]) {
    let multiline = Multiline {
        rule,
        pattern: Regex::new(pattern).unwrap(),
        max_lines: 3,
        timeout: Duration::from_secs(1),
    };
    let rules = Rules { encoding: Encoding::Utf8, max_line: 30, multiline: Some(&multiline) };
    assert_eq!(split(text.as_bytes(), rules, flush).0, expected, "{rule:?} {text:?}");
}

#[test]
fn lines_that_belong_together() {
    check_groups(Rule::Start, r"^\d", NO_FLUSH, "1 a\n  b\n2 c\n3 d\n", &["1 a\n  b", "2 c"]);
    check_groups(Rule::Start, r"^\d", FLUSH, "1 a\n  b\n2 c\n  d\n", &["1 a\n  b", "2 c\n  d"]);
    check_groups(Rule::Continue, r"^\s", NO_FLUSH, "a\n b\n c\nd\ne", &["a\n b\n c"]);
    check_groups(Rule::Continue, r"^\s", FLUSH, "a\n b\nd\ne", &["a\n b", "d", "e…"]);
    check_groups(Rule::End, r";$", NO_FLUSH, "a\nb;\nc;\nd\n", &["a\nb;", "c;"]);
    // At the limits of lines and of bytes a new event begins.
    check_groups(Rule::Start, r"^\d", NO_FLUSH, "1\na\nb\nc\nd\n2\n", &["1\na\nb", "c\nd"]);
    check_groups(
        Rule::Start,
        r"^\d",
        NO_FLUSH,
        "1\naaaaaaaaaaaaaaaaaaaa\nbbbbbbbbbbbbbbbbbbbb\n2\n",
        &["1\naaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbb"],
    );
    // A line that is too long is an event of its own.
    check_groups(
        Rule::Start,
        r"^\d",
        NO_FLUSH,
        &format!("1\n{}\n2\n3\n", "x".repeat(40)),
        &["1", &format!("{}✂", "x".repeat(30)), "2"],
    );
}

#[tokio::test]
async fn a_line_without_its_end_is_sent_once_and_its_rest_with_the_end() {
    let mut rig = Rig::over_app_log(json!({ "partialLineTimeout": "50ms" })).await;
    rig.append("app.log", "one\nhal");
    rig.expect(&["one", "hal"]).await;
    rig.stop().await;
    rig.start().await;
    rig.append("app.log", "f\ntwo\nlast");
    rig.expect(&["one", "hal", "f", "two", "last"]).await;
    rig.append("app.log", "\nthree\n");
    rig.expect(&["one", "hal", "f", "two", "last", "three"]).await;
    let bodies = rig.bodies().await;
    assert_eq!(bodies[1], json!({ "content": "hal", "partial": true }));
    assert_eq!(bodies[2], json!({ "content": "f", "continued": true }));
    assert_eq!(bodies[4], json!({ "content": "last", "partial": true }));
    assert_eq!(bodies[5], json!({ "content": "three" }));
}

#[tokio::test]
async fn a_line_that_stops_within_a_character_goes_on_with_it() {
    let params = json!({ "encoding": "utf-16le", "partialLineTimeout": "50ms" });
    let rig = Rig::over_app_log(params).await;
    let bytes = wide("torn rest\nnext\n", u16::to_le_bytes);
    // The first half of the blank.
    let (begun, rest) = bytes.split_at(9);
    rig.append("app.log", begun);
    rig.expect(&["torn"]).await;
    rig.append("app.log", rest);
    rig.expect(&["torn", " rest", "next"]).await;
}

#[tokio::test]
async fn without_a_timeout_a_line_waits_for_its_end() {
    let rig = Rig::over_app_log(json!({ "partialLineTimeout": 0 })).await;
    rig.append("app.log", "one\nhal");
    rig.expect(&["one"]).await;
    rig.append("other.log", "x");
    rig.append("app.log", "f\n");
    rig.expect(&["one", "half"]).await;
}

#[tokio::test]
async fn a_group_of_lines_is_one_event_and_the_last_comes_after_its_timeout() {
    let params = json!({ "multiline": { "start": "^\\S", "timeout": "50ms" } });
    let rig = Rig::over_app_log(params).await;
    rig.append("app.log", "Exception: x\n  at a\n  at b\nnext\n");
    rig.expect(&["Exception: x\n  at a\n  at b", "next"]).await;
}

#[tokio::test]
async fn lines_of_any_length_and_with_any_bytes_arrive() {
    let params = json!({ "filePath": "app.log", "maxLineBytes": "300KiB" });
    let mut rig = Rig::new(params);
    let lines = [100, 300 * 1024, 300 * 1024 + 1, 1, 2_000_000, 250_000, 7];
    let text: String = lines.iter().map(|length| format!("{}\n", "x".repeat(*length))).collect();
    rig.append("app.log", text);
    rig.append("app.log", b"\xff\xfe broken\n");
    rig.start().await;
    let expected: Vec<usize> =
        lines.iter().map(|length| (*length).min(300 * 1024)).chain([9]).collect();
    rig.until("all lines are there", async |rig| rig.events().await.len() == expected.len()).await;
    let bodies = rig.bodies().await;
    let found: Vec<usize> =
        bodies.iter().map(|body| body["content"].as_str().unwrap().chars().count()).collect();
    assert_eq!(found, expected);
    let cut: Vec<bool> = bodies.iter().map(|body| body["truncated"] == Value::Bool(true)).collect();
    assert_eq!(cut, [false, false, true, false, true, false, false, false]);
    assert_eq!(bodies[7]["contentBase64"], json!(STANDARD.encode(b"\xff\xfe broken")));
}
