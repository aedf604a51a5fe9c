//! Connections to the database of a sink, each setting with its reason.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, OpenFlags};

use super::contains::CONTAINS;
use super::failure::OpenError;
use super::identifier::is_internal;

/// How long a statement waits for the lock of another program, or of another sink with the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Statements kept compiled: up to three for each table that is written.
const STATEMENTS: usize = 256;
/// Pages of cache of the writer: the inner pages of a dozen indexes, so that an insert reads nothing.
const WRITER_CACHE_KIB: i64 = 32 * 1024;
/// Pages of cache of a reader. A sort takes as much again, and goes on in a file.
const READER_CACHE_KIB: i64 = 4 * 1024;
/// Page size of a new database: with larger pages than the default fewer are touched by a batch.
const PAGE_BYTES: u32 = 8192;
/// Pages of the write-ahead log after which a commit copies it into the database: 32 MiB.
const WAL_PAGES: u32 = 4096;
/// What is left of the write-ahead log's file once a checkpoint had it all.
const WAL_KEPT_BYTES: i64 = 64 * 1024 * 1024;
/// Functions that our queries use, and those that a person may use in a view; every other one is refused, such as those that
/// make something large of nothing at once, or reach beyond the database.
#[rustfmt::skip]
const FUNCTIONS: [&str; 65] = [
    CONTAINS, "abs", "avg", "coalesce", "concat", "concat_ws", "count", "cume_dist",
    "current_date", "current_time", "current_timestamp", "date", "datetime", "dense_rank",
    "first_value", "glob", "group_concat", "hex", "ifnull", "iif", "instr", "json", "json_array",
    "json_array_length", "json_extract", "json_group_array", "json_group_object", "json_object",
    "json_type", "json_valid", "julianday", "lag", "last_value", "lead", "length", "like", "lower",
    "ltrim", "max", "min", "nth_value", "ntile", "nullif", "octet_length", "percent_rank", "rank",
    "replace", "round", "row_number", "rtrim", "sign", "strftime", "string_agg", "substr",
    "substring", "sum", "time", "timediff", "total", "trim", "typeof", "unixepoch", "upper", "->",
    "->>",
];

/// The connection of the one writer thread of a database. `max_bytes` bounds the database's file: past it a write fails as
/// on a full disk.
pub(crate) fn writer(path: &Path, max_bytes: Option<u64>) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // Both only take effect in an empty file, before journal_mode writes its first page.
    if conn.query_row("PRAGMA page_count", [], |row| row.get::<_, u64>(0))? == 0 {
        conn.pragma_update(None, "page_size", PAGE_BYTES)?;
        // Retention gives room back to the disk in small steps, where VACUUM would rewrite the whole file.
        conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    // Queries go on beside the writer, and a commit is one sequential write.
    let _mode: String = conn.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
    // The queue forgets a batch once its write was Ok, so the write must survive a loss of power.
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
    conn.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES)?;
    conn.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    no_loose_quotes(&conn)?;
    if let Some(bytes) = max_bytes {
        let page: u64 = conn.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let pages = (bytes / page).clamp(1, u64::from(u32::MAX) - 1);
        let _limit: u64 =
            conn.query_row(&format!("PRAGMA max_page_count={pages}"), [], |row| row.get(0))?;
    }
    Ok(conn)
}

/// Opens or creates the database at `path` with the sinks' own `tables`.
///
/// # Errors
/// What stands in the way, naming the file.
pub(crate) fn open(
    path: &Path,
    max_bytes: Option<u64>,
    tables: &[&str],
) -> Result<Connection, OpenError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| OpenError::of_io(path, &error))?;
    }
    let opened = writer(path, max_bytes).and_then(|conn| {
        conn.execute_batch(&tables.concat())?;
        Ok(conn)
    });
    opened.map_err(|error| OpenError::of_database(path, &error))
}

/// A connection for queries: it cannot write, and an authorizer lets it read the users' tables and nothing else.
pub(crate) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.pragma_update(None, "query_only", true)?;
    conn.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    // Whoever asks decides what is sorted: all of a table, which may be more than there is memory. What does not fit into the
    // cache is in a file without a name, which is gone with the query.
    conn.pragma_update(None, "temp_store", "FILE")?;
    no_loose_quotes(&conn)?;
    conn.authorizer(Some(|context: AuthContext<'_>| may(&context)))?;
    Ok(conn)
}

/// A quoted name of no column is an error, and not a text.
fn no_loose_quotes(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false).map(drop)
}

fn may(context: &AuthContext<'_>) -> Authorization {
    let allowed = match context.action {
        AuthAction::Select => true,
        AuthAction::Read { table_name, .. } => {
            matches!(table_name, "sqlite_master" | "sqlite_schema") || !is_internal(table_name)
        }
        AuthAction::Function { function_name } => FUNCTIONS.contains(&function_name),
        AuthAction::Pragma { pragma_name, .. } => pragma_name == "table_xinfo",
        _ => false,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_reads_the_users_tables_and_does_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite3");
        let conn = writer(&path, None).unwrap();
        conn.execute_batch("CREATE TABLE t (a); CREATE TABLE _rpf_events (a); INSERT INTO t VALUES (1); CREATE VIEW v AS SELECT a FROM t;")
            .unwrap();
        let reader = reader(&path).unwrap();
        assert!(reader.is_readonly("main").unwrap(), "whatever the authorizer says");
        for allowed in [
            "SELECT a FROM t WHERE a = 1 ORDER BY a LIMIT 3",
            "SELECT a FROM v",
            "SELECT name FROM sqlite_schema",
            "PRAGMA table_xinfo('t')",
            "SELECT count(*), max(a) FROM t WHERE a LIKE 'x%' ESCAPE '\\'",
            "SELECT sum(a), avg(a), upper(a), datetime(a, 'unixepoch'), a ->> '$.b' FROM t",
            "SELECT a, row_number() OVER (ORDER BY a), strftime('%Y', a) FROM t WHERE a GLOB 'x*'",
        ] {
            assert!(reader.prepare(allowed).is_ok(), "{allowed}");
        }
        for refused in [
            "SELECT a FROM _rpf_events",
            "DELETE FROM t",
            "UPDATE t SET a = 2",
            "INSERT INTO t VALUES (2)",
            "DROP TABLE t",
            "ATTACH 'other.sqlite3' AS other",
            "PRAGMA journal_mode=DELETE",
            "PRAGMA query_only=0",
            "CREATE TEMP TABLE x (a)",
            "SELECT load_extension('x')",
            "SELECT randomblob(1000000000)",
            "SELECT zeroblob(1000000000) FROM t",
            "SELECT printf('%.*c', 1000000000, 'x') FROM t",
            "SELECT sqlite_version()",
            "BEGIN IMMEDIATE",
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT x FROM n",
        ] {
            assert!(reader.prepare(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn every_function_that_is_allowed_is_there() {
        let conn = Connection::open_in_memory().unwrap();
        let mut known = conn.prepare("SELECT 1 FROM pragma_function_list WHERE name = ?1").unwrap();
        for name in FUNCTIONS.into_iter().filter(|name| *name != CONTAINS) {
            assert!(known.exists([name]).unwrap(), "{name}");
        }
    }

    /// A sort is over when its first row comes; what has no room in memory is in a file without a name by then.
    #[test]
    fn what_is_sorted_is_not_all_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite3");
        let conn = writer(&path, None).unwrap();
        conn.execute_batch(
            "CREATE TABLE t (a);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
             INSERT INTO t SELECT i || hex(zeroblob(2000)) FROM n;",
        )
        .unwrap();
        for sql in ["SELECT DISTINCT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a LIMIT 3500"]
        {
            let reader = reader(&path).unwrap();
            let mut sorted = reader.prepare(sql).unwrap();
            let mut rows = sorted.query([]).unwrap();
            assert!(rows.next().unwrap().is_some());
            let is_sort = |file: std::io::Result<std::fs::DirEntry>| {
                let target = std::fs::read_link(file.unwrap().path());
                target.is_ok_and(|path| path.to_string_lossy().ends_with(" (deleted)"))
            };
            assert!(std::fs::read_dir("/proc/self/fd").unwrap().any(is_sort), "{sql}");
        }
    }

    #[test]
    fn a_bound_database_fails_as_a_full_disk_does() {
        let folder = tempfile::tempdir().unwrap();
        let conn = writer(&folder.path().join("x.sqlite3"), Some(256 * 1024)).unwrap();
        conn.execute_batch("CREATE TABLE t (a)").unwrap();
        let mut insert = conn.prepare("INSERT INTO t VALUES (zeroblob(60000))").unwrap();
        let failed = (0..10).find_map(|_| insert.execute([]).err()).expect("full in the end");
        assert_eq!(failed.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
    }
}
