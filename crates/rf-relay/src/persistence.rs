//! The relay's memory of what it counted and saw, kept over restarts in one file.
//!
//! Promises: the file is whole or the one before (written beside, synced, renamed); it is bounded by the bounds of the
//! tables; a file that cannot be read, or written, costs statistics and nothing else, and is logged. Events have
//! nothing to do with it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::absences::Absences;
use crate::alerts::KeptAlerts;
use crate::nodes::KeptNode;
use crate::stats::Tables;

/// No bucket can have this name: a dot is at its start.
const FILE_NAME: &str = ".relay-status.json";

/// A file beyond this is none of ours.
const MAX_FILE_BYTES: u64 = 128 * 1024 * 1024;

/// The form of the file; another one is left alone and not read.
const FORM: u32 = 1;

/// All that is kept.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    form: u32,
    /// When the newest of it was noted, milliseconds since 1970. Until then the relay was there to hear.
    pub(crate) at_ms: u64,
    /// When it was not, before that.
    pub(crate) absences: Absences,
    pub(crate) stats: Tables,
    pub(crate) nodes: Vec<KeptNode>,
    pub(crate) alerts: KeptAlerts,
}

impl Kept {
    /// What is to be written; `at_ms` is not after any of it.
    pub(crate) fn new(
        at_ms: u64,
        absences: Absences,
        stats: Tables,
        nodes: Vec<KeptNode>,
        alerts: KeptAlerts,
    ) -> Self {
        Self { form: FORM, at_ms, absences, stats, nodes, alerts }
    }

    /// All absences, with the one that ends now.
    pub(crate) fn absences_until(&self, started_at_ms: u64) -> Absences {
        let mut absences = self.absences.clone();
        absences.add(self.at_ms..started_at_ms);
        absences
    }
}

/// Where it is kept.
#[derive(Debug, Clone)]
pub(crate) struct StatusFile {
    path: PathBuf,
}

impl StatusFile {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE_NAME) }
    }

    /// What was kept; nothing at the first start, or where it cannot be read. Blocks.
    pub(crate) fn load(&self) -> Kept {
        let read = self.read();
        read.unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %self.path.display(), %error, "statistics of earlier runs cannot be read, counting starts from zero");
            }
            Kept::default()
        })
    }

    fn read(&self) -> io::Result<Kept> {
        let file = File::open(&self.path)?;
        if file.metadata()?.len() > MAX_FILE_BYTES {
            return Err(io::Error::other("the file is too large to be ours"));
        }
        let kept: Kept = serde_json::from_reader(io::BufReader::new(file))?;
        if kept.form != FORM {
            return Err(io::Error::other(format!("it has form {}, not {FORM}", kept.form)));
        }
        Ok(kept)
    }

    /// Writes it. Blocks.
    pub(crate) fn save(&self, kept: &Kept) {
        if let Err(error) = self.write(kept) {
            tracing::warn!(path = %self.path.display(), %error, "statistics cannot be saved, they will be lost at the next stop");
        }
    }

    fn write(&self, kept: &Kept) -> io::Result<()> {
        let beside = self.path.with_extension("json.new");
        let written = (|| {
            let mut out = BufWriter::new(File::create(&beside)?);
            serde_json::to_writer(&mut out, kept)?;
            out.flush()?;
            out.get_ref().sync_all()?;
            std::fs::rename(&beside, &self.path)
        })();
        if written.is_err() {
            // A full disk needs the room more than half a file does.
            drop(std::fs::remove_file(&beside));
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::bucket::BucketName;
    use crate::stats::{Caller, Stats};
    use crate::store::Usage;

    fn kept() -> Kept {
        let stats = Stats::default();
        let bucket = BucketName::new("b").unwrap();
        let caller = Caller { env: "".into(), hostname: "h".into() };
        stats.received(&caller, &[bucket], 5, 1_700_000_000);
        let mut absences = Absences::default();
        absences.add(200..300);
        let tables = stats.to_tables(|_| Some(Usage::default()));
        Kept::new(1000, absences, tables, Vec::new(), Vec::new())
    }

    fn received(kept: Kept) -> u64 {
        Stats::new(kept.stats, Absences::default())
            .bucket("b", 1_700_000_000)
            .counts
            .rx_messages_since_start
    }

    #[test]
    fn what_is_kept_comes_back() {
        let folder = TempDir::new().unwrap();
        let status_file = StatusFile::new(folder.path());
        assert_eq!(received(status_file.load()), 0);
        status_file.save(&kept());
        assert_eq!(received(status_file.load()), 5);
        // Heard last at 100: the relay was there for 100, then for 700, and since its start at 1500 for 60.
        assert_eq!(status_file.load().absences_until(1500).silence_ms(100, 1560), 860);
    }

    #[test]
    fn a_broken_file_costs_statistics_only_and_half_a_file_is_not_read() {
        let folder = TempDir::new().unwrap();
        let status_file = StatusFile::new(folder.path());
        status_file.save(&kept());
        // A kill while writing leaves this beside.
        std::fs::write(folder.path().join(".relay-status.json.new"), "{\"form\":1,\"sta").unwrap();
        assert_eq!(received(status_file.load()), 5);
        for broken in ["", "{", "[]", "{\"form\":2}", "{}", "\0"] {
            std::fs::write(&status_file.path, broken).unwrap();
            assert_eq!(received(status_file.load()), 0, "{broken:?}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_failure() {
        let status_file = StatusFile::new(Path::new("/nowhere/at/all"));
        status_file.save(&kept());
        assert_eq!(received(status_file.load()), 0);
    }
}
