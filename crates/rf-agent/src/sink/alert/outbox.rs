//! Notices on their way to the notification sink's queue: they are stored in the transaction of what they tell, and removed
//! once the queue has them. A kill in between repeats the hand-over under the same id, which the queue knows.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use rf_core::event::CapturedRequest;
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::scope::Scope;
use super::watcher::{Notice, Watch};

/// Notices that may wait; past it the oldest are given up, counted and logged.
const MAX_WAITING: i64 = 10_000;
/// Notices that are handed over in one go.
const AT_ONCE: i64 = 100;

pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS _rpf_outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL,
  content BLOB NOT NULL
) STRICT;
";
const PUT: &str = "INSERT INTO _rpf_outbox (id, content) VALUES (?1, ?2)";
const PRUNE: &str = "DELETE FROM _rpf_outbox WHERE seq <= (SELECT max(seq) FROM _rpf_outbox) - ?1";
const WAITING: &str = "SELECT seq, id, content FROM _rpf_outbox
  WHERE substr(id, 1, length(?1)) = ?1 ORDER BY seq LIMIT ?2";
const REMOVE: &str = "DELETE FROM _rpf_outbox WHERE seq = ?1";

/// A notice that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) seq: i64,
    /// The same at every hand-over.
    pub(super) id: String,
    /// An event for a notification sink.
    pub(super) content: Bytes,
}

/// Stores a notice.
pub(super) fn put(
    conn: &Connection,
    scope: &Scope,
    subject: &str,
    message: &str,
    now_us: i64,
) -> rusqlite::Result<()> {
    let id = Uuid::now_v7();
    let body = serde_json::json!({ "subject": subject, "message": message }).to_string();
    let content = CapturedRequest {
        id,
        captured_at_us: u64::try_from(now_us).unwrap_or(0),
        ip: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        method: "POST",
        target: "/",
        headers: [("Content-Type", &b"application/json"[..])],
        body: body.as_bytes(),
    };
    conn.prepare_cached(PUT)?.execute(params![scope.full(&id.to_string()), content.encode()])?;
    let given_up = conn.prepare_cached(PRUNE)?.execute([MAX_WAITING])?;
    if given_up > 0 {
        tracing::error!(
            notices = given_up,
            "oldest notices dropped: the notification sink accepts none"
        );
    }
    Ok(())
}

/// The oldest notices of a sink that wait.
pub(super) fn waiting(conn: &Connection, scope: &Scope) -> rusqlite::Result<Vec<Waiting>> {
    let mut statement = conn.prepare_cached(WAITING)?;
    let rows = statement.query_map(params![scope.prefix(), AT_ONCE], |row| {
        let (id, content): (String, Vec<u8>) = (row.get(1)?, row.get(2)?);
        let id = scope.own(&id).unwrap_or(&id).to_owned();
        Ok(Waiting { seq: row.get(0)?, id, content: content.into() })
    })?;
    rows.collect()
}

/// Removes a notice that was handed over.
pub(super) fn remove(conn: &Connection, seq: i64) -> rusqlite::Result<()> {
    conn.prepare_cached(REMOVE)?.execute([seq]).map(drop)
}

/// A notice's heading and text, for a person.
pub(super) fn text(table: &str, watch: &Watch, notice: &Notice) -> (String, String) {
    let bad = &watch.bad_status;
    match notice {
        Notice::Bad => (
            format!("{table}: {bad}"),
            format!("Table {table} is in alarm: its last bad status is \"{bad}\"."),
        ),
        Notice::Recovered(time) => (
            format!("{table}: recovered"),
            format!("Table {table} is good again. It was bad (\"{bad}\") for {}.", length(*time)),
        ),
        Notice::Missing(time) => (
            format!("{table}: no events"),
            format!("Table {table} has had no event for {}.", length(*time)),
        ),
        Notice::Back(time) => (
            format!("{table}: events again"),
            format!("Table {table} has events again. It had none for {}.", length(*time)),
        ),
        Notice::StillBad(time) => (
            format!("{table}: still {bad}"),
            format!("Table {table} has been bad (\"{bad}\") for {}.", length(*time)),
        ),
        Notice::StillMissing(time) => (
            format!("{table}: still no events"),
            format!("Table {table} has had no event for {}.", length(*time)),
        ),
    }
}

/// A length of time for a person: its two largest units.
fn length(us: i64) -> String {
    let seconds = us.max(0) / 1_000_000;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => format!("{minutes} min {rest} s"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::alert::watcher::Rule;

    #[test]
    fn a_notice_says_what_was_wrong_and_for_how_long() {
        let rule = Rule { bad: 3, of: 3, heartbeat: None, reminder: None };
        let mut watch = Watch::default();
        watch.event(&rule, "down", 0, false);
        let check = |notice: Notice, subject: &str, message: &str| {
            assert_eq!(text("shop", &watch, &notice), (subject.to_owned(), message.to_owned()));
        };
        let time = 100_000_000;
        let bad = "Table shop is in alarm: its last bad status is \"down\".";
        check(Notice::Bad, "shop: down", bad);
        let good = "Table shop is good again. It was bad (\"down\") for 1 min 40 s.";
        check(Notice::Recovered(time), "shop: recovered", good);
        let missing = "Table shop has had no event for 1 min 40 s.";
        check(Notice::Missing(time), "shop: no events", missing);
        let back = "Table shop has events again. It had none for 1 min 40 s.";
        check(Notice::Back(time), "shop: events again", back);
        let still = "Table shop has been bad (\"down\") for 1 min 40 s.";
        check(Notice::StillBad(time), "shop: still down", still);
        check(Notice::StillMissing(time), "shop: still no events", missing);
    }

    #[test]
    fn the_oldest_notices_make_room_where_too_many_wait() {
        let mut conn = Connection::open_in_memory().unwrap();
        let scope = Scope::of("checks");
        let transaction = conn.transaction().unwrap();
        transaction.execute_batch(TABLES).unwrap();
        for number in 0..MAX_WAITING + 2 {
            put(&transaction, &scope, &format!("number {number}"), "", 0).unwrap();
        }
        transaction.commit().unwrap();
        let mut numbers = Vec::new();
        loop {
            let some = waiting(&conn, &scope).unwrap();
            if some.is_empty() {
                break;
            }
            for notice in some {
                let event: serde_json::Value = serde_json::from_slice(&notice.content).unwrap();
                let body = event["body"].as_str().unwrap();
                numbers.push(
                    serde_json::from_str::<serde_json::Value>(body).unwrap()["subject"].clone(),
                );
                remove(&conn, notice.seq).unwrap();
            }
        }
        let expected = (2..MAX_WAITING + 2).map(|number| format!("number {number}"));
        assert!(
            numbers.iter().eq(expected.collect::<Vec<_>>().iter()),
            "{} of them",
            numbers.len()
        );
    }

    #[test]
    fn lengths_for_people() {
        let check = |seconds: i64, text: &str| assert_eq!(length(seconds * 1_000_000), text);
        check(-5, "0 s");
        check(59, "59 s");
        check(61, "1 min 1 s");
        check(3700, "1 h 1 min");
        check(90_000, "1 d 1 h");
    }
}
