//! Bodies that are cut, coded or both: no secret is kept of what there is, not even half of one.

use std::io::Read;

use flate2::Compression;
use flate2::read::GzEncoder;

use super::*;

#[test]
fn a_body_that_is_cut_anywhere_shows_no_secret() {
    let redactor = usual(json!({ "patterns": ["hunter[0-9]+"] }));
    let bodies = [
        (
            "application/json",
            r#"{"a":"b","password":"hunter2","c":{"token":["hunter2","x"],"d":"{\"otp\":\"hunter2\"}"}}"#,
        ),
        ("application/x-www-form-urlencoded", "a=b&password=hunter2&user%5Btoken%5D=hunter2&c=d"),
        ("application/xml", "<a><password>hunter2</password><b token='hunter2' c=\"d\"/></a>"),
        (
            "multipart/form-data; boundary=x",
            "--x\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\nhunter2\r\n--x--\r\n",
        ),
    ];
    for (content_type, body) in bodies {
        for end in 0..=body.len() {
            let form = BodyForm {
                content_type: content_type.as_bytes(),
                is_cut: end < body.len(),
                ..WHOLE
            };
            let masked = text(&redactor.body(&body.as_bytes()[..end], form));
            assert!(!masked.contains("hunt"), "{content_type} up to {end}: {masked}");
        }
        // Without the pattern, too: each of these secrets has a name.
        let by_name = usual(json!({}));
        for end in 0..=body.len() {
            let form = BodyForm {
                content_type: content_type.as_bytes(),
                is_cut: end < body.len(),
                ..WHOLE
            };
            let masked = text(&by_name.body(&body.as_bytes()[..end], form));
            assert!(!masked.contains("hu"), "{content_type} up to {end}: {masked}");
        }
    }
}

#[test]
fn user_info_that_is_cut_is_masked() {
    let redactor = usual(json!({}));
    let form = BodyForm { is_cut: true, ..WHOLE };
    let check = |body: &str, expected: &str| {
        assert_eq!(text(&redactor.body(body.as_bytes(), form)), expected, "{body}");
    };
    check(r#"{"u":"http://user:hunt"#, r#"{"u":"http://***""#);
    check(r#"{"u":"http://host:80"#, r#"{"u":"http://host:80"#);
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    GzEncoder::new(text, Compression::fast()).read_to_end(&mut coded).unwrap();
    coded
}

#[test]
fn coded_bodies_are_looked_into_or_left_out() {
    let redactor = usual(json!({}));
    let form = BodyForm { content_encoding: b"gzip", ..WHOLE };
    let coded = gzip(br#"{"password":"x"}"#);
    assert_eq!(
        redactor.body(&coded, form),
        Redacted::Body {
            bytes: br#"{"password":"***"}"#.into(),
            is_cut: false,
            decoded_from: Some("gzip")
        }
    );
    // Nothing to mask: the bytes as they came.
    let coded = gzip(b"{\"a\":1}");
    assert_eq!(
        redactor.body(&coded, form),
        Redacted::Body { bytes: Cow::Borrowed(&coded), is_cut: false, decoded_from: None }
    );
    let cut: Vec<u8> = (0..9999_u32)
        .flat_map(|n| format!("{{\"n\":{n},\"password\":\"hunter{n}\"}}").into_bytes())
        .collect();
    let coded = gzip(&cut);
    let cut = redactor.body(&coded[..coded.len() / 2], BodyForm { is_cut: true, ..form });
    assert!(
        matches!(&cut, Redacted::Body { is_cut: true, decoded_from: Some("gzip"), bytes } if bytes.len() > 1000)
    );
    assert!(!text(&cut).contains("hunter"));
    let bounded = redactor.body(&coded, BodyForm { max_bytes: 100, ..form });
    assert!(matches!(&bounded, Redacted::Body { is_cut: true, bytes, .. } if bytes.len() <= 100));
    // The largest size that a file may name.
    let whole = redactor.body(&coded, BodyForm { max_bytes: usize::MAX, ..form });
    assert!(text(&whole).ends_with(r#"{"n":9998,"password":"***"}"#));
    for (coding, body) in [("br", &b"\x0b\x02"[..]), ("gzip", b"no gzip"), ("gzip, gzip", b"x")] {
        let form = BodyForm { content_encoding: coding.as_bytes(), ..WHOLE };
        assert!(matches!(redactor.body(body, form), Redacted::Omitted(_)), "{coding}");
    }
    let wide: Vec<u8> = r#"{"password":"x"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(matches!(redactor.body(&wide, WHOLE), Redacted::Omitted(_)));
    let unnamed = BodyForm { content_type: b"", ..WHOLE };
    assert!(matches!(redactor.body(&wide, unnamed), Redacted::Omitted(_)));
}

#[test]
fn a_secret_across_the_cut_is_not_kept_by_half() {
    let redactor = build(json!({ "patterns": ["4[0-9]{15}"] }), Defaults::Off).unwrap().unwrap();
    let body = format!("{}4111111111111111{}", "x".repeat(990), "y".repeat(CUT_MARGIN_BYTES - 6));
    let form = BodyForm { content_type: b"text/plain", is_cut: true, max_bytes: 1000, ..WHOLE };
    let masked = text(&redactor.body(body.as_bytes(), form));
    assert!(masked.len() > 900 && !masked.contains('4'), "{masked}");
    // Cut by the client: nobody knows how it would have gone on.
    let masked = text(&redactor.body(b"x 41111", form));
    assert_eq!(masked, "");
}

#[test]
fn text_is_not_cut_within_a_character() {
    assert_eq!(truncate("aäb".as_bytes(), 2), b"a");
    assert_eq!(truncate("aäb".as_bytes(), 3), "aä".as_bytes());
    assert_eq!(truncate(b"\xff\xc3\xa4", 2), b"\xff\xc3");
    assert_eq!(truncate(b"ab", 5), b"ab");
}
