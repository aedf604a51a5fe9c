//! Notifications become events, and none is missed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{body, params, posted, posting, printed, printing};
use crate::support::postgres::Postgres;
use crate::support::program::Program;
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually};

const TABLE: &str = "CREATE TABLE outbox (id bigserial PRIMARY KEY, note text);";

#[test]
fn notifications_are_events_at_once() {
    let postgres = Postgres::start();
    let folder = tempfile::tempdir().unwrap();
    let others = json!({ "channels": ["orders", "Odd \"name\""], "path": "/rpf-db/orders" });
    let program = printing(folder.path(), "listen", &params(&postgres, &others));
    program.wait_for("listening source=db");
    postgres.sql(r#"NOTIFY orders, '{"id": 7}'; NOTIFY "Odd ""name"""; NOTIFY other, 'x'; NOTIFY orders, 'ä "b"'"#);
    eventually("three events", SOON, || printed(&program).len() >= 3);
    let heard: Vec<Value> = printed(&program).iter().map(body).collect();
    let told: Vec<_> = heard
        .iter()
        .map(|body| (body["channel"].as_str().unwrap(), body["payload"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [("orders", r#"{"id": 7}"#), ("Odd \"name\"", ""), ("orders", "ä \"b\"")]);
    assert!(heard[0]["pid"].as_i64().unwrap() > 0);
    assert_eq!(printed(&program)[0]["path"], "/rpf-db/orders");
}

#[test]
fn what_was_announced_while_the_server_restarted_is_read_again() {
    let mut postgres = Postgres::start();
    postgres.sql(TABLE);
    postgres.sql("INSERT INTO outbox (note) VALUES ('before')");
    let folder = tempfile::tempdir().unwrap();
    let others =
        json!({ "channels": ["c"], "rereadSql": "SELECT id, note FROM outbox ORDER BY id" });
    let program = printing(folder.path(), "listen", &params(&postgres, &others));
    let rows = || {
        let events = printed(&program);
        let note = |event| Some(body(event)["row"]["note"].as_str()?.to_owned());
        events.iter().filter_map(note).collect::<Vec<_>>()
    };
    eventually("the first look", SOON, || rows() == ["before"]);
    postgres.go_away();
    program.wait_for("not listening");
    postgres.come_back();
    // Perhaps before the program is back: then it is found by the look.
    postgres.sql("INSERT INTO outbox (note) VALUES ('missed'); NOTIFY c");
    eventually("a look that finds what was missed", SOON, || {
        rows().contains(&"missed".to_owned())
            || printed(&program).iter().any(|event| body(event)["channel"] == "c")
    });
    assert!(rows().iter().filter(|note| *note == "before").count() >= 1, "{:?}", rows());
    postgres.sql("NOTIFY c, 'after'");
    eventually("it listens again", SOON, || {
        printed(&program).iter().any(|event| body(event)["payload"] == "after")
    });
}

#[test]
fn what_is_announced_while_the_query_runs_comes_after_its_rows() {
    let postgres = Postgres::start();
    // A query that lasts until the test lets it go on.
    postgres.sql(
        "CREATE TABLE gate (note text);
         CREATE FUNCTION pass() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
             WHILE NOT EXISTS (SELECT 1 FROM gate) LOOP PERFORM pg_sleep(0.01); END LOOP;
             RETURN 'row';
         END $$;",
    );
    let folder = tempfile::tempdir().unwrap();
    let others = json!({ "channels": ["c"], "rereadSql": "SELECT pass() AS note" });
    let program = printing(folder.path(), "listen", &params(&postgres, &others));
    let running = "SELECT count(*) FROM pg_stat_activity \
        WHERE application_name = 'replayforge' AND state = 'active' AND query LIKE '%pass()%'";
    eventually("the query runs", SOON, || postgres.sql(running) == "1");
    postgres.sql("NOTIFY c, 'meanwhile'");
    postgres.sql("INSERT INTO gate VALUES ('open')");
    eventually("the row and the notification", SOON, || printed(&program).len() >= 2);
    let bodies: Vec<Value> = printed(&program).iter().map(body).collect();
    assert_eq!(bodies[0], json!({ "row": { "note": "row" } }));
    assert_eq!(bodies[1]["payload"], "meanwhile");
}

#[test]
fn a_row_that_can_never_fit_is_a_dead_letter_and_holds_nobody_up() {
    let postgres = Postgres::start();
    postgres.sql(TABLE);
    postgres.sql("INSERT INTO outbox (note) VALUES ('first'), (repeat('x', 2000000)), ('last')");
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    let others =
        json!({ "channels": ["c"], "rereadSql": "SELECT id, note FROM outbox ORDER BY id" });
    let mut program = posting(folder.path(), "listen", &params(&postgres, &others), target.port);
    program.expect_error("event moved to the dead letters: it can never fit into the queue");
    let note = |event: &Value| body(event)["row"]["note"].clone();
    let notes = || posted(&target).iter().map(note).collect::<Vec<_>>();
    eventually("its neighbours", SOON, || notes() == ["first", "last"]);
    let config = folder.path().join("proxy.json").display().to_string();
    let list = ["dead-letters", "list", "--json", "-c", &config];
    let letters = Program::run(folder.path(), &list, &[]).output;
    assert_eq!(letters.lines().count(), 1, "{letters}");
    assert!(letters.contains("can never fit"), "{letters}");
}

#[test]
fn rows_behind_a_cursor_come_once_through_kills_and_restarts() {
    const ROWS: i64 = 80;
    let mut postgres = Postgres::start();
    postgres.sql(TABLE);
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start();
    let sql = "SELECT id, note FROM outbox \
        WHERE id > coalesce(nullif(current_setting('replayforge.cursor'), ''), '0')::bigint ORDER BY id";
    let others = json!({ "channels": ["c"], "rereadSql": sql, "cursor": "id", "maxRows": 7 });
    let mut program = posting(folder.path(), "listen", &params(&postgres, &others), target.port);
    for number in 1..=ROWS {
        postgres.sql(&format!("INSERT INTO outbox (note) VALUES ('n{number}'); NOTIFY c"));
        match number % 20 {
            7 => {
                program.kill();
                program.restart();
            }
            13 => {
                postgres.go_away();
                postgres.come_back();
            }
            _ => {}
        }
    }
    // Row -> the ids of the events that it became. A batch that the target has got twice has the same ids.
    let stored = || {
        let mut stored: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for event in posted(&target) {
            let ids = stored.entry(body(&event)["row"]["id"].as_i64().unwrap()).or_default();
            let id = event["eventId"].as_str().unwrap().to_owned();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        stored
    };
    eventually("every row", SOON, || i64::try_from(stored().len()).unwrap() == ROWS);
    let repeated: Vec<_> = stored().into_iter().filter(|(_, ids)| ids.len() > 1).collect();
    assert!(repeated.is_empty(), "{repeated:?}");
}

#[test]
fn what_was_heard_and_finds_no_room_before_a_stop_is_counted() {
    const COUNT: usize = 400;
    let postgres = Postgres::start();
    let folder = tempfile::tempdir().unwrap();
    let mut target = Target::start();
    target.go_away();
    let params = params(&postgres, &json!({ "channels": ["c"] }));
    let mut program = posting(folder.path(), "listen", &params, target.port);
    program.wait_for("listening source=db");
    // More than the queue takes, and less than may wait in memory.
    postgres.sql(&format!(
        "SELECT count(pg_notify('c', repeat('x', 7000) || n)) FROM generate_series(1, {COUNT}) n"
    ));
    program.wait_for("events cannot be stored now, trying again");
    let text = "notifications are lost: no queue accepted them before the stop";
    program.expect_error(text);
    assert!(program.stop().success());
    let line = program.wait_for(text);
    let number = line.split("events=").nth(1).and_then(|rest| rest.split(' ').next());
    let lost: usize = number.and_then(|number| number.parse().ok()).expect(&line);
    assert!(lost > 0, "{line}");
    // Of the rest, some may have been on their way to it still.
    target.come_back();
    program.restart();
    eventually("what was stored", SOON, || !posted(&target).is_empty());
    assert!(program.stop().success());
    assert!(posted(&target).len() + lost <= COUNT, "{line}");
}

#[test]
fn a_listener_that_cannot_keep_up_lets_go_and_reads_again() {
    let postgres = Postgres::start();
    postgres.sql(TABLE);
    let folder = tempfile::tempdir().unwrap();
    let mut target = Target::start();
    target.go_away();
    let others = json!({ "channels": ["c"], "rereadSql": "SELECT id, note FROM outbox" });
    let program = posting(folder.path(), "listen", &params(&postgres, &others), target.port);
    program.wait_for("listening source=db");
    // More than the queue, what may wait in memory, and what the sockets hold.
    postgres.sql(
        "SELECT count(pg_notify('c', repeat('x', 7000) || n)) FROM generate_series(1, 4000) n",
    );
    let listeners = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'replayforge'";
    eventually("the connection is given up", SOON, || postgres.sql(listeners) == "0");
    postgres.sql("INSERT INTO outbox (note) VALUES ('missed'); NOTIFY c, 'missed'");
    target.come_back();
    eventually("the look after it", SOON, || {
        posted(&target).iter().any(|event| body(event)["row"]["note"] == "missed")
    });
    assert!(program.log().contains("wait for room in the queues"), "{}", program.log());
}
