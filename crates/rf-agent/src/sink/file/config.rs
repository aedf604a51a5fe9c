//! What a player's file says of a `file` sink.

use std::path::Path;

use jiff::Timestamp;
use rf_core::config::{ByteSize, Interval};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::finished::Compress;
use super::format::FileFormat;
use super::writer::Fsync;
use crate::settings::plain;
use crate::sink::template::Template;

/// Most bytes of a name in a path. File systems take 255, of which a finished file needs some for its time, its number and
/// `.part`.
const MAX_NAME_BYTES: usize = 220;
/// Stands for what an event says: no path has it.
const ANY: &str = "\0";
/// What stands behind the name of a finished file, with digits for each 0.
const STAMP: &[u8] = b"-00000000T000000Z";
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

/// The file of the sink, as a template; relative paths begin in `data_dir`.
pub(super) fn path_of(text: &str, data_dir: &Path) -> Result<Template, String> {
    if text.is_empty() || text.ends_with('/') || text.contains('\0') {
        return Err("expected the path of a file, such as events/%Y-%m-%d.ndjson".to_owned());
    }
    let template = Template::with_times(text)?;
    template.fixed().map_or(Ok(()), check_names)?;
    let shown = template.render(&Value::Null, Timestamp::UNIX_EPOCH, |_value| ANY.to_owned());
    if let Some((fixed, _said)) = shown.split_once(ANY) {
        let folder = fixed.rsplit_once('/').map_or("", |(folder, _name)| folder);
        // Without its slash, the root is no folder.
        let folder = if folder.is_empty() && fixed.starts_with('/') { "/" } else { folder };
        if plain(&data_dir.join(folder)) == plain(data_dir) {
            return Err("an event could name any file in dataDir, such as the queue: put a folder before the field, as in events/{header.Host}".to_owned());
        }
    }
    Ok(template)
}

/// The path with a `_` behind whatever looks like the time in a finished file's name: whoever sends events may send the name of
/// one, and what is written there would go when that file is compressed or removed.
pub(super) fn beside_finished(path: String) -> String {
    let is_stamp = |text: &[u8]| {
        let shape = text.iter().map(|byte| if byte.is_ascii_digit() { b'0' } else { *byte });
        shape.eq(STAMP.iter().copied())
    };
    let is_end = |behind: Option<&u8>| matches!(behind, None | Some(b'.' | b'-' | b'/'));
    let mut kept = path;
    let mut at = 0;
    while let Some(text) = kept.as_bytes().get(at..at + STAMP.len()) {
        let end = at + STAMP.len();
        if is_stamp(text) && is_end(kept.as_bytes().get(end)) {
            kept.insert(end, '_');
        }
        at += 1;
    }
    kept
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_event_names_a_file_of_the_player_s() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path();
        let data = data_dir.display();
        for path in [
            "{header.A}",
            "{header.A}.ndjson",
            "a-%Y-{param.A}",
            "{method}/a.ndjson",
            "./{header.A}",
            ".//./{header.A}",
            "x/../{header.A}",
            &format!("{data}/{{ip}}"),
            &format!("{data}/x/../{{ip}}-x/{{body.a}}"),
        ] {
            let refused = path_of(path, data_dir).unwrap_err();
            assert!(refused.contains("put a folder before the field"), "{path}: {refused}");
        }
        for path in ["x/{header.A}", "/x/{header.A}", "/{header.A}", "%Y/{header.A}", "%Y", "a"] {
            assert!(path_of(path, data_dir).is_ok(), "{path}");
        }
        assert!(path_of("{ip}", Path::new(".")).is_err(), "as where the file says nothing");
    }

    #[test]
    fn no_event_names_a_finished_file() {
        let stamp = "-20261129T024400Z";
        for (path, expected) in [
            (format!("in/a{stamp}.ndjson"), format!("in/a{stamp}_.ndjson")),
            (format!("in/a{stamp}"), format!("in/a{stamp}_")),
            (format!("in/a{stamp}-2.ndjson.zst"), format!("in/a{stamp}_-2.ndjson.zst")),
            (format!("a{stamp}{stamp}.gz"), format!("a{stamp}_{stamp}_.gz")),
            (format!("a{stamp}/b.ndjson"), format!("a{stamp}_/b.ndjson")),
        ] {
            assert_eq!(beside_finished(path), expected);
        }
        for path in ["in/a.ndjson", "a-20261129T0244Z.x", "a-20261129T024400Z1.x", "Ä-2026", ""] {
            assert_eq!(beside_finished(path.to_owned()), path);
        }
    }
}
