//! Which columns have an index, as in the original's files: those that end in `idx`, `index` or `id`, contain `fk`, or are
//! `timestamp` or `status`. With a status the index on `timestamp` holds it, too: `time-analytics` reads that index alone.
//!
//! An index counts by what it is on, whatever its name: those of the original and of earlier versions are called otherwise.

use rusqlite::Connection;

use super::identifier::{Identifier, IndexName};
use super::row_table::TIMESTAMP;
use super::schema::Table;

const STATUS: &str = "status";
const IS_TAKEN: &str = "SELECT 1 FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE";

/// An index that is there.
struct Index {
    name: String,
    /// In their order; `None` for an expression.
    columns: Vec<Option<String>>,
}

impl Index {
    fn begins_with(&self, columns: &[&Identifier]) -> bool {
        let is = |(there, wanted): (&Option<String>, &&Identifier)| {
            there.as_ref().is_some_and(|there| wanted.is(there))
        };
        self.columns.len() >= columns.len() && self.columns.iter().zip(columns).all(is)
    }
}

/// Makes the indexes of a table of rows that are missing.
pub(crate) fn ensure(conn: &Connection, table: &Table) -> rusqlite::Result<()> {
    let there = indexes(conn, &table.name)?;
    let status = table.column(STATUS).map(|(_, column)| &column.name);
    for column in table.columns.iter().map(|column| &column.name) {
        if let Some(status) = status.filter(|_| column.as_str() == TIMESTAMP) {
            if create_missing(conn, &table.name, &there, &[column, status])? {
                drop_alone(conn, &table.name, &there, column)?;
            }
        } else if is_wanted(column.as_str()) {
            create_missing(conn, &table.name, &there, &[column])?;
        }
    }
    Ok(())
}

/// Makes the index on these columns of a table, if there is none.
pub(crate) fn ensure_on(
    conn: &Connection,
    table: &Identifier,
    columns: &[&Identifier],
) -> rusqlite::Result<()> {
    create_missing(conn, table, &indexes(conn, table)?, columns).map(drop)
}

fn indexes(conn: &Connection, table: &Identifier) -> rusqlite::Result<Vec<Index>> {
    let mut indexes = Vec::new();
    // Statements and not functions: those would be hidden by tables of their names.
    conn.pragma(None, "index_list", table.as_str(), |row| {
        indexes.push(Index { name: row.get(1)?, columns: Vec::new() });
        Ok(())
    })?;
    for Index { name, columns } in &mut indexes {
        conn.pragma(None, "index_info", name.as_str(), |row| {
            columns.push(row.get(2)?);
            Ok(())
        })?;
    }
    Ok(indexes)
}

/// Whether it was missing.
fn create_missing(
    conn: &Connection,
    table: &Identifier,
    there: &[Index],
    columns: &[&Identifier],
) -> rusqlite::Result<bool> {
    if there.iter().any(|index| index.begins_with(columns)) {
        return Ok(false);
    }
    let name = free_name(conn, table, columns)?;
    let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
    conn.execute(&format!("CREATE INDEX {name} ON {table} ({})", columns.join(", ")), [])?;
    Ok(true)
}

/// The first name that nothing has: an index keeps its name when a person renames its table or its columns.
fn free_name(
    conn: &Connection,
    table: &Identifier,
    columns: &[&Identifier],
) -> rusqlite::Result<IndexName> {
    let mut is_taken = conn.prepare_cached(IS_TAKEN)?;
    let mut copy = 0;
    loop {
        let name = IndexName::of(table, columns, copy);
        if !is_taken.exists([name.as_str()])? {
            return Ok(name);
        }
        copy += 1;
    }
}

/// Removes the index that holds this column and nothing else, if it is one of ours or of the original's.
fn drop_alone(
    conn: &Connection,
    table: &Identifier,
    there: &[Index],
    column: &Identifier,
) -> rusqlite::Result<()> {
    let is_alone = |index: &&Index| index.columns.len() == 1 && index.begins_with(&[column]);
    for name in [IndexName::of(table, &[column], 0), IndexName::former(table, column)] {
        if there.iter().filter(is_alone).any(|index| name.is(&index.name)) {
            conn.execute(&format!("DROP INDEX {name}"), [])?;
        }
    }
    Ok(())
}

fn is_wanted(column: &str) -> bool {
    ["idx", "index", "id"].iter().any(|end| column.ends_with(end))
        || column.contains("fk")
        || column == TIMESTAMP
        || column == STATUS
}
