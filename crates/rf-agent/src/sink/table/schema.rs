//! Tables and columns as a database has them.

use rusqlite::{Connection, OptionalExtension};

use super::failure::WriteError;
use super::identifier::{Identifier, is_internal};

/// Tables and views that a database may have for us; more are not listed, and none is created past it.
pub(crate) const MAX_TABLES: usize = 1000;
/// Columns that a table may have; SQLite's own bound is 2000.
pub(crate) const MAX_COLUMNS: usize = 500;

const TABLES: &str =
    "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name LIMIT 10000";
const OWN_TABLES: &str =
    "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name LIMIT 10000";
const TABLE: &str = "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE LIMIT 1";
const INDEXED: &str =
    "SELECT tbl_name FROM sqlite_schema WHERE type = 'index' AND name = ?1 COLLATE NOCASE LIMIT 1";

/// What SQLite calls its own number of a row, where no column is called so.
const ROW_IDS: [&str; 3] = ["rowid", "_rowid_", "oid"];

/// Whether SQLite calls its own number of a row so: it adds no such column to a table.
pub(crate) fn is_row_id(column: &Identifier) -> bool {
    ROW_IDS.iter().any(|name| column.is(name))
}

/// What a column was declared as: how its values are bound and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `INTEGER`: a column whose first value was a whole number.
    Integer,
    /// `REAL`: a column whose first value was another number; every number of the original's.
    Real,
    /// `BOOLEAN`: stored as 0 and 1.
    Boolean,
    /// `TEXT`.
    Text,
    /// Anything else.
    Any,
}

impl Kind {
    /// The declared type in SQL.
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Integer => "INTEGER",
            Self::Real => "REAL",
            Self::Boolean => "BOOLEAN",
            Self::Text => "TEXT",
            Self::Any => "",
        }
    }

    fn declared(text: &str) -> Self {
        let text = text.to_ascii_uppercase();
        if text.contains("BOOL") {
            Self::Boolean
        } else if text.contains("INT") {
            Self::Integer
        } else if text.contains("CHAR") || text.contains("CLOB") || text.contains("TEXT") {
            Self::Text
        } else if ["REAL", "FLOA", "DOUB"].iter().any(|real| text.contains(real)) {
            Self::Real
        } else {
            Self::Any
        }
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: Identifier,
    /// What it holds.
    pub(crate) kind: Kind,
}

impl Column {
    /// A column of our own.
    pub(crate) fn new(name: &str, kind: Kind) -> Self {
        Self { name: Identifier::own(name), kind }
    }
}

/// A table or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// Its name, in the database's spelling.
    pub(crate) name: Identifier,
    /// Its columns in their order.
    pub(crate) columns: Vec<Column>,
    /// A view has no row ids.
    pub(crate) is_view: bool,
}

impl Table {
    /// The table of that name, unless it is an internal one.
    pub(crate) fn load(conn: &Connection, name: &str) -> rusqlite::Result<Option<Self>> {
        if is_internal(name) {
            return Ok(None);
        }
        let found: Option<(String, String)> = conn
            .prepare_cached(TABLE)?
            .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((spelled, kind)) = found else { return Ok(None) };
        let Some(name) = Identifier::existing(&spelled) else { return Ok(None) };
        let mut columns = Vec::new();
        // A statement and not the function: that would be hidden by a table of its name.
        conn.pragma(None, "table_xinfo", &spelled, |row| {
            let is_hidden = row.get::<_, i64>(6)? != 0;
            let named = Identifier::existing(&row.get::<_, String>(1)?);
            if let Some(name) = named.filter(|_| !is_hidden) {
                let kind = Kind::declared(&row.get::<_, String>(2)?);
                columns.push(Column { name, kind });
            }
            Ok(())
        })?;
        Ok(Some(Self { name, columns, is_view: kind == "view" }))
    }

    /// A name of SQLite's own number of a row that no column hides.
    pub(crate) fn row_id(&self) -> Option<&'static str> {
        ROW_IDS.into_iter().find(|name| self.column(name).is_none())
    }

    /// A column by its name in any case, with its place.
    pub(crate) fn column(&self, name: &str) -> Option<(usize, &Column)> {
        self.columns.iter().enumerate().find(|(_, column)| column.name.is(name))
    }
}

/// Names of the users' tables and views, at most [`MAX_TABLES`].
pub(crate) fn tables(conn: &Connection) -> rusqlite::Result<Vec<Identifier>> {
    names(conn, TABLES)
}

/// Names of the users' tables without the views, of which one may not work.
pub(crate) fn own_tables(conn: &Connection) -> rusqlite::Result<Vec<Identifier>> {
    names(conn, OWN_TABLES)
}

fn names(conn: &Connection, select: &str) -> rusqlite::Result<Vec<Identifier>> {
    let mut statement = conn.prepare_cached(select)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    let names: Vec<String> = names.collect::<Result<_, _>>()?;
    let names = names.iter().filter(|name| !is_internal(name));
    Ok(names.filter_map(|name| Identifier::existing(name)).take(MAX_TABLES).collect())
}

/// Whether a table may be made of a name that no table and no view has.
///
/// # Errors
/// [`WriteError::Refused`] for one too many, and for the name of an index: no table of an event is called as one of ours, but
/// those of the original, of earlier versions and of people can have any name.
pub(crate) fn check_new(conn: &Connection, name: &Identifier) -> Result<(), WriteError> {
    let name = name.as_str();
    if tables(conn)?.len() >= MAX_TABLES {
        return Err(WriteError::Refused(format!(
            "no room for table `{name}`: a database has at most {MAX_TABLES} tables"
        )));
    }
    let indexed: Option<String> =
        conn.prepare_cached(INDEXED)?.query_row([name], |row| row.get(0)).optional()?;
    match indexed {
        None => Ok(()),
        Some(table) => Err(WriteError::Refused(format!(
            "`{name}` cannot name a table: an index of table `{table}` has that name"
        ))),
    }
}

/// A number that changes when any connection changes the schema.
pub(crate) fn version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("PRAGMA schema_version", [], |row| row.get(0))
}
