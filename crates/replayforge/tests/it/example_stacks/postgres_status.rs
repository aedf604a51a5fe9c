//! examples/postgres-status, from the database to the player's rows.

use serde_json::Value;

use super::rig::{Example, ports, wait_for_rows};
use crate::support::postgres::Postgres;

const SET_UP: &str = "CREATE USER monitor PASSWORD 'password'; GRANT pg_monitor TO monitor;";

#[test]
fn the_status_of_a_database_becomes_rows() {
    let postgres = Postgres::start();
    postgres.sql(SET_UP);
    let [relay, server] = ports();
    let address = format!("127.0.0.1:{}/postgres", postgres.port);
    let replaced = [
        ("8081", &*relay),
        ("8090", &server),
        ("db.example.com/postgres?sslmode=verify-full", &address),
    ];
    let example = Example::set_up("postgres-status", &replaced);
    let _programs = ["relay -c", "player -c", "proxy -c"].map(|part| example.start(part));
    let rows =
        |table: &str| wait_for_rows(&server, &format!("/status/query-table/{table}?limit=10"), 1);
    let size = |row: &Value| row["datname"] == "postgres" && row["bytes"].as_f64() > Some(1e6);
    let sizes = rows("pg_sizes");
    assert!(sizes.iter().any(size), "{sizes:?}");
    assert!(rows("pg_connections").iter().any(|row| row["state"] == "active"));
    let shown: Vec<Value> = serde_json::from_str(&example.run("curl")).unwrap();
    assert!(shown.iter().any(size), "{shown:?}");
}
