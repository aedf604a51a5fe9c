//! Tables and columns as a database has them.

use rusqlite::{Connection, OptionalExtension};

use super::identifier::{Identifier, is_internal};

/// Tables and views that a database may have for us; more are not listed, and none is created past it.
pub(crate) const MAX_TABLES: usize = 1000;
/// Columns that a table may have; SQLite's own bound is 2000.
pub(crate) const MAX_COLUMNS: usize = 500;

const TABLES: &str =
    "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name LIMIT 10000";
const TABLE: &str = "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE LIMIT 1";
const COLUMNS: &str = "SELECT name, type FROM pragma_table_xinfo(?1) WHERE hidden = 0";

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
        Self { name: Identifier::existing(name).expect("our own names are valid"), kind }
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
        let mut statement = conn.prepare_cached(COLUMNS)?;
        let columns = statement.query_map([&spelled], |row| {
            let name = Identifier::existing(&row.get::<_, String>(0)?);
            Ok(name.zip(Some(Kind::declared(&row.get::<_, String>(1)?))))
        })?;
        let columns: Vec<Option<(Identifier, Kind)>> = columns.collect::<Result<_, _>>()?;
        let columns =
            columns.into_iter().flatten().map(|(name, kind)| Column { name, kind }).collect();
        Ok(Some(Self { name, columns, is_view: kind == "view" }))
    }

    /// A column by its name in any case, with its place.
    pub(crate) fn column(&self, name: &str) -> Option<(usize, &Column)> {
        self.columns.iter().enumerate().find(|(_, column)| column.name.is(name))
    }
}

/// Names of the users' tables and views, at most [`MAX_TABLES`].
pub(crate) fn tables(conn: &Connection) -> rusqlite::Result<Vec<Identifier>> {
    let mut statement = conn.prepare_cached(TABLES)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    let names: Vec<String> = names.collect::<Result<_, _>>()?;
    let names = names.iter().filter(|name| !is_internal(name));
    Ok(names.filter_map(|name| Identifier::existing(name)).take(MAX_TABLES).collect())
}

/// A number that changes when any connection changes the schema.
pub(crate) fn version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("PRAGMA schema_version", [], |row| row.get(0))
}
