//! Sinks may share a database. What an alert sink keeps of its tables stands there under the sink's name as well, so that
//! each tells and silences its own.

use rusqlite::{Connection, params};

/// Stands between the names of a sink and of a table, which never has it.
const SEPARATOR: char = '\u{1f}';

/// What stands in the database without a sink's name is of an earlier version of this program: notices that wait, too.
const ADOPT: [&str; 3] = [
    "UPDATE OR REPLACE _rpf_watches SET name = ?1 || name WHERE instr(name, ?2) = 0",
    "UPDATE OR REPLACE _rpf_silences SET name = ?1 || name WHERE instr(name, ?2) = 0",
    "UPDATE _rpf_outbox SET id = ?1 || id WHERE instr(id, ?2) = 0",
];

/// One sink's part.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// The sink's name and the separator.
    prefix: String,
}

impl Scope {
    pub(super) fn of(sink: &str) -> Self {
        Self { prefix: format!("{sink}{SEPARATOR}") }
    }

    /// Makes what belongs to no sink this one's.
    pub(super) fn adopt(&self, conn: &Connection) -> rusqlite::Result<()> {
        for sql in ADOPT {
            conn.execute(sql, params![self.prefix, SEPARATOR.to_string()])?;
        }
        Ok(())
    }

    /// What every name of this sink's begins with in the database.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name as it stands in the database.
    pub(super) fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The name that stands there so; `None` for one of another sink's.
    pub(super) fn own<'a>(&self, full: &'a str) -> Option<&'a str> {
        full.strip_prefix(&self.prefix).filter(|name| !name.contains(SEPARATOR))
    }
}
