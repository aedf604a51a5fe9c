//! Which columns have an index, as in the original's files: those that end in `idx`, `index` or `id`, contain `fk`, or are
//! `timestamp` or `status`. With a status the index on `timestamp` holds it, too: `time-analytics` reads that index alone.

use rusqlite::Connection;

use super::identifier::Identifier;
use super::row_table::TIMESTAMP;
use super::schema::Table;

const STATUS: &str = "status";
const INDEXED: &str = "SELECT (SELECT name FROM pragma_index_info(list.name) WHERE seqno = 0), (SELECT name FROM pragma_index_info(list.name) WHERE seqno = 1) FROM pragma_index_list(?1) AS list";

/// Makes the indexes that are missing; one of another name on the same column counts.
pub(crate) fn ensure(conn: &Connection, table: &Table) -> rusqlite::Result<()> {
    let mut statement = conn.prepare_cached(INDEXED)?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok((row.get::<_, Option<String>>(0)?, row.get::<_, Option<String>>(1)?))
    };
    let there: Vec<(Option<String>, Option<String>)> =
        statement.query_map([table.name.as_str()], read)?.collect::<Result<_, _>>()?;
    drop(statement);
    let is = |name: &Option<String>, wanted: &str| {
        name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(wanted))
    };
    let has_status = table.column(STATUS).is_some();
    for column in table.columns.iter().map(|column| &column.name) {
        let name = column.as_str();
        if !is_wanted(name) {
            continue;
        }
        if name == TIMESTAMP && has_status {
            if !there.iter().any(|(first, second)| is(first, TIMESTAMP) && is(second, STATUS)) {
                let both = Identifier::made(&["idx", table.name.as_str(), TIMESTAMP, STATUS]);
                create(conn, &both, table, &format!("{TIMESTAMP}, {STATUS}"))?;
                let alone = Identifier::made(&["idx", table.name.as_str(), TIMESTAMP]);
                conn.execute(&format!("DROP INDEX IF EXISTS {alone}"), [])?;
            }
        } else if !there.iter().any(|(first, _)| is(first, name)) {
            let index = Identifier::made(&["idx", table.name.as_str(), name]);
            create(conn, &index, table, &column.to_string())?;
        }
    }
    Ok(())
}

fn create(
    conn: &Connection,
    index: &Identifier,
    table: &Table,
    columns: &str,
) -> rusqlite::Result<()> {
    let sql = format!("CREATE INDEX IF NOT EXISTS {index} ON {} ({columns})", table.name);
    conn.execute(&sql, []).map(drop)
}

fn is_wanted(column: &str) -> bool {
    ["idx", "index", "id"].iter().any(|end| column.ends_with(end))
        || column.contains("fk")
        || column == TIMESTAMP
        || column == STATUS
}
