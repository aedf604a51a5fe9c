//! Times in which nothing is told of a table.

use rusqlite::{Connection, params};

use super::scope::Scope;

/// Silences that may be there at a time.
const MAX_SILENCES: usize = 1000;
/// Stands for every table.
pub(super) const ALL: &str = "*";

pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS _rpf_silences (
  name TEXT PRIMARY KEY,
  until_us INTEGER NOT NULL,
  reason TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";
const PUT: &str =
    "INSERT OR REPLACE INTO _rpf_silences (name, until_us, reason) VALUES (?1, ?2, ?3)";
const REMOVE: &str = "DELETE FROM _rpf_silences WHERE name = ?1";
const EXPIRE: &str = "DELETE FROM _rpf_silences WHERE until_us <= ?1";
const LIST: &str = "SELECT name, until_us, reason FROM _rpf_silences ORDER BY name";

/// A silence that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Silence {
    /// The table in lower case, or [`ALL`].
    pub(super) name: String,
    /// Its end, microseconds since 1970.
    pub(super) until_us: i64,
    /// For people.
    pub(super) reason: String,
}

/// The silences of a sink: a few, so they are kept in memory beside the database.
#[derive(Debug)]
pub(super) struct Silences {
    scope: Scope,
    /// By name.
    all: Vec<Silence>,
}

impl Silences {
    pub(super) fn load(conn: &Connection, scope: Scope) -> rusqlite::Result<Self> {
        let mut statement = conn.prepare(LIST)?;
        let mut rows = statement.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            if let Some(name) = scope.own(&name).map(str::to_owned) {
                all.push(Silence { name, until_us: row.get(1)?, reason: row.get(2)? });
            }
        }
        Ok(Self { scope, all })
    }

    /// The end of the silence over a table, if it lasts at `now`.
    pub(super) fn until(&self, table: &str, now: i64) -> Option<i64> {
        let over = self.all.iter().filter(|silence| silence.name == table || silence.name == ALL);
        over.map(|silence| silence.until_us).filter(|until| *until > now).max()
    }

    /// Those that last at `now`.
    pub(super) fn lasting(&self, now: i64) -> Vec<Silence> {
        self.all.iter().filter(|silence| silence.until_us > now).cloned().collect()
    }

    /// Adds one, in place of another one of the same table.
    ///
    /// # Errors
    /// A database that refuses; `Ok(false)` when there are too many.
    pub(super) fn put(
        &mut self,
        conn: &Connection,
        silence: Silence,
        now: i64,
    ) -> rusqlite::Result<bool> {
        conn.execute(EXPIRE, [now])?;
        self.all.retain(|known| known.until_us > now);
        let others = self.all.iter().filter(|known| known.name != silence.name).count();
        if others >= MAX_SILENCES {
            return Ok(false);
        }
        let full = self.scope.full(&silence.name);
        conn.execute(PUT, params![full, silence.until_us, silence.reason])?;
        // Only now, so that a database that refuses leaves the one before as it is.
        self.all.retain(|known| known.name != silence.name);
        self.all.push(silence);
        self.all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(true)
    }

    /// Ends one; false when none lasts at `now`.
    pub(super) fn remove(
        &mut self,
        conn: &Connection,
        name: &str,
        now: i64,
    ) -> rusqlite::Result<bool> {
        conn.execute(REMOVE, [self.scope.full(name)])?;
        let lasts = self.all.iter().any(|known| known.name == name && known.until_us > now);
        self.all.retain(|known| known.name != name);
        Ok(lasts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(TABLES).unwrap();
        conn
    }

    fn load(conn: &Connection) -> Silences {
        Silences::load(conn, Scope::of("checks")).unwrap()
    }

    fn silence(name: &str, until_us: i64) -> Silence {
        Silence { name: name.to_owned(), until_us, reason: String::new() }
    }

    #[test]
    fn a_silence_ends_by_itself() {
        let conn = database();
        let mut silences = load(&conn);
        for (name, until) in [("web", 100), (ALL, 50)] {
            assert!(silences.put(&conn, silence(name, until), 0).unwrap());
        }
        // After a restart as before it.
        for known in [&silences, &load(&conn)] {
            for (table, now, expected) in [
                ("web", 49, Some(100)),
                ("web", 99, Some(100)),
                ("web", 100, None),
                ("db", 49, Some(50)),
                ("db", 50, None),
            ] {
                assert_eq!(known.until(table, now), expected, "{table} at {now}");
            }
            assert_eq!(known.lasting(0).len(), 2);
            assert_eq!(known.lasting(50), [silence("web", 100)]);
            assert_eq!(known.lasting(100), []);
        }
        assert!(!silences.remove(&conn, ALL, 50).unwrap(), "it is over");
        assert!(silences.remove(&conn, "web", 50).unwrap());
        assert!(!silences.remove(&conn, "web", 50).unwrap(), "it was ended");
        assert!(silences.put(&conn, silence("web", 100), 50).unwrap());
        assert!(silences.put(&conn, silence("db", 300), 100).unwrap());
        assert_eq!(load(&conn).all, [silence("db", 300)], "what is over is not kept");
    }

    #[test]
    fn there_are_so_many_silences_and_no_more() {
        let conn = database();
        let mut silences = load(&conn);
        let mut put =
            |name: &str, now: i64| silences.put(&conn, silence(name, now + 10), now).unwrap();
        for number in 0..MAX_SILENCES {
            assert!(put(&number.to_string(), 0), "{number}");
        }
        assert!(!put("one more", 0));
        assert!(put("7", 0), "in place of another one of the same table");
        assert!(put("one more", 10), "once there is room");
    }
}
