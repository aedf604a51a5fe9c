//! Leases in the database: their ends as wall time, with their ttl.

use rusqlite::{Connection, params};

use super::{LeaseBook, Range};
use crate::clock::Clock;
use crate::ends::Ends;
use crate::sql;

/// The leases of a queue. Wall-clock ends become monotonic ones: a clock that was set back cannot make a lease last longer than
/// it was given for, and one that jumps while the program runs does not matter.
pub(crate) fn load(
    conn: &Connection,
    queue: i64,
    ends: &mut Ends,
    clock: &dyn Clock,
) -> rusqlite::Result<LeaseBook> {
    let (wall, mono) = (clock.wall_ms(), clock.mono_ms());
    let mut select = conn.prepare(
        "SELECT first, last, attempts, until_ms, ttl_ms, token FROM leases WHERE queue = ?1",
    )?;
    let ranges = select.query_map([queue], |r| {
        let ttl_ms: u64 = r.get(4)?;
        let until: Option<u64> = r.get(3)?;
        let token: u64 = r.get(5)?;
        let by_wall = |at: u64| mono + at.saturating_sub(wall).min(ttl_ms);
        let until = until.map(|at| {
            let end = ends.of((token, at)).unwrap_or_else(|| by_wall(at));
            // One of an earlier run may have to be read again in this one.
            ends.note((token, at), end, mono);
            end
        });
        Ok((r.get(0)?, Range { last: r.get(1)?, attempts: r.get(2)?, until, ttl_ms, token }))
    })?;
    Ok(LeaseBook::load(ranges.collect::<rusqlite::Result<Vec<_>>>()?))
}

/// Stores what has changed in the book of a queue since the last time.
pub(crate) fn save(
    conn: &Connection,
    queue: i64,
    book: &mut LeaseBook,
    ends: &mut Ends,
    clock: &dyn Clock,
) -> rusqlite::Result<()> {
    let (wall, mono) = (clock.wall_ms(), clock.mono_ms());
    for (first, range) in book.take_touched() {
        match range {
            Some(r) => {
                let until = r.until.map(|at| wall + at.saturating_sub(mono));
                if let (Some(at), Some(end)) = (until, r.until) {
                    ends.note((r.token, at), end, mono);
                }
                conn.prepare_cached(sql::PUT_LEASE)?
                    .execute(params![queue, first, r.last, r.attempts, until, r.ttl_ms, r.token])?;
            }
            None => {
                conn.prepare_cached(sql::DELETE_LEASE)?.execute(params![queue, first])?;
            }
        }
    }
    Ok(())
}
