//! What the benchmarks of the sinks with tables write: orders for `db`, points for `time_series`; no two alike, the same
//! in every run. Each is there as an event, as a proxy captures it, and as the values of the row that becomes of it.

use clap::ValueEnum;
use fastrand::Rng;
use rusqlite::types::Value;

use crate::sample::BATCH_EVENTS;

/// The same rows in every run, so that rounds can be compared.
const SEED: u64 = 23;
/// Where the timestamps begin; rows are a second apart, points an interval.
const FIRST_SECOND: i64 = 1_700_000_000;
/// Series of the points.
const SERIES: i64 = 100;
/// Seconds of an interval of the points.
const INTERVAL: i64 = 60;

/// A table with what goes into it.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// Orders, for a `db` sink.
    Rows,
    /// Points of a gauge, for a `time_series` sink; each is a row of its own.
    Points,
}

/// One row, and what event it comes from.
pub(crate) struct Sample {
    /// Content of the event.
    pub(crate) event: String,
    /// Values in the order of [`Kind::insert`].
    pub(crate) values: Vec<Value>,
}

impl Kind {
    /// The table's name.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Rows => "orders",
            Self::Points => "ts_gauge_load_60s",
        }
    }

    /// The table and its indexes, as the sink makes them.
    pub(crate) fn schema(self) -> &'static str {
        match self {
            Self::Rows => {
                "CREATE TABLE orders (id TEXT PRIMARY KEY, _rpf_id INTEGER, _rpf_last_updated_idx INTEGER, timestamp INTEGER, customer TEXT, status TEXT, total REAL, items INTEGER, paid BOOLEAN, note TEXT);
                 CREATE INDEX idx_orders__rpf_id ON orders (_rpf_id);
                 CREATE INDEX idx_orders__rpf_last_updated_idx ON orders (_rpf_last_updated_idx);
                 CREATE INDEX idx_orders_timestamp_status ON orders (timestamp, status);
                 CREATE INDEX idx_orders_status ON orders (status);"
            }
            Self::Points => {
                "CREATE TABLE ts_gauge_load_60s (timestamp INTEGER NOT NULL, serie_name TEXT NOT NULL, env_name TEXT NOT NULL, value REAL, metadata TEXT, _rpf_at_us INTEGER, PRIMARY KEY (timestamp, serie_name, env_name));
                 CREATE INDEX idx_ts_gauge_load_60s_serie ON ts_gauge_load_60s (serie_name, env_name, timestamp);"
            }
        }
    }

    /// The statement for one row.
    pub(crate) fn insert(self) -> &'static str {
        match self {
            Self::Rows => {
                "INSERT OR REPLACE INTO orders (id, _rpf_id, _rpf_last_updated_idx, timestamp, customer, status, total, items, paid, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
            }
            Self::Points => {
                "INSERT INTO ts_gauge_load_60s (timestamp, serie_name, env_name, value, metadata, _rpf_at_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (timestamp, serie_name, env_name) DO UPDATE SET value = excluded.value WHERE excluded._rpf_at_us >= _rpf_at_us"
            }
        }
    }

    /// Batch `number` of a run.
    pub(crate) fn batch(self, number: usize) -> Vec<Sample> {
        let mut rng = Rng::with_seed(SEED ^ number as u64);
        let first = i64::try_from(number * BATCH_EVENTS).unwrap_or(i64::MAX);
        let rows = i64::try_from(BATCH_EVENTS).unwrap_or(i64::MAX);
        (first..first + rows)
            .map(|at| match self {
                Self::Rows => order(&mut rng, at),
                Self::Points => point(&mut rng, at),
            })
            .collect()
    }
}

/// The event as a proxy writes it; its id grows, as UUIDv7 do.
fn event(rng: &mut Rng, at: i64, path: &str, body: &serde_json::Value) -> String {
    let millis = FIRST_SECOND * 1000 + at;
    let id = format!(
        "{:08x}-{:04x}-7{:03x}-9{:03x}-{:012x}",
        millis >> 16,
        millis & 0xffff,
        rng.u16(..0x1000),
        rng.u16(..0x1000),
        rng.u64(..1 << 48)
    );
    serde_json::json!({
        "ip": "203.0.113.7:40312",
        "method": "POST",
        "path": path,
        "params": {},
        "headers": { "Content-Type": ["application/json"], "User-Agent": ["shop/2.1"] },
        "body": body.to_string(),
        "eventId": id,
        "capturedAtUs": millis * 1000,
    })
    .to_string()
}

fn order(rng: &mut Rng, at: i64) -> Sample {
    let id = format!("{:016x}", rng.u64(..));
    let customer = format!("customer-{}", rng.u16(..));
    let status = ["new", "paid", "sent", "failed"][rng.usize(..4)];
    let total = f64::from(rng.u32(..1_000_000)) / 100.0;
    let (items, paid) = (rng.i64(1..20), rng.bool());
    let note: String = std::iter::repeat_with(|| rng.alphanumeric()).take(80).collect();
    let timestamp = FIRST_SECOND + at;
    let body = serde_json::json!({
        "id": id, "timestamp": timestamp, "customer": customer, "status": status,
        "total": total, "items": items, "paid": paid, "note": note,
    });
    let values = vec![
        Value::Text(id),
        Value::Integer(at + 1),
        Value::Integer(timestamp),
        Value::Integer(timestamp),
        Value::Text(customer),
        Value::Text(status.to_owned()),
        Value::Real(total),
        Value::Integer(items),
        Value::Integer(paid.into()),
        Value::Text(note),
    ];
    Sample { event: event(rng, at, "/rpf-db/orders", &body), values }
}

fn point(rng: &mut Rng, at: i64) -> Sample {
    let timestamp = (FIRST_SECOND + at / SERIES * INTERVAL).div_euclid(INTERVAL) * INTERVAL;
    let serie = format!("host-{:02}.cpu", at % SERIES);
    let value = f64::from(rng.u32(..10_000)) / 100.0;
    let body = serde_json::json!({
        "timestamp": timestamp, "serieName": serie, "envName": "prod", "hostName": "web-1", "value": value,
    });
    let values = vec![
        Value::Integer(timestamp),
        Value::Text(serie),
        Value::Text("prod".to_owned()),
        Value::Real(value),
        Value::Text(r#"{"hostName":"web-1"}"#.to_owned()),
        Value::Integer(timestamp * 1_000_000),
    ];
    Sample { event: event(rng, at, "/ts_gauge_load_60s", &body), values }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_fits_its_table_and_no_two_have_the_same_key() {
        for kind in [Kind::Rows, Kind::Points] {
            let db = rusqlite::Connection::open_in_memory().unwrap();
            db.execute_batch(kind.schema()).unwrap();
            for sample in (0..2).flat_map(|number| kind.batch(number)) {
                let values = rusqlite::params_from_iter(sample.values);
                db.prepare_cached(kind.insert()).unwrap().execute(values).unwrap();
                let event: serde_json::Value = serde_json::from_str(&sample.event).unwrap();
                assert_eq!(event["eventId"].as_str().map(str::len), Some(36));
            }
            let count = format!("SELECT count(*) FROM {}", kind.table());
            let rows: usize = db.query_row(&count, [], |row| row.get(0)).unwrap();
            assert_eq!(rows, 2 * BATCH_EVENTS);
        }
    }
}
