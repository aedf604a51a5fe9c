//! Events that mean harm, for every sink with tables: each arrives whole, or is refused with a reason, and costs no other one.
//! What would be tried again for ever fails in [`Rig::deliver`].

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::hostile::{HOSTILE, encode};
use super::identifier::Identifier;
use super::rig::{Build, Rig, event};
use super::row_table::{NUMBER, TIMESTAMP, UPDATED};
use super::schema::is_row_id;

/// After so many good events the next one has a new key, which gets an index.
const GROWS: usize = 8;

/// Keys that clash with each other, with columns of the sinks or with words of SQLite.
const KEYS: [&str; 58] = [
    "id",
    "ID",
    "_id",
    "id!",
    "rowid",
    "ROWID",
    "oid",
    "_rowid_",
    "_rpf_id",
    "_rpfId",
    "_RPF_ID",
    "_rpf_last_updated_idx",
    "_rpf_at_us",
    "_rpf_foo",
    "timestamp",
    "Timestamp",
    "status",
    "Status",
    "serieName",
    "serie_name",
    "SERIE_NAME",
    "envName",
    "env_name",
    "value",
    "Value",
    "count",
    "increment",
    "metadata",
    "mark",
    "Mark",
    "userId",
    "user_id",
    "UserID",
    "USER_ID",
    "Ü",
    "ü",
    "straße",
    "STRASSE",
    "İ",
    "i",
    "\u{212a}",
    "k",
    "ǅ",
    "a.b",
    "a b",
    "ab",
    "main.good",
    "",
    "-",
    "--",
    "_",
    "1",
    "select",
    "index",
    "fk",
    "idx",
    "pragma_table_xinfo",
    "null",
];

/// How events of a kind of sink are made, and their rows found.
pub(crate) struct Kind {
    pub(crate) build: Build,
    pub(crate) params: &'static str,
    /// The table of the good events, in two spellings.
    pub(crate) good: [&'static str; 2],
    /// Paths of others that arrive.
    pub(crate) taken: &'static [&'static str],
    /// Paths that are refused.
    pub(crate) refused: &'static [&'static str],
    /// Keys that are refused with the mark as their value; every other one arrives.
    pub(crate) refused_keys: &'static [&'static str],
    /// A body with this mark, which no other event has.
    pub(crate) body: fn(&str) -> Value,
    /// The column of the mark.
    pub(crate) column: &'static str,
    /// Whether a row has the mark, too, as what stood below this key.
    pub(crate) is_whole: fn(&Value, &str, &str) -> bool,
    /// Whether this is a table, and no view of one.
    pub(crate) is_table: fn(&str) -> bool,
}

impl Kind {
    /// Of a sink whose tables hold rows.
    pub(crate) fn of_rows(build: Build, params: &'static str) -> Self {
        Self {
            build,
            params,
            good: ["/good", "/Good"],
            taken: TABLES,
            refused: NO_TABLES,
            refused_keys: &["timestamp", "Timestamp"],
            body: |mark| json!({ "mark": mark }),
            column: "mark",
            is_whole: is_whole_row,
            is_table: |_| true,
        }
    }
}

/// What is expected of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Arrives,
    IsRefused,
    /// Either: as a whole.
    Open,
}

#[derive(Debug, Clone)]
struct Sent {
    content: String,
    mark: String,
    key: Option<String>,
    expected: Expected,
}

/// One hostile event and one good one in turn, and the hostile ones before all of the others: one by one, and in one batch.
pub(crate) async fn check_events(kind: &Kind) {
    let hostile = hostile(kind);
    let good: Vec<Sent> = (0..=hostile.len()).map(|number| good(kind, number)).collect();
    let mut in_turn = vec![good[0].clone()];
    for (bad, next) in hostile.iter().zip(&good[1..]) {
        in_turn.extend([bad.clone(), next.clone()]);
    }
    let before = [hostile, good].concat();
    check(kind, &in_turn, 1).await;
    check(kind, &in_turn, in_turn.len()).await;
    check(kind, &before, before.len()).await;
}

async fn check(kind: &Kind, events: &[Sent], batch: usize) {
    let mut rig = Rig::start(kind.build, kind.params).await;
    let mut refused: HashMap<String, String> = HashMap::new();
    for batch in events.chunks(batch) {
        let contents: Vec<String> = batch.iter().map(|sent| sent.content.clone()).collect();
        refused.extend(rig.deliver(&contents).await);
    }
    let rows = rows(&rig, kind).await;
    for Sent { content, mark, key, expected } in events {
        let found = rows.get(mark).map_or(&[][..], Vec::as_slice);
        match refused.get(content) {
            Some(reason) => {
                assert_ne!(*expected, Expected::Arrives, "{content}: {reason}");
                assert!(!reason.is_empty() && found.is_empty(), "{content}: {reason}: {found:?}");
            }
            None => {
                assert_ne!(*expected, Expected::IsRefused, "{content}: {found:?}");
                assert_eq!(found.len(), 1, "{content}: {found:?}");
                let is_whole = key.as_ref().is_none_or(|key| (kind.is_whole)(&found[0], key, mark));
                assert!(is_whole, "{content}: {}", found[0]);
            }
        }
    }
    assert!(rig.json("/all-columns/").await.is_object());
}

/// What the tables hold, by the mark.
async fn rows(rig: &Rig, kind: &Kind) -> HashMap<String, Vec<Value>> {
    let mut rows: HashMap<String, Vec<Value>> = HashMap::new();
    let tables = rig.json("/list").await;
    let tables = tables.as_array().unwrap().iter().map(|table| table.as_str().unwrap());
    for table in tables.filter(|table| (kind.is_table)(table)) {
        let answer = rig.json(&format!("/query-table/{}", encode(table))).await;
        for row in answer.as_array().unwrap() {
            let mark = row[kind.column].as_str().unwrap_or_else(|| panic!("{table}: {row}"));
            rows.entry(mark.to_owned()).or_default().push(row.clone());
        }
    }
    rows
}

fn good(kind: &Kind, number: usize) -> Sent {
    let mark = format!("good{number:04}");
    let mut body = body(kind, &mark);
    if number % GROWS == GROWS - 1 {
        body.insert(format!("k{number}_id"), 1.into());
    }
    let path = kind.good[number % kind.good.len()];
    let content = event("POST", path, &Value::Object(body).to_string());
    Sent { content, mark, key: None, expected: Expected::Arrives }
}

fn hostile(kind: &Kind) -> Vec<Sent> {
    let known = kind.taken.iter().map(|path| (*path, Expected::Arrives));
    let known = known.chain(kind.refused.iter().map(|path| (*path, Expected::IsRefused)));
    let paths = known.map(|(path, expected)| (path.to_owned(), expected));
    let paths = paths.chain(HOSTILE.map(|text| (format!("/{text}"), Expected::Open)));
    let paths = paths.map(|(path, expected)| (path, None, expected));
    let long = ["x".repeat(128), "x".repeat(129)];
    let keys = KEYS.iter().chain(&HOSTILE).map(|key| (*key).to_owned()).chain(long);
    let keys = keys.map(|key| {
        let is_refused = kind.refused_keys.contains(&key.as_str());
        let expected = if is_refused { Expected::IsRefused } else { Expected::Arrives };
        (kind.good[0].to_owned(), Some(key), expected)
    });
    let sent = |(number, (path, key, expected)): (usize, (String, Option<String>, Expected))| {
        let mark = format!("hostile{number:04}");
        let mut body = body(kind, &mark);
        if let Some(key) = &key {
            body.insert(key.clone(), mark.clone().into());
        }
        let content = event("POST", &path, &Value::Object(body).to_string());
        Sent { content, mark, key, expected }
    };
    paths.chain(keys).enumerate().map(sent).collect()
}

fn body(kind: &Kind, mark: &str) -> Map<String, Value> {
    match (kind.body)(mark) {
        Value::Object(body) => body,
        other => panic!("no body: {other}"),
    }
}

/// Whether a table of rows has the mark in the key's column. Some the sink fills itself; a key that names none is dropped.
fn is_whole_row(row: &Value, key: &str, mark: &str) -> bool {
    let filled = [TIMESTAMP, NUMBER, UPDATED, "status"];
    match Identifier::column(key) {
        Some(column) if is_row_id(&column) => row[format!("{}_", column.as_str())] == mark,
        Some(column) if !filled.contains(&column.as_str()) => row[column.as_str()] == mark,
        _ => true,
    }
}

/// Paths of tables of rows beside `/good` that arrive.
const TABLES: &[&str] = &[
    "/idx_good_timestamp",
    "/IDX_GOOD__RPF_ID",
    "/idx_good__rpf_last_updated_idx",
    "/idx_good_status",
    "/idx_good_timestamp_status",
    "/idx_good_k7_id",
    "/idx_Good_k15_id",
    "/idx_idx_good_k7_id_timestamp",
    "/v_good_latest",
    "/GOOD/",
    "/good?x=1",
    "/rpf-db/gOOd",
    "/rpf-db",
    "/good-",
    "/go_od",
    "/Größe",
    "/größe",
    "/GRÖSSE",
    "/GRößE",
    "/pragma_table_xinfo",
    "/pragma_index_list",
    "/pragma_index_info",
    "/PRAGMA_schema_version",
    "/json_each",
    "/dbstat",
    "/select",
    "/table",
    "/rowid",
    "/null",
    "/main",
    "/0",
    "/-",
    "/_",
    "/ſqlite_master",
];

/// Paths that name no table of rows.
const NO_TABLES: &[&str] = &[
    "/",
    "//",
    "/rpf-db/",
    "/rpf-db/rpf-db/good",
    "/a/b",
    "/_rpf_idx",
    "/_RPF_tables",
    "/_rpf_events_0",
    "/_rpf_idx.good.timestamp",
    "/sqlite_schema",
    "/SQLITE_sequence",
    "/sqlite_stat1",
    "/sqlite_autoindex_good_1",
    "/good\0",
    "/good ",
    "/good%20",
    "/go\u{301}od",
];
