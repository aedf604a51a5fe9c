//! Names: one table or column in several spellings, and tables and indexes, which are one set of names to SQLite.

use std::collections::HashSet;

use rusqlite::Connection;
use serde_json::json;

use super::{PARAMS, event, open, rig};
use crate::sink::SinkError;
use crate::sink::table::hostile::encode;
use crate::sink::table::rig::Rig;

/// Over a database that was there already.
async fn rig_over(schema: &str) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let conn = Connection::open(folder.path().join("db.sqlite3")).unwrap();
    conn.execute_batch(schema).unwrap();
    drop(conn);
    Rig::start_in(folder, crate::sink::db::build, PARAMS).await
}

/// The columns of each index of a table.
fn indexed(rig: &Rig, table: &str) -> HashSet<String> {
    let conn = open(rig);
    let sql = "SELECT (SELECT group_concat(name) FROM pragma_index_info(list.name)) FROM pragma_index_list(?1) AS list";
    let mut statement = conn.prepare(sql).unwrap();
    statement.query_map([table], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// The names of a table's indexes.
fn indexes(rig: &Rig, table: &str) -> Vec<String> {
    let conn = open(rig);
    let sql = "SELECT name FROM pragma_index_list(?1) ORDER BY name";
    let mut statement = conn.prepare(sql).unwrap();
    statement.query_map([table], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

async fn rows(rig: &Rig, table: &str) -> usize {
    rig.json(&format!("/query-table/{table}")).await.as_array().unwrap().len()
}

#[tokio::test]
async fn a_table_in_several_spellings_is_one() {
    let mut rig = rig().await;
    rig.write(&[
        event("POST", "/Orders", r#"{"a":1}"#),
        event("POST", "/orders", r#"{"a":2}"#),
        event("POST", "/ORDERS", r#"{"a":3,"b":1}"#),
        event("POST", "/Orders", r#"{"a":4,"B":2}"#),
        event("PUT", "/rpf-db/oRDERS/", r#"{"a":5,"b":3}"#),
        event("DELETE", "/OrderS", r#"{"id":"2"}"#),
    ])
    .await;
    let rows = rig.json("/query-table/orders").await;
    let rows: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| json!([row["id"], row["a"], row["b"]])).collect();
    let expected =
        [json!(["1", 1, null]), json!(["3", 3, 1]), json!(["4", 4, 2]), json!(["5", 5, 3])];
    assert_eq!(rows, expected);
    assert_eq!(rig.json("/list").await, json!(["Orders"]));
}

/// To SQLite only ASCII letters are the same in either case.
#[tokio::test]
async fn tables_that_only_a_letter_beyond_ascii_tells_apart_count_by_themselves() {
    let mut rig = rig_over(
        "CREATE TABLE _rpf_tables (name TEXT PRIMARY KEY, next_id INTEGER NOT NULL) STRICT, WITHOUT ROWID;
         INSERT INTO _rpf_tables VALUES ('äpfel', 9);
         CREATE TABLE Äpfel (id TEXT PRIMARY KEY);",
    )
    .await;
    rig.write(&[
        event("POST", "/Übung", "{}"),
        event("POST", "/übung", "{}"),
        event("POST", "/Übung", "{}"),
        event("POST", "/ÜBUNG", "{}"),
        event("DELETE", "/Übung", r#"{"id":"3"}"#),
    ])
    .await;
    rig.restart().await;
    rig.write(&["/übung", "/Übung", "/Äpfel"].map(|path| event("POST", path, "{}"))).await;
    for (table, ids) in [
        ("Übung", json!(["1", "2", "4"])),
        ("übung", json!(["1", "2"])),
        // An earlier version has noted its number below the other spelling.
        ("Äpfel", json!(["9"])),
    ] {
        let found = rig.json(&format!("/distinct-values/{}/id", encode(table))).await;
        assert_eq!(found, ids, "{table}");
    }
}

#[tokio::test]
async fn of_several_keys_for_one_column_its_own_name_counts() {
    let mut rig = rig().await;
    for body in [
        r#"{"userId":"x","user_id":"own","UserID":"z","A":1,"a":2,"Ü":"x","ü":"own","ID":"x","id":"1","!id":"z"}"#,
        r#"{"id":"2","userId":"x","UserID":"last"}"#,
        r#"{"id":"3","user_id":null,"userId":"only"}"#,
    ] {
        rig.post("/t", body).await;
    }
    let rows = rig.json("/query-table/t").await;
    let seen =
        |row: usize| json!([rows[row]["id"], rows[row]["user_id"], rows[row]["a"], rows[row]["ü"]]);
    assert_eq!(seen(0), json!(["1", "own", 2, "own"]));
    assert_eq!(seen(1), json!(["2", "last", null, null]));
    assert_eq!(seen(2), json!(["3", "only", null, null]));
    assert_eq!(rig.json("/columns/t").await.as_array().unwrap().len(), 7);
}

#[tokio::test]
async fn time_and_id_are_known_in_every_spelling_of_their_columns() {
    let mut rig = rig().await;
    let bodies = [
        r#"{"Id":"1","Timestamp":60,"TIMESTAMP":1136214245}"#,
        r#"{"id":"2","Timestamp":60,"timestamp":"2006-01-02T15:04:05Z"}"#,
        r#"{"ID":"3","timestamp":null,"Timestamp":1136214245000}"#,
    ];
    for body in bodies {
        rig.post("/t", body).await;
    }
    let rows = rig.json("/query-table/t").await;
    let times: Vec<_> = (0..3).map(|row| rows[row]["timestamp"].clone()).collect();
    assert_eq!(times, vec![json!(1_136_214_245); 3]);
    let refused = rig.try_write(&[event("POST", "/t", r#"{"Timestamp":"yesterday"}"#)]).await;
    assert!(matches!(refused, Err(SinkError::Permanent(_))), "{refused:?}");
    for body in [r#"{"ID":"1"}"#, r#"{"id":null,"Id":2}"#] {
        rig.write(&[event("DELETE", "/t", body)]).await;
    }
    let rows = rig.json("/query-table/t").await;
    assert_eq!(json!([rows[0]["id"], rows[1]]), json!(["3", null]));
}

/// SQLite adds no column of these names.
#[tokio::test]
async fn keys_that_sqlite_keeps_for_itself_have_columns_with_another_name() {
    let mut rig = rig().await;
    let bodies = [r#"{"rowid":1}"#, r#"{"oid":"a","_rowid_":2}"#, r#"{"OID":"b"}"#];
    for body in bodies {
        rig.post("/t", body).await;
    }
    let rows = rig.json("/query-table/t?order=_rpf_id").await;
    let seen: Vec<_> = ["rowid_", "oid_", "_rowid__"]
        .map(|column| (0..3).map(|row| rows[row][column].clone()).collect::<Vec<_>>())
        .into();
    assert_eq!(json!(seen), json!([[1, null, null], [null, "a", "b"], [null, 2, null]]));
}

#[tokio::test]
async fn indexes_are_there_for_the_columns_that_the_original_indexes() {
    let mut rig = rig().await;
    rig.post("/t", r#"{"plain":1,"user_id":2,"my_fk_x":3,"sort_idx":4}"#).await;
    rig.post("/t", r#"{"status":"ok"}"#).await;
    let expected = [
        "id",
        "_rpf_id",
        "_rpf_last_updated_idx",
        "timestamp,status",
        "user_id",
        "my_fk_x",
        "sort_idx",
        "status",
    ];
    assert_eq!(indexed(&rig, "t"), expected.map(str::to_owned).into());
}

#[tokio::test]
async fn a_table_may_be_called_as_indexes_were() {
    let events = [
        event("POST", "/foo", r#"{"user_id":1}"#),
        event("POST", "/idx_foo_timestamp", "{}"),
        event("POST", "/idx_foo_user_id", "{}"),
        event("POST", "/bar", "{}"),
        event("POST", "/idx_bar_user_id", "{}"),
        event("POST", "/bar", r#"{"user_id":2}"#),
    ];
    let check = async |rig: &Rig| {
        for (table, expected) in [
            ("foo", 1),
            ("idx_foo_timestamp", 1),
            ("idx_foo_user_id", 1),
            ("bar", 2),
            ("idx_bar_user_id", 1),
        ] {
            assert_eq!(rows(rig, table).await, expected, "{table}");
        }
        for table in ["foo", "bar"] {
            assert!(indexed(rig, table).contains("user_id"), "{table}");
        }
    };
    let mut at_once = rig().await;
    at_once.write(&events).await;
    check(&at_once).await;
    let mut one_by_one = rig().await;
    for event in events {
        one_by_one.write(&[event]).await;
    }
    check(&one_by_one).await;
}

const OF_AN_EARLIER_VERSION: &str = "
    CREATE TABLE foo (id TEXT PRIMARY KEY, _rpf_id INTEGER, _rpf_last_updated_idx INTEGER, timestamp INTEGER, user_id INTEGER);
    CREATE INDEX idx_foo__rpf_id ON foo (_rpf_id);
    CREATE INDEX idx_foo__rpf_last_updated_idx ON foo (_rpf_last_updated_idx);
    CREATE INDEX idx_foo_timestamp ON foo (timestamp);
    CREATE INDEX idx_foo_user_id ON foo (user_id);";

#[tokio::test]
async fn indexes_of_an_earlier_version_count_and_keep_their_names_from_tables() {
    let mut rig = rig_over(OF_AN_EARLIER_VERSION).await;
    let before = indexes(&rig, "foo");
    let foo = event("POST", "/foo", r#"{"user_id":1}"#);
    let taken = ["/idx_foo_timestamp", "/IDX_Foo_user_id"].map(|path| event("POST", path, "{}"));
    let batch = [&foo, &taken[0], &foo, &taken[1], &foo].map(String::clone);
    let refused = rig.deliver(&batch).await;
    assert_eq!(refused.len(), 2, "{refused:?}");
    for ((content, reason), expected) in refused.iter().zip(&taken) {
        assert_eq!(content, expected);
        assert!(reason.contains("an index of table `foo` has that name"), "{reason}");
    }
    assert_eq!(rows(&rig, "foo").await, 3);
    assert_eq!(indexes(&rig, "foo"), before);
    // The index on the time alone gives way to one with the status, as it always did.
    rig.post("/foo", r#"{"status":"ok"}"#).await;
    let columns = indexed(&rig, "foo");
    assert!(columns.contains("timestamp,status") && !columns.contains("timestamp"), "{columns:?}");
}

#[tokio::test]
async fn no_index_takes_the_place_of_another_tables() {
    let mut rig = rig_over(
        "CREATE TABLE a (id TEXT PRIMARY KEY, fk_timestamp TEXT);
         CREATE INDEX idx_a_fk_timestamp ON a (fk_timestamp);
         CREATE TABLE n_x (id TEXT PRIMARY KEY, y_id TEXT);
         CREATE INDEX idx_n_x_y_id ON n_x (y_id);",
    )
    .await;
    for (path, body) in [
        ("/m_x", r#"{"y_id":1}"#),
        ("/m", r#"{"x_y_id":1}"#),
        ("/n", r#"{"x_y_id":1}"#),
        ("/a_fk", "{}"),
        ("/a_fk", r#"{"status":"ok"}"#),
    ] {
        rig.post(path, body).await;
    }
    for (table, column) in [
        ("m_x", "y_id"),
        ("m", "x_y_id"),
        ("n", "x_y_id"),
        ("n_x", "y_id"),
        ("a", "fk_timestamp"),
        ("a_fk", "timestamp,status"),
    ] {
        let columns = indexed(&rig, table);
        assert!(columns.contains(column), "{table}: {columns:?}");
    }
}

#[tokio::test]
async fn a_table_that_a_person_renames_takes_no_index_from_the_next_one() {
    let mut rig = rig().await;
    for archive in ["t_2024", "t_2025"] {
        rig.post("/t", r#"{"user_id":1}"#).await;
        open(&rig).execute_batch(&format!("ALTER TABLE t RENAME TO {archive}")).unwrap();
    }
    rig.post("/t", r#"{"user_id":1}"#).await;
    assert_eq!(indexed(&rig, "t"), indexed(&rig, "t_2024"));
    assert!(indexed(&rig, "t").contains("user_id"));
    assert_eq!(rows(&rig, "t").await, 1);
}

#[tokio::test]
async fn a_table_hides_nothing_that_sqlite_is_asked() {
    let mut rig = rig().await;
    let names = ["pragma_table_xinfo", "pragma_index_list", "pragma_index_info", "json_each"];
    for name in names {
        rig.post(&format!("/{name}"), "{}").await;
    }
    rig.restart().await;
    rig.post("/orders", r#"{"user_id":1}"#).await;
    rig.post("/pragma_table_xinfo", r#"{"user_id":1}"#).await;
    assert_eq!(rows(&rig, "orders").await, 1);
    assert_eq!(rows(&rig, "pragma_table_xinfo").await, 2);
    let all = json!([
        "json_each",
        "orders",
        "pragma_index_info",
        "pragma_index_list",
        "pragma_table_xinfo"
    ]);
    assert_eq!(rig.json("/list").await, all);
    assert_eq!(rig.json("/columns/orders").await.as_array().unwrap().len(), 5);
}
