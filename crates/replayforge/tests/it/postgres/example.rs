//! examples/postgres-status, from the database to the player's rows.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::ports::free_port;
use crate::support::postgres::Postgres;
use crate::support::program::Program;
use crate::support::wait::{SOON, eventually_some};
use crate::support::wire::Wire;

const SET_UP: &str = "CREATE USER monitor PASSWORD 'password'; GRANT pg_monitor TO monitor;";

/// Copies the example's files; ports that stand in them become these.
fn copy(into: &Path, ports: &[(&str, u16)]) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/postgres-status");
    for entry in fs::read_dir(example).unwrap() {
        let entry = entry.unwrap();
        let mut text = fs::read_to_string(entry.path()).unwrap();
        for (from, to) in ports {
            text = text.replace(from, &to.to_string());
        }
        fs::write(into.join(entry.file_name()), text).unwrap();
    }
}

#[test]
fn the_status_of_a_database_becomes_rows() {
    let postgres = Postgres::start();
    postgres.sql(SET_UP);
    let folder = tempfile::tempdir().unwrap();
    let (relay, player) = (free_port(), free_port());
    copy(folder.path(), &[("8081", relay), ("8090", player)]);
    let url = format!("postgres://monitor:password@127.0.0.1:{}/postgres", postgres.port);
    let env = [("STATUS_TOKEN", "token"), ("PG_URL", &url)];
    let start = |role: &str, ready: &str| {
        let file = format!("{role}.json");
        let program = Program::start(folder.path(), &[role, "-c", &file], &env);
        program.wait_for(ready);
        program
    };
    let _relay = start("relay", "relay started address=");
    let _player = start("player", " INFO started ");
    let _proxy = start("proxy", " INFO started ");
    let rows = |table: &str| {
        eventually_some(table, SOON, || {
            let path = format!("/status/query-table/{table}?limit=10");
            let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
            let answer = Wire::connect(player).exchange(request.as_bytes());
            let rows = (answer.status() == 200).then(|| answer.json())?;
            rows.as_array().filter(|rows| !rows.is_empty()).cloned()
        })
    };
    let size = |row: &Value| row["datname"] == "postgres" && row["bytes"].as_f64() > Some(1e6);
    let sizes = rows("pg_sizes");
    assert!(sizes.iter().any(size), "{sizes:?}");
    assert!(rows("pg_connections").iter().any(|row| row["state"] == "active"));
}
