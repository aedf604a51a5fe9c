//! Rounds of calls: what they look like, what spoils them, and what does not.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{body, params, posting, printed, printing, wait_for};
use crate::support::postgres::{PASSWORD, Postgres, USER};
use crate::support::program::Program;
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually};

/// As often as tests need it.
const OFTEN: &str = "50ms";

#[test]
fn a_round_is_one_event_in_the_shape_of_the_original() {
    let postgres = Postgres::start();
    let folder = tempfile::tempdir().unwrap();
    let calls = json!([
        { "name": "good", "sql": "SELECT 1 AS one" },
        { "name": "bad", "sql": "SELECT * FROM nowhere" },
        { "name": "bad value", "sql": "SELECT 'hunter2'::int" },
        { "name": "two", "sql": "SELECT 1; SELECT 2" },
        { "name": "slow", "sql": "SELECT pg_sleep(60)" },
        { "name": "left open", "sql": "BEGIN" },
        { "name": "after", "sql": "SELECT pg_current_xact_id_if_assigned() IS NULL AS fresh, now() = statement_timestamp() AS alone" },
        { "name": "many", "sql": "SELECT generate_series(1, 1000) AS n" },
        { "name": "last", "sql": "SELECT 'still here' AS it" },
    ]);
    let others =
        json!({ "calls": calls, "path": "/pg/status", "statementTimeout": "5s", "maxRows": 3 });
    let program = printing(folder.path(), "pgcall", &params(&postgres, &others));
    let body = wait_for(&program, "a round", |body| Some(body.clone()));
    let event = &printed(&program)[0];
    assert_eq!((&event["method"], &event["path"]), (&json!("POST"), &json!("/pg/status")));
    assert_eq!(event["headers"], json!({ "Content-Type": ["application/json"] }));
    for (name, success, error, data) in [
        ("good", true, None, json!([{ "one": 1 }])),
        ("bad", false, Some(r#"relation "nowhere" does not exist (SQLSTATE 42P01)"#), json!([])),
        (
            "bad value",
            false,
            Some(r#"invalid input syntax for type integer: "hunter2" (SQLSTATE 22P02)"#),
            json!([]),
        ),
        (
            "two",
            false,
            Some("cannot insert multiple commands into a prepared statement (SQLSTATE 42601)"),
            json!([]),
        ),
        (
            "slow",
            false,
            Some("canceling statement due to statement timeout (SQLSTATE 57014)"),
            json!([]),
        ),
        ("left open", true, None, json!([])),
        ("after", true, None, json!([{ "fresh": true, "alone": true }])),
        ("many", true, None, json!([{ "n": 1 }, { "n": 2 }, { "n": 3 }])),
        ("last", true, None, json!([{ "it": "still here" }])),
    ] {
        let call = &body[name];
        assert_eq!(call["success"], success, "{name}: {call}");
        assert_eq!(call.get("error").and_then(Value::as_str), error, "{name}");
        assert_eq!(call["data"], data, "{name}");
        assert_eq!(call.get("truncated").is_some(), name == "many", "{name}");
        let (time, unix) =
            (call["update_time"].as_str().unwrap(), call["update_timestamp"].as_i64().unwrap());
        assert!(time.len() == 20 && time.ends_with('Z') && unix > 1_700_000_000, "{call}");
    }
    // What is in a row is not for the log.
    assert!(!program.log().contains("hunter2"), "{}", program.log());
}

#[test]
fn calls_leave_nothing_in_the_server_s_log() {
    let postgres = Postgres::start();
    postgres.sql(&format!("ALTER ROLE {USER} SET log_min_messages = warning"));
    let folder = tempfile::tempdir().unwrap();
    let calls = json!([
        { "name": "c", "sql": "SELECT 1" },
        { "name": "level", "sql": "SELECT current_setting('log_min_messages') AS it" },
    ]);
    let others = json!({ "calls": calls, "intervalSeconds": OFTEN });
    let program = printing(folder.path(), "pgcall", &params(&postgres, &others));
    eventually("rounds that are over", SOON, || printed(&program).len() >= 3);
    assert_eq!(body(&printed(&program)[0])["level"]["data"], json!([{ "it": "warning" }]));
    assert!(!postgres.log().contains("WARNING"), "{}", postgres.log());
}

#[test]
fn one_connection_is_kept_and_made_anew_after_a_restart() {
    let mut postgres = Postgres::start();
    let folder = tempfile::tempdir().unwrap();
    let calls = json!([{ "name": "pid", "sql": "SELECT pg_backend_pid() AS pid" }]);
    let others = json!({ "calls": calls, "intervalSeconds": OFTEN });
    let program = printing(folder.path(), "pgcall", &params(&postgres, &others));
    let pids = || {
        let events = printed(&program);
        let pid = |event| body(event)["pid"]["data"][0]["pid"].as_i64();
        events.iter().map(pid).collect::<Vec<_>>()
    };
    eventually("five rounds", SOON, || pids().len() >= 5);
    let first = pids()[0].expect("a pid");
    assert!(pids().iter().all(|pid| *pid == Some(first)), "{:?}", pids());
    postgres.go_away();
    let error = wait_for(&program, "a failed round", |body| {
        Some(body["pid"].get("error")?.as_str()?.to_owned())
    });
    assert!(error.contains("connect") || error.contains("terminating"), "{error}");
    postgres.come_back();
    let next = || pids().into_iter().flatten().find(|pid| *pid != first);
    eventually("a round on a new connection", SOON, || next().is_some());
}

#[test]
fn a_wrong_password_is_told_and_the_right_one_never() {
    let postgres = Postgres::start();
    let folder = tempfile::tempdir().unwrap();
    let calls = json!([{ "name": "c", "sql": "SELECT 1" }, { "name": "d", "sql": "SELECT 2" }]);
    let params = params(&postgres, &json!({ "calls": calls, "password": "wr0ng" }));
    let program = printing(folder.path(), "pgcall", &params);
    let body = wait_for(&program, "a failed round", |body| Some(body.clone()));
    for name in ["c", "d"] {
        let expected = format!(
            "cannot connect to 127.0.0.1:{}: password authentication failed for user \"{USER}\" (SQLSTATE 28P01)",
            postgres.port
        );
        assert_eq!(body[name]["error"], expected);
    }
    program.wait_for("call failed");
    assert!(!format!("{}{}", program.log(), program.output()).contains("wr0ng"));
}

#[test]
fn both_forms_of_a_connection_string_reach_the_port() {
    let postgres = Postgres::start();
    let port = postgres.port;
    for conn_string in [
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres?sslmode=disable"),
        format!("host=127.0.0.1 port={port} user={USER} password='{PASSWORD}' dbname=postgres"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let calls = json!([{ "name": "c", "sql": "SELECT inet_server_port() AS port" }]);
        let params = json!({ "connString": conn_string, "calls": calls });
        let program = printing(folder.path(), "pgcall", &params);
        let data = wait_for(&program, "a round", |body| Some(body["c"]["data"].clone()));
        assert_eq!(data, json!([{ "port": port }]), "{conn_string}");
        assert!(!program.log().contains(PASSWORD));
    }
}

#[test]
fn a_bad_configuration_is_told_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let check = |params: Value, expected: &str| {
        let file = super::config(
            folder.path(),
            "pgcall",
            &params,
            &json!({ "id": "out", "type": "http", "url": ":dbg>stdout:" }),
        );
        let path = crate::support::program::write_config(folder.path(), "bad", &file);
        let done = Program::run(folder.path(), &["check", "-c", &path, "--role", "proxy"], &[]);
        assert!(done.log.contains(expected) && done.code == Some(78), "{expected}: {}", done.log);
        assert!(!done.log.contains("hunter2"), "{}", done.log);
    };
    let calls = json!([{ "name": "c", "sql": "SELECT 1" }]);
    check(json!({ "calls": calls }), "user is missing");
    check(json!({ "calls": [], "user": "u" }), "calls");
    let twice = json!([{ "name": "c", "sql": "SELECT 1" }, { "name": "c", "sql": "SELECT 1" }]);
    check(json!({ "calls": twice, "user": "u" }), "`c` is used twice");
    check(
        json!({ "calls": calls, "user": "u", "sslMode": "verify-ca" }),
        "verify-ca needs a caFile",
    );
    check(
        json!({ "calls": calls, "user": "u", "caFile": "none.pem", "sslMode": "require" }),
        "none.pem",
    );
    check(
        json!({ "calls": calls, "connString": "postgres://u:hunter2@db:hunter2/d" }),
        "invalid value for option `port`",
    );
    check(
        json!({ "calls": calls, "connString": "host=db", "user": "u" }),
        "has no effect beside connString",
    );
    check(
        json!({ "calls": calls, "user": "u", "intervalSeconds": 1e-12 }),
        "expected a time above zero",
    );
}

#[test]
fn a_round_waits_for_room_and_those_that_did_not_take_place_are_counted() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE rounds (id serial)");
    let folder = tempfile::tempdir().unwrap();
    let mut target = Target::start();
    target.go_away();
    let calls = json!([{ "name": "c", "sql": "INSERT INTO rounds DEFAULT VALUES RETURNING id, repeat('x', 100000) AS x" }]);
    let others = json!({ "calls": calls, "intervalSeconds": OFTEN });
    let program = posting(folder.path(), "pgcall", &params(&postgres, &others), target.port);
    program.wait_for("events cannot be stored now, trying again");
    let made = ids(&postgres);
    // It waits: no other round is made meanwhile.
    crate::support::wait::always_for(
        "the same rounds",
        std::time::Duration::from_millis(500),
        || ids(&postgres) == made,
    );
    target.come_back();
    program.wait_for("rounds were skipped");
    eventually("all rounds at the target", SOON, || made.is_subset(&arrived(&target)));
}

#[test]
fn a_kill_costs_no_more_than_the_round_in_hand() {
    const KILLS: usize = 5;
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE rounds (id serial)");
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start();
    let calls = json!([{ "name": "c", "sql": "INSERT INTO rounds DEFAULT VALUES RETURNING id" }]);
    let others = json!({ "calls": calls, "intervalSeconds": "2ms" });
    let mut program = posting(folder.path(), "pgcall", &params(&postgres, &others), target.port);
    for kill in 1..=KILLS {
        eventually("rounds are made", SOON, || arrived(&target).len() >= 20 * kill);
        program.kill();
        program.restart();
    }
    program.stop();
    program.restart();
    let made = ids(&postgres);
    eventually("all rounds but those in hand", SOON, || {
        made.difference(&arrived(&target)).count() <= KILLS + 1
    });
}

fn ids(postgres: &Postgres) -> BTreeSet<i64> {
    postgres.sql("SELECT id FROM rounds").lines().map(|id| id.parse().unwrap()).collect()
}

/// The ids of the rounds that the target has got.
fn arrived(target: &Target) -> BTreeSet<i64> {
    let id = |event: &Value| body(event)["c"]["data"][0]["id"].as_i64();
    super::posted(target).iter().filter_map(id).collect()
}
