//! What must hold for any bytes. Shared by the plain tests here and by the cargo-fuzz targets in `fuzz/`.

use bytes::Bytes;
use rf_core::config::{Problems, parse};
use rf_core::event::{ParsedTarget, ReplayRequest, build_target};
use rf_core::protocol::{encode_batch, encode_ids, parse_batch, parse_ids, parse_pulled};

const MAX_EVENTS: usize = 1000;

/// A batch is parsed or refused; what was parsed comes back the same after writing it.
pub(crate) fn record_batch(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    if let Ok(events) = parse_batch(&body, MAX_EVENTS) {
        assert!(events.len() <= MAX_EVENTS);
        let written = Bytes::from(encode_batch(events.iter().map(|event| &event[..])));
        let again = parse_batch(&written, MAX_EVENTS).expect("what we write can be read");
        assert_eq!(events, again);
    }
    if let Ok(ids) = parse_ids(data, MAX_EVENTS) {
        assert_eq!(
            parse_ids(&encode_ids(&ids), MAX_EVENTS).expect("what we write can be read"),
            ids
        );
    }
    let _pulled = parse_pulled(&body, MAX_EVENTS).is_ok();
}

/// A file is read or its problems are told, each with a place inside the file.
pub(crate) fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut problems = Problems::new();
    let document =
        parse("fuzz.json", &text, &|name| Some(format!("value of {name}")), &mut problems);
    if let Some(document) = document {
        let _path = document.root().path();
    } else {
        assert!(problems.has_errors(), "a file that is not read must say why");
    }
    let lines = text.lines().count() + 1;
    for problem in problems.errors().chain(problems.warnings()) {
        assert!(problem.line <= lines, "{problem}");
    }
}

/// An event is a request or is refused. A target that was put together from decoded parts can stand in a request line.
pub(crate) fn event(data: &[u8]) {
    if let Ok(request) = ReplayRequest::parse(data) {
        assert!(request.target.starts_with('/'), "{:?}", request.target);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let parsed = ParsedTarget::parse(text);
        let built = build_target(&parsed.path, &parsed.params);
        assert!(built.bytes().all(|byte| (b'!'..=b'~').contains(&byte)), "{built:?}");
    }
}
