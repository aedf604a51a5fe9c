//! A changed script takes over between two events, if it loads and its tests pass; else the old one goes on.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rf_script::testing::{run_file, test_file_of};
use rf_script::{ScriptOptions, Vm, read_script};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::config::Hook;
use super::handle::ScriptHandle;
use super::missing;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// As much of a failed test is logged.
const SHOWN_FAILURES: usize = 3;

/// What tells one version of a file from another without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

impl Seen {
    fn of(path: &Path) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        Some(Self { modified: file.modified().ok(), size: file.len(), inode: file.ino() })
    }
}

/// Looks at a script's file until it differs from what is running, and is not being written to.
pub(super) struct Watcher {
    path: PathBuf,
    running: Option<Seen>,
    before: Option<Seen>,
}

impl Watcher {
    pub(super) fn new(path: &Path) -> Self {
        let running = Seen::of(path);
        Self { path: path.to_owned(), before: running.clone(), running }
    }

    /// Whether the file has changed, and is the same as at the look before: an editor may be half through.
    pub(super) fn look(&mut self) -> bool {
        let now = Seen::of(&self.path);
        let settled = now == self.before;
        self.before.clone_from(&now);
        let changed = settled && now.is_some() && now != self.running;
        if changed {
            self.running = now;
        }
        changed
    }
}

/// Resolves when the script should be loaded again; `None` when the agent stops.
pub(super) async fn next_reload(
    watcher: &mut Watcher,
    asked: &mut watch::Receiver<u64>,
    stop: &CancellationToken,
) -> Option<()> {
    loop {
        let asked = tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(LOOK) => false,
            changed = asked.changed() => match changed {
                Ok(()) => true,
                // Nobody can ask any more; the file is still looked at.
                Err(_closed) => { tokio::time::sleep(LOOK).await; false }
            },
        };
        // A file's metadata: too quick to be worth another thread.
        if watcher.look() || asked {
            return Some(());
        }
    }
}

/// The script's new text, loaded, searched for the function that is called, and tested beside the old one.
///
/// # Errors
/// Why it may not take over.
pub(super) async fn tried(options: Arc<ScriptOptions>, hook: Hook) -> Result<Vec<u8>, String> {
    let trying = tokio::task::spawn_blocking(move || {
        let text = read_script(&options.path).map_err(|error| error.to_string())?;
        // A start refuses a script without the function, too: each event would become a dead letter.
        Vm::from_text(Arc::clone(&options), BTreeMap::new(), &text)
            .map_err(|error| error.to_string())
            .and_then(|vm| hook.check(&options.path, &vm))?;
        for warning in missing::warnings(&options.path, &text, Some(options.unsafe_scripts)) {
            tracing::warn!("{warning}");
        }
        tests_pass(&options.path)?;
        // The tests read the file themselves: what takes over must be what they were run on.
        let tested = read_script(&options.path).map_err(|error| error.to_string())?;
        if tested != text {
            return Err(
                "the file was changed while its tests ran; it is looked at again".to_owned()
            );
        }
        Ok(text)
    });
    trying.await.unwrap_or_else(|error| Err(error.to_string()))
}

fn tests_pass(script: &Path) -> Result<(), String> {
    let Some(file) = test_file_of(script) else { return Ok(()) };
    let report = run_file(&file).map_err(|error| error.to_string())?;
    if report.failures.is_empty() {
        return Ok(());
    }
    let failures = report.failures.iter().take(SHOWN_FAILURES);
    let names: Vec<String> =
        failures.map(|failure| format!("{:?} (line {})", failure.test, failure.line)).collect();
    Err(format!("{}: {} of its tests fail: {}", file.display(), report.failed(), names.join(", ")))
}

impl ScriptHandle {
    /// Reloads the script whenever its file changes or `asked` does, until `stop`.
    pub(crate) async fn reload(&self, mut asked: watch::Receiver<u64>, stop: CancellationToken) {
        let mut watcher = Watcher::new(&self.plan.options.path);
        while next_reload(&mut watcher, &mut asked, &stop).await.is_some() {
            let script = self.plan.options.path.display();
            let replaced = match tried(Arc::clone(&self.plan.options), Hook::Process).await {
                Ok(text) => self.replace(text).await,
                Err(reason) => Err(reason),
            };
            match replaced {
                Ok(()) => {
                    tracing::info!(source = self.source, %script, state = "up", "script reloaded");
                }
                // Never muted, as little as the line above: somebody waits for the answer to a change.
                Err(reason) => tracing::error!(
                    source = self.source,
                    reason,
                    state = "down",
                    "script not reloaded, its previous version stays in use"
                ),
            }
        }
    }
}
