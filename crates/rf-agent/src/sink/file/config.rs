//! What a player's file says of a `file` sink.

use rf_core::config::{ByteSize, Interval};
use schemars::JsonSchema;
use serde::Deserialize;

use super::finished::Compress;
use super::format::FileFormat;
use super::writer::Fsync;
use crate::sink::template::Template;

/// Most bytes of a name in a path. File systems take 255, of which a finished file needs some for its time, its number and
/// `.part`.
const MAX_NAME_BYTES: usize = 220;
/// As much of a longer one is shown, in characters.
const SHOWN_CHARS: usize = 40;

/// `params` of a `file` sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FileSinkConfig {
    /// The file, with times (`%Y-%m-%d`) and fields (`{header.Host}`); relative to `dataDir`.
    pub(crate) path: String,
    /// How an event stands in it.
    #[serde(default)]
    pub(crate) format: FileFormat,
    /// A file that would grow above this is finished, and a new one begun.
    #[serde(default = "default_rotate_bytes")]
    pub(crate) rotate_bytes: ByteSize,
    /// A file that was begun longer ago is finished with the next write; none: never.
    #[serde(default)]
    pub(crate) rotate_after: Option<Interval>,
    /// What becomes of finished files.
    #[serde(default)]
    pub(crate) compress: Compress,
    /// Bytes of all files of this sink: the oldest finished ones are removed; none: never.
    #[serde(default)]
    pub(crate) max_total_bytes: Option<ByteSize>,
    /// When files are synced to the disk.
    #[serde(default)]
    pub(crate) fsync: Fsync,
}

fn default_rotate_bytes() -> ByteSize {
    ByteSize::mib(256)
}

/// The file of the sink, as a template.
pub(super) fn path_of(text: &str) -> Result<Template, String> {
    if text.is_empty() || text.ends_with('/') || text.contains('\0') {
        return Err("expected the path of a file, such as events/%Y-%m-%d.ndjson".to_owned());
    }
    let template = Template::with_times(text)?;
    template.fixed().map_or(Ok(()), check_names)?;
    Ok(template)
}

/// Whether every name in a path is one that its file can have, also when it is finished.
///
/// # Errors
/// The beginning of the name that is too long, in words.
pub(super) fn check_names(path: &str) -> Result<(), String> {
    match path.split('/').find(|name| name.len() > MAX_NAME_BYTES) {
        None => Ok(()),
        Some(long) => {
            let shown: String = long.chars().take(SHOWN_CHARS).collect();
            Err(format!("a name in the path has more than {MAX_NAME_BYTES} bytes: `{shown}…`"))
        }
    }
}
