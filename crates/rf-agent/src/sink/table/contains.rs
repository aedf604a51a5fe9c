//! What `COLUMN_contains` asks of each row: `rpf_contains(VALUE, TEXT)`.
//!
//! It answers as SQLite's LIKE does with a text between two `%`: ASCII letters are found in either case, and of NULL
//! nothing is known. Why not LIKE: it takes as much time as value and text multiplied, all of it within one step of SQLite's
//! machine, where no progress handler is asked.
//!
//! Promises: the time is that of value and text added; the end of the query is heeded before each row, and within a long
//! value, too.

use memchr::memmem::Finder;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{FromSqlError, ValueRef};
use rusqlite::{Connection, ffi};

use super::reader::End;

/// The function's name in SQL.
pub(super) const CONTAINS: &str = "rpf_contains";
/// As much of a value is looked through between two looks at the clock.
const PIECE_BYTES: usize = 1024 * 1024;

/// Makes the function known to a connection, for a query that has this end.
pub(super) fn register(conn: &Connection, end: End) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    conn.create_scalar_function(CONTAINS, 2, flags, move |context| answer(context, &end))
}

fn answer(context: &Context<'_>, end: &End) -> rusqlite::Result<Option<bool>> {
    let ValueRef::Text(value) = context.get_raw(0) else { return Ok(None) };
    // The text is the same for all rows, so it is prepared once.
    let text = context.get_or_create_aux(1, |text| -> Result<Finder<'static>, FromSqlError> {
        Ok(Finder::new(&text.as_bytes()?.to_ascii_lowercase()).into_owned())
    })?;
    let found = contains(value, &text, || end.is_reached());
    let interrupted =
        || rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_INTERRUPT), None);
    found.map(Some).ok_or_else(interrupted)
}

/// Whether the value holds the text, which is in lower case; `None` when the query must end first.
fn contains(value: &[u8], text: &Finder<'_>, is_over: impl Fn() -> bool) -> Option<bool> {
    // What lies across the end of a piece is found in it, and not in the next one.
    let overlap = text.needle().len().saturating_sub(1);
    let mut at = 0;
    loop {
        if is_over() {
            return None;
        }
        let end = value.len().min(at + PIECE_BYTES + overlap);
        let piece = value[at..end].to_ascii_lowercase();
        if text.find(&piece).is_some() {
            return Some(true);
        }
        if end == value.len() {
            return Some(false);
        }
        at += PIECE_BYTES;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn check(value: &[u8], text: &str, expected: bool) {
        let finder = Finder::new(text);
        assert_eq!(contains(value, &finder, || false), Some(expected), "{text}");
    }

    #[test]
    fn a_text_is_found_wherever_it_stands() {
        check(b"", "", true);
        check(b"abc", "", true);
        check(b"", "a", false);
        check("Grün und BLAU".as_bytes(), "blau", true);
        check("GRÜN".as_bytes(), "grün", false);
        check(b"a\0b", "\0b", true);
        for place in [0, PIECE_BYTES - 5, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES + 7] {
            let mut value = vec![b'x'; 3 * PIECE_BYTES];
            value[place..place + 5].copy_from_slice(b"FOUND");
            check(&value, "found", true);
            check(&value, "founds", false);
        }
        let whole = "y".repeat(2 * PIECE_BYTES);
        check(whole.as_bytes(), &whole, true);
        check(whole.as_bytes(), &format!("{whole}y"), false);
    }

    #[test]
    fn a_query_that_must_end_ends_within_a_value() {
        let looks = Cell::new(0);
        let is_over = || {
            looks.set(looks.get() + 1);
            looks.get() == 3
        };
        let value = vec![b'x'; 5 * PIECE_BYTES];
        assert_eq!(contains(&value, &Finder::new("y"), is_over), None);
        assert_eq!(looks.get(), 3);
    }
}
