//! `bare-tail`: the least that a durable tail costs; what the source `logfile` is measured against.
//!
//! A loop on one thread: a block of the file, its lines, and a synced transaction with a row for each. No JSON, no ids, no
//! place in the file, nothing that could know it again.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use rusqlite::{Connection, params};
use tokio::time::Instant;

use crate::bare_db;
use crate::tail_drain::figures;

/// Bytes that are read at once, and become one transaction.
const BLOCK_BYTES: usize = 1 << 20;

/// Stores the lines of a file in a database, a synced transaction a block.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The log file
    #[arg(long)]
    file: PathBuf,
    /// Database file
    #[arg(long)]
    db: PathBuf,
    /// Bytes that each row has besides its line, as an event has its keys
    #[arg(long, default_value_t = 0)]
    around: usize,
}

/// Reads to the end of the file and prints lines/s and MB/s.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut file = File::open(&args.file).with_context(|| args.file.display().to_string())?;
    let mut db = bare_db::open(&args.db).with_context(|| args.db.display().to_string())?;
    let mut block = vec![0; BLOCK_BYTES];
    let mut row = vec![b'x'; args.around];
    let (mut kept, mut lines, mut bytes) = (0, 0, 0);
    let start = Instant::now();
    loop {
        let read = file.read(&mut block[kept..])?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        let filled = kept + read;
        let whole = block[..filled].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        anyhow::ensure!(whole > 0, "a line is longer than {BLOCK_BYTES} bytes");
        lines += store(&mut db, &block[..whole], &mut row)?;
        block.copy_within(whole..filled, 0);
        kept = filled - whole;
    }
    figures(lines, bytes, start)
}

/// `row`: what each row begins with.
fn store(db: &mut Connection, block: &[u8], row: &mut Vec<u8>) -> rusqlite::Result<u64> {
    let transaction = db.transaction()?;
    let (mut count, around) = (0, row.len());
    {
        let mut insert =
            transaction.prepare_cached("INSERT INTO events (at, content) VALUES (?1, ?2)")?;
        for line in block.split_inclusive(|byte| *byte == b'\n') {
            row.truncate(around);
            row.extend_from_slice(&line[..line.len() - 1]);
            insert.execute(params![count, &row[..]])?;
            count += 1;
        }
    }
    transaction.commit()?;
    row.truncate(around);
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_stored_also_over_the_end_of_a_block() {
        let folder = tempfile::tempdir().unwrap();
        let (file, db) = (folder.path().join("app.log"), folder.path().join("bare.db"));
        let lines: String =
            (0..30_000).map(|n| format!("line {n} {}\n", "x".repeat(100))).collect();
        std::fs::write(&file, &lines).unwrap();
        run(&Args { file, db: db.clone(), around: 3 }).unwrap();
        let stored: String = Connection::open(db)
            .unwrap()
            .prepare("SELECT CAST(content AS TEXT) FROM events ORDER BY id")
            .unwrap()
            .query_map([], |row| row.get::<_, String>(0))
            .unwrap()
            .map(|row| row.unwrap().strip_prefix("xxx").unwrap().to_owned() + "\n")
            .collect();
        assert!(stored == lines);
    }
}
