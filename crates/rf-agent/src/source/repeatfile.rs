//! `repeatfile`: the lines of a file, again and again; for trying things out, and for load.
//!
//! Promise: each line goes on only after the one before it was stored. Where it was in the file is forgotten at a restart.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rf_core::config::{ByteSize, Node, Problems, schema_of};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use tokio::fs::File;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::defaults::default_max_line;
use super::hand_over::{HandOver, HandedOver};
use super::{Source, SourceContext, SourceError};
use crate::lines::{Line, LineReader};
use crate::pipeline::Output;

/// Pause before a file is looked at again that is empty or cannot be read.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// `params` of a `repeatfile` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RepeatfileSourceConfig {
    /// The file.
    pub(crate) file_path: PathBuf,
    /// Milliseconds from one line to the next; 0: as fast as the queue takes them.
    #[serde(default = "default_interval")]
    pub(crate) interval: u64,
    /// A longer line is cut here.
    #[serde(default = "default_max_line")]
    pub(crate) max_line_bytes: ByteSize,
}

fn default_interval() -> u64 {
    1000
}

/// JSON Schema of [`RepeatfileSourceConfig`].
pub(super) fn schema() -> Schema {
    schema_of::<RepeatfileSourceConfig>()
}

/// Checks the configuration and makes the source.
pub(super) fn build(
    context: &SourceContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Box<dyn Source>> {
    let config: RepeatfileSourceConfig = params.decode(problems)?;
    Some(Box::new(Repeatfile { id: context.id.to_owned(), config }))
}

struct Repeatfile {
    id: String,
    config: RepeatfileSourceConfig,
}

impl Source for Repeatfile {
    fn run(
        self: Box<Self>,
        out: Output,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            while !stop.is_cancelled() {
                let pause = match self.read_once(&out, &stop).await {
                    Ok(0) => LOOK_AGAIN,
                    Ok(_) => continue,
                    Err(error) => {
                        let path = self.config.file_path.display();
                        tracing::warn!(source = self.id, %path, %error, "the file cannot be read");
                        LOOK_AGAIN
                    }
                };
                wait(pause, &stop).await;
            }
            Ok(())
        })
    }
}

impl Repeatfile {
    /// The number of lines.
    async fn read_once(&self, out: &Output, stop: &CancellationToken) -> std::io::Result<usize> {
        let file = File::open(&self.config.file_path).await?;
        let mut reader = LineReader::new(file, self.config.max_line_bytes.as_usize());
        let interval = Duration::from_millis(self.config.interval);
        let hand_over = HandOver::new(&self.id, out, stop);
        let mut count = 0;
        while let Some(lines) = reader.next().await? {
            let together = if interval.is_zero() { lines.len() } else { 1 };
            for lines in lines.chunks(together) {
                let events = lines.iter().map(content).collect();
                hand_over.note_cut(lines);
                match hand_over.store(events).await {
                    HandedOver::Stored { .. } if !stop.is_cancelled() => {}
                    // The file still has what was not stored.
                    _ => return Ok(count),
                }
                count += lines.len();
                wait(interval, stop).await;
            }
        }
        Ok(count)
    }
}

async fn wait(time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = sleep(time) => {}
    }
}

/// The line as it is; events are text, so other bytes are replaced.
fn content(line: &Line) -> Bytes {
    match line.text() {
        std::borrow::Cow::Borrowed(_) => line.bytes.clone(),
        std::borrow::Cow::Owned(mended) => mended.into(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use serde_json::json;

    use super::*;
    use crate::source::contract::{Delivery, Origin, build_source, check_source_contract};

    struct Lines {
        file: tempfile::NamedTempFile,
    }

    impl Origin for Lines {
        fn source(&self) -> Box<dyn Source> {
            let params = json!({ "filePath": self.file.path(), "interval": 1 });
            build_source("repeatfile", &params)
        }

        fn write(&self, number: u64) -> BoxFuture<'_, ()> {
            writeln!(self.file.as_file(), "{number}").unwrap();
            Box::pin(std::future::ready(()))
        }

        fn number(&self, event: &[u8]) -> Option<u64> {
            std::str::from_utf8(event).unwrap().parse().ok()
        }

        fn delivery(&self) -> Delivery {
            Delivery::AtLeastOnce
        }
    }

    #[tokio::test]
    pub(crate) async fn the_contract_of_sources_holds() {
        check_source_contract(|| Lines { file: tempfile::NamedTempFile::new().unwrap() }).await;
    }
}
