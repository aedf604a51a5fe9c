//! `exec` sink: a program of the user's own takes the events.
//!
//! It is started with the agent and again when it ends. Each event is a line on its standard input, JSON with an `id`; the
//! program answers with a line on its standard output: `ok ID`, `retry ID [reason]` or `reject ID [reason]`. An event whose
//! answer does not come, because the program ended or took too long, is handed over again: at least once. A program that
//! answers nothing at all for as long as one answer may take is ended and started again.

mod pending;
mod session;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rf_core::config::{Interval, Node, Problems, Secret, schema_of};
use rf_queue::StoredEvent;
use rustix::fs::{Access, access};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::session::{Job, Session, no_answer_within};
use super::{Shape, Sink, SinkBatch, SinkContext, SinkError, singles};
use crate::child::{ChildCommand, CommandLine};
use crate::settings::not_zero;

/// Tells a program that is a sink of its own type what its `params` are.
const PARAMS_VARIABLE: &str = "RPF_SINK_PARAMS";
/// Tells it the name of the sink.
const NAME_VARIABLE: &str = "RPF_SINK_NAME";
/// An event's time is up so much later than that of a program that answers nothing: only the program's session knows which
/// of its events that counts for.
const BEHIND_SESSION: Duration = Duration::from_secs(1);

/// `params` of an `exec` sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExecSinkConfig {
    /// Program and arguments as a list, or with `shell` a line for the shell.
    pub(crate) command: CommandLine,
    /// `command` is a line for `/bin/sh`.
    #[serde(default)]
    pub(crate) shell: bool,
    /// Folder that it starts in; none: the working directory.
    #[serde(default)]
    pub(crate) working_dir: Option<PathBuf>,
    /// Variables besides those of the player.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, Secret>,
    /// Events that may wait for their answers at a time. 1 keeps the order of the events.
    #[serde(default = "singles::one")]
    #[schemars(range(min = 1, max = 1024))]
    pub(crate) concurrency: usize,
    /// How long one answer may take.
    #[serde(default = "singles::default_timeout")]
    pub(crate) timeout: Interval,
    /// After so many tries an event becomes a dead letter; 0: never.
    #[serde(default = "singles::default_max_attempts")]
    pub(crate) max_attempts: u32,
    /// An event that fails and was queued longer ago than this becomes a dead letter; 0: never.
    #[serde(default = "singles::default_max_age")]
    pub(crate) max_age: Interval,
}

/// JSON Schema of [`ExecSinkConfig`].
pub(super) fn schema() -> Schema {
    schema_of::<ExecSinkConfig>()
}

/// Checks the configuration and makes the sink.
pub(super) fn build(
    context: &SinkContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn Sink>> {
    let config: ExecSinkConfig = params.decode(problems)?;
    not_zero(params, &[("timeout", config.timeout)], problems);
    let child = child(&config).checked(config.shell, params, problems)?;
    Some(Arc::new(sink(context, child, &config)))
}

/// The program for a type of sink that is none of ours: `./TYPE_sink`, in the working directory.
///
/// # Errors
/// Where it was looked for.
pub(crate) fn of_type(
    kind: &str,
    context: &SinkContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Result<Option<Arc<dyn Sink>>, String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let program = format!("./{kind}_sink");
    if kind.is_empty() || !kind.chars().all(is_name) {
        return Err("and it is not the name of a program".to_owned());
    }
    if !Path::new(&program).is_file() || access(&program, Access::EXEC_OK).is_err() {
        return Err(format!("and there is no program {program} in the working directory"));
    }
    let Some(params) = params.decode::<serde_json::Value>(problems) else { return Ok(None) };
    let env = [(PARAMS_VARIABLE, params.to_string()), (NAME_VARIABLE, context.name.to_owned())];
    let config = ExecSinkConfig {
        command: CommandLine::program(program),
        shell: false,
        working_dir: None,
        env: env.map(|(name, value)| (name.to_owned(), Secret::new(value))).into(),
        concurrency: singles::one(),
        timeout: singles::default_timeout(),
        max_attempts: singles::default_max_attempts(),
        max_age: singles::default_max_age(),
    };
    Ok(Some(Arc::new(sink(context, child(&config), &config))))
}

fn child(config: &ExecSinkConfig) -> ChildCommand {
    let ExecSinkConfig { command, working_dir, env, .. } = config.clone();
    ChildCommand { command, working_dir, env }
}

fn sink(context: &SinkContext<'_>, child: ChildCommand, config: &ExecSinkConfig) -> Exec {
    // As many as may be under way, so that none waits for a place.
    let (jobs, waiting) = mpsc::channel(config.concurrency);
    Exec {
        name: context.name.to_owned(),
        child,
        timeout: config.timeout.into(),
        shape: singles::shape(config.concurrency, config.max_attempts, config.max_age),
        jobs,
        waiting: Mutex::new(waiting),
    }
}

struct Exec {
    name: String,
    child: ChildCommand,
    timeout: Duration,
    shape: Shape,
    jobs: mpsc::Sender<Job>,
    /// Taken by [`Sink::run`], which is the only one to lock it.
    waiting: Mutex<mpsc::Receiver<Job>>,
}

impl Sink for Exec {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            for event in batch.events.iter() {
                self.hand_over(event).await?;
            }
            Ok(())
        })
    }

    fn run(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut waiting = self.waiting.lock().await;
            let (name, child) = (&self.name, &self.child);
            let session = Session { name, child, stop: &stop, timeout: self.timeout };
            session.go_on(&mut waiting).await;
        })
    }
}

impl Exec {
    async fn hand_over(&self, event: &StoredEvent) -> Result<(), SinkError> {
        let (answer, answered) = oneshot::channel();
        let job = Job { id: event.id, line: line(event), answer };
        let exchange = async {
            // The program is gone for good only when the agent stops.
            let gone = || SinkError::Away("the program is not running".to_owned());
            self.jobs.send(job).await.map_err(|_closed| gone())?;
            answered.await.unwrap_or_else(|_dropped| Err(gone()))
        };
        match tokio::time::timeout(self.timeout + BEHIND_SESSION, exchange).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => {
                Err(SinkError::Retry { reason: no_answer_within(self.timeout), after: None })
            }
        }
    }
}

/// The event as the program reads it: `{"id":"17","event":{...}}`, or `"content"` with the text of what is no JSON.
fn line(event: &StoredEvent) -> Bytes {
    let id = event.id.to_string();
    let mut line = match serde_json::from_slice::<&RawValue>(&event.content) {
        // Line breaks between JSON's words are white space, and within its texts there are none.
        Ok(raw) => {
            format!("{{\"id\":\"{id}\",\"event\":{}}}", raw.get().replace(['\n', '\r'], " "))
        }
        Err(_no_json) => {
            json!({ "id": id, "content": String::from_utf8_lossy(&event.content) }).to_string()
        }
    };
    line.push('\n');
    line.into()
}
