//! Requests that mean harm, for every API of the sinks with tables.
//!
//! A reader's authorizer refuses every statement but a read of the users' tables (see [`super::connect`]); a statement that
//! it refuses is answered with a 503. So a request that is answered otherwise has run none but the intended ones.

use std::path::Path;

use proptest::prelude::any;
use proptest::prop_oneof;
use proptest::strategy::Strategy;
use rusqlite::Connection;
use rusqlite::types::Value;

use super::rig::Rig;

/// Pieces of SQL that broke somebody once.
pub(crate) const HOSTILE: [&str; 26] = [
    "' OR '1'='1",
    "\" OR \"\"=\"",
    "1; DROP TABLE people; --",
    "1' UNION SELECT sql FROM sqlite_master --",
    "id) UNION SELECT key FROM _rpf_events --",
    "id\" FROM people; DELETE FROM people; --",
    "id`",
    "[id]",
    "id/**/desc",
    "id:desc; DROP TABLE people",
    "(SELECT 1)",
    "CASE WHEN 1=1 THEN id ELSE name END",
    "id COLLATE NOCASE",
    "random()",
    "load_extension('/tmp/x')",
    "1 OR 1=1",
    "-1",
    "0x10",
    "1e400",
    "?1",
    ":name",
    "\0",
    "%00",
    "\u{202e}di",
    "..\\..\\..",
    "{{7*7}}",
];

/// Percent-encoded, every byte.
pub(crate) fn encode(text: &str) -> String {
    encode_bytes(text.as_bytes())
}

/// Every place that a text can stand in, in requests for rows of the table `people`.
pub(crate) fn row_requests(text: &str) -> Vec<String> {
    let text = encode(text);
    let mut uris: Vec<String> = [
        "/rpf-db/{}",
        "/query-table/{}",
        "/find/{}/a",
        "/find/people/{}",
        "/columns/{}",
        "/distinct-values/{}/name",
        "/distinct-values/people/{}",
        "/distinct-values/people/name?limit={}",
        "/time-analytics/?table={}",
        "/time-analytics/?table=people&start_time={}",
        "/time-analytics/?table=people&stop_time={}",
        "/time-analytics/?table=people&range_time={}",
        "/{}",
        "/list?{}={}",
        "/all-columns/?{}",
    ]
    .map(|uri| uri.replace("{}", &text))
    .into();
    for parameter in [
        "{}=1",
        "{}",
        "name={}",
        "age={}",
        "name_contains={}",
        "age_gt={}",
        "age_lt={}",
        "age_gte={}",
        "age_lte={}",
        "age_ne={}",
        "age_in={}",
        "age_null={}",
        "order={}",
        "order={}:desc",
        "order=name:{}",
        "limit={}",
        "after={}",
        "order=name&after={}",
        "format={}",
        "{}_gt=1",
        "name_{}=1",
    ] {
        uris.push(format!("/rpf-db/people?{}", parameter.replace("{}", &text)));
    }
    uris
}

/// Asks, and takes no answer but a good one or one that says what is wrong with the request; nothing of the inside shows.
pub(crate) async fn check(rig: &Rig, uris: &[String]) {
    for uri in uris {
        let (status, body) = rig.get(uri).await;
        assert!([200, 400, 404].contains(&status.as_u16()), "{uri}: {status} {body}");
        let shows_inside = body.contains("CREATE TABLE") || body.contains("_rpf_progress");
        assert!(!shows_inside, "{uri}: {body}");
    }
}

/// All that a database holds.
pub(crate) fn dump(path: &Path) -> Vec<String> {
    let conn = Connection::open(path).unwrap();
    let texts = |sql: &str| -> Vec<String> {
        let mut statement = conn.prepare(sql).unwrap();
        let columns = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            let values = (0..columns).map(|place| row.get::<_, Value>(place));
            values.collect::<Result<Vec<_>, _>>()
        };
        let rows = statement.query_map([], row).unwrap();
        rows.map(|row| format!("{:?}", row.unwrap())).collect()
    };
    let mut lines = texts("SELECT name, sql FROM sqlite_schema");
    let mut names = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    let names = names.query_map([], |row| row.get::<_, String>(0)).unwrap();
    for name in names.map(Result::unwrap) {
        lines.extend(texts(&format!("SELECT * FROM \"{name}\"")));
    }
    lines
}

/// Texts and bytes that nobody thought of.
pub(crate) fn fuzz() -> impl Strategy<Value = (String, Vec<u8>)> {
    let text = prop_oneof![
        ".{0,40}",
        "[a-z_]{0,12}(_gt|_in|_null|_contains)?",
        "[0-9a-zA-Z:,;'\"()%_-]{0,30}",
    ];
    (text, proptest::collection::vec(any::<u8>(), 0..40))
}

/// Percent-encoded bytes, which need be no text.
pub(crate) fn encode_bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}
