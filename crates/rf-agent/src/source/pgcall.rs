//! `pgcall`: statements are run in a PostgreSQL database at an interval; one event a round.
//!
//! Promise: a round that was read is kept until the queues have it; while it waits no other is read, and the rounds that
//! did not take place are counted. A statement that fails becomes `success: false` in the event; the others run.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use rf_core::config::{ByteSize, Interval, Node, Problems, Secret, schema_of};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::defaults::{default_max_rows, root_path};
use super::hand_over::{HandOver, HandedOver};
use super::local_event::LocalEvent;
use super::postgres::connection::{Keys, Server, SslMode, params_with_connection};
use super::postgres::session::{Limits, Rows, Session, SessionError};
use super::{Source, SourceContext, SourceError};
use crate::pipeline::Output;
use crate::settings::{at, not_zero};

/// Ends a transaction, also where there is none: then a `ROLLBACK` alone would leave a warning in the server's log, at each
/// call.
const END_TRANSACTION: &str = "BEGIN; ROLLBACK";

params_with_connection! {
    /// `params` of a `pgcall` source.
    pub(crate) struct PgcallSourceConfig {
        /// Time from the start of one round to the start of the next.
        #[serde(default = "default_interval")]
        #[schemars(extend("x-zero-is-unset" = true))]
        pub(crate) interval_seconds: Interval,
        /// The statements of a round, in order.
        #[schemars(length(min = 1, max = 100))]
        pub(crate) calls: Vec<PgcallConfig>,
        /// The events' path.
        #[serde(default = "root_path")]
        #[schemars(extend("x-zero-is-unset" = true))]
        pub(crate) path: String,
        /// Rows of one call; further ones are left out and marked.
        #[serde(default = "default_max_rows")]
        #[schemars(range(min = 1))]
        pub(crate) max_rows: usize,
        /// The rows of one round as JSON; what is over it is left out and marked.
        #[serde(default = "default_max_bytes")]
        pub(crate) max_bytes: ByteSize,
    }
}

/// One statement of a round.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PgcallConfig {
    /// Its key in the event.
    pub(crate) name: String,
    /// The statement; one.
    pub(crate) sql: String,
}

fn default_interval() -> Interval {
    Interval::from_secs(60)
}

fn default_max_bytes() -> ByteSize {
    ByteSize::mib(1)
}

/// JSON Schema of [`PgcallSourceConfig`].
pub(super) fn schema() -> Schema {
    schema_of::<PgcallSourceConfig>()
}

/// Checks the configuration and makes the source.
pub(super) fn build(
    context: &SourceContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Box<dyn Source>> {
    let config: PgcallSourceConfig = params.decode(problems)?;
    not_zero(params, &[("intervalSeconds", config.interval_seconds)], problems);
    check_names(params, problems);
    let server = config.connection().server(params, problems)?;
    Some(Box::new(PgcallSource {
        id: context.id.to_owned(),
        server,
        interval: config.interval_seconds.into(),
        calls: config.calls,
        path: config.path,
        limits: Limits { rows: config.max_rows, bytes: config.max_bytes.as_usize() },
    }))
}

/// Two calls of one name would be one key in the event.
fn check_names(params: &Node<'_>, problems: &mut Problems) {
    let calls = params.get("calls").map(|calls| calls.items()).unwrap_or_default();
    crate::settings::check_ids(&calls, "name", problems);
    for call in &calls {
        if at(call, "sql").as_str().is_some_and(|sql| sql.trim().is_empty()) {
            problems.error(&at(call, "sql"), "expected a statement, found an empty text");
        }
    }
}

struct PgcallSource {
    id: String,
    server: Server,
    interval: Duration,
    calls: Vec<PgcallConfig>,
    path: String,
    limits: Limits,
}

impl Source for PgcallSource {
    fn run(
        self: Box<Self>,
        out: Output,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.rounds(&out, &stop) => {}
            }
            Ok(())
        })
    }
}

impl PgcallSource {
    /// Until the agent stops. A round in hand at that moment was promised to nobody: the next start makes a new one.
    async fn rounds(&self, out: &Output, stop: &CancellationToken) {
        let hand_over = HandOver::new(&self.id, out, stop);
        let mut session = None;
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            self.until(&mut ticks, &mut session).await;
            let begun = Instant::now();
            let body = self.round(&mut session).await;
            let event = LocalEvent::new(&self.path, body.as_str().into()).encode();
            if let HandedOver::Stopped(_) = hand_over.store(vec![event]).await {
                return;
            }
            let missed = begun.elapsed().as_nanos() / self.interval.as_nanos().max(1);
            if missed > 0 {
                tracing::warn!(
                    source = self.id,
                    rounds = missed,
                    "rounds were skipped because one took longer than the interval"
                );
            }
        }
    }

    /// Waits for the next round, and lets go of a session that ends meanwhile.
    async fn until(&self, ticks: &mut tokio::time::Interval, session: &mut Option<Session>) {
        let Some(kept) = session else {
            ticks.tick().await;
            return;
        };
        let lost = tokio::select! {
            _ = ticks.tick() => return,
            lost = kept.lost() => lost,
        };
        tracing::warn!(source = self.id, server = self.server.name(), error = %lost.for_log(), "the connection is lost; the next round makes a new one");
        *session = None;
        ticks.tick().await;
    }

    /// The body of one event.
    async fn round(&self, session: &mut Option<Session>) -> String {
        let mut away: Option<SessionError> = None;
        let mut left = self.limits.bytes;
        let mut body = String::from("{");
        for call in &self.calls {
            let result = match &away {
                // One failed attempt a round: the others would only wait for the same.
                Some(error) => Err(error.clone()),
                None => self.call(session, call, left, &mut away).await,
            };
            match &result {
                Ok(rows) => {
                    left = left.saturating_sub(rows.rows.iter().map(|row| row.json.len()).sum());
                    if rows.truncated {
                        tracing::warn!(
                            source = self.id,
                            call = call.name,
                            rows = rows.rows.len(),
                            "the result exceeds maxRows or maxBytes, the rest is left out"
                        );
                    }
                }
                Err(error) => {
                    tracing::warn!(source = self.id, call = call.name, server = self.server.name(), error = %error.for_log(), "call failed");
                }
            }
            if body.len() > 1 {
                body.push(',');
            }
            write_call(&mut body, &call.name, &result);
        }
        body.push('}');
        body
    }

    /// Runs one statement, on the kept connection or a new one.
    async fn call(
        &self,
        session: &mut Option<Session>,
        call: &PgcallConfig,
        bytes: usize,
        away: &mut Option<SessionError>,
    ) -> Result<Rows, SessionError> {
        let mut kept = match session.take() {
            Some(kept) => kept,
            None => self.server.connect().await.inspect_err(|error| *away = Some(error.clone()))?,
        };
        let limits = Limits { bytes, ..self.limits };
        let result = kept.query(&call.sql, limits, None).await;
        let usable = result.as_ref().map_or_else(|error| !error.is_lost(), |rows| !rows.truncated);
        // A call that has opened a transaction must not leave it open for the next one, or over the interval.
        if usable && kept.run(END_TRANSACTION).await.is_ok() {
            *session = Some(kept);
        }
        result
    }
}

fn write_call(body: &mut String, name: &str, result: &Result<Rows, SessionError>) {
    let now = Timestamp::now().as_second();
    body.push_str(&serde_json::Value::from(name).to_string());
    match result {
        Ok(rows) => {
            body.push_str(":{\"success\":true,\"data\":[");
            for (index, row) in rows.rows.iter().enumerate() {
                body.push_str(if index > 0 { "," } else { "" });
                body.push_str(&row.json);
            }
            body.push(']');
            if rows.truncated {
                body.push_str(",\"truncated\":true");
            }
        }
        Err(error) => {
            body.push_str(":{\"success\":false,\"error\":");
            body.push_str(&serde_json::Value::from(error.to_string()).to_string());
            body.push_str(",\"data\":[]");
        }
    }
    let time = Timestamp::from_second(now).unwrap_or_default().to_string();
    body.extend([",\"update_time\":\"", &time, "\",\"update_timestamp\":", &now.to_string(), "}"]);
}

#[cfg(test)]
mod tests {
    use rf_core::config::{Interval, Problems, parse};

    use super::{PgcallSourceConfig, build};
    use crate::settings::Port;
    use crate::source::SourceContext;

    #[test]
    fn a_port_is_a_number_or_a_text() {
        let port = Some(Port(6543));
        for (text, expected) in [("6543", port), ("'6543'", port), ("0", None), ("''", None)] {
            let params =
                format!("{{ calls: [{{ name: 'c', sql: 'SELECT 1' }}], user: 'u', port: {text} }}");
            let mut problems = Problems::new();
            let document = parse("proxy.json", &params, &|_| None, &mut problems).expect("JSON5");
            let root = document.root();
            let config = root.decode::<PgcallSourceConfig>(&mut problems).expect("no error");
            assert_eq!(config.port, expected, "{params}");
            assert_eq!(problems.to_string(), "", "{params}");
        }
    }

    #[test]
    fn what_the_originals_files_leave_empty_is_no_problem_and_takes_the_default() {
        for connection in [
            "connString: 'postgres://u@db/d', host: '', port: 0, user: null, password: ''",
            "user: 'u', host: '', port: 0, connString: ''",
            "user: 'u', port: ''",
        ] {
            let params = format!(
                "{{ calls: [{{ name: 'c', sql: 'SELECT 1' }}], intervalSeconds: 0, path: '', {connection} }}"
            );
            let mut problems = Problems::new();
            let document = parse("proxy.json", &params, &|_| None, &mut problems).expect("JSON5");
            let root = document.root();
            let context =
                SourceContext { id: "p", env_name: "", host_name: "h", hook_interval: None };
            assert!(build(&context, &root, &mut problems).is_some(), "{problems}");
            let config = root.decode::<PgcallSourceConfig>(&mut problems).expect("no error");
            assert_eq!(problems.to_string(), "", "{params}");
            let expected = (Interval::from_secs(60), "/");
            assert_eq!((config.interval_seconds, config.path.as_str()), expected);
        }
    }
}
