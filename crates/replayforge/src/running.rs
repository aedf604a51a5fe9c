//! Runtime, signals and exit codes.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::logging::LevelSwitch;

/// Threads for blocking work (opening stores, printing): a few, since queues have their own.
const MAX_BLOCKING_THREADS: usize = 16;
/// They stay once they were needed, as the first is at each start: Tokio panics where there is none and the system gives no
/// new one, as while a limit of threads is reached.
const BLOCKING_THREADS_STAY: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Files are for their owner alone (queues hold requests, with what is secret in them), and connections may be as many as
/// the system allows: the soft limit of 1024 is for programs that use `select`.
pub fn prepare_process() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Ok,
    /// 1: something failed while running.
    Failed,
    /// 78: the configuration is wrong (`EX_CONFIG` of sysexits).
    Config,
    /// As the child that was guarded.
    Child(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Config => 78,
            Exit::Child(code) => code,
        })
    }
}

/// What signals ask of a role.
#[derive(Debug, Clone)]
pub struct Control {
    /// SIGTERM, SIGINT.
    pub stop: CancellationToken,
    /// Changes at each SIGHUP.
    pub reload: watch::Receiver<u64>,
}

/// Does what ends by itself, such as asking a program. A signal ends it as it ends any program: there is nothing to be tidied
/// up, and nobody wants to ask twice.
///
/// # Errors
/// Whatever the work ends with, or that there is no runtime.
pub fn run_once(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    runtime()?.block_on(work)
}

/// Runs `role` until it ends by itself or a signal asks it to: SIGTERM or SIGINT stop it, the second one leaves at once.
/// SIGHUP asks it to read its scripts again.
///
/// # Errors
/// Whatever the role ends with, or that there is no runtime.
pub fn run_role<F, R>(role: F) -> anyhow::Result<()>
where
    F: FnOnce(Control) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    run_with(None, role)
}

/// The same for a role that runs for long: SIGUSR1 asks for one level more of its log, SIGUSR2 for the configured one.
///
/// # Errors
/// As [`run_role`].
pub fn run_logging_role<F, R>(level: LevelSwitch, role: F) -> anyhow::Result<()>
where
    F: FnOnce(Control) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    run_with(Some(level), role)
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_THREADS_STAY)
        .enable_all()
        .build()
}

fn run_with<F, R>(level: Option<LevelSwitch>, role: F) -> anyhow::Result<()>
where
    F: FnOnce(Control) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    runtime()?.block_on(async {
        let stop = CancellationToken::new();
        let (asked, reload) = watch::channel(0);
        let mut signals = Signals::new(asked, level)?;
        let mut role = std::pin::pin!(role(Control { stop: stop.clone(), reload }));
        tokio::select! {
            ended = role.as_mut() => return ended,
            name = signals.stop() => tracing::info!(signal = name, "stopping; a second signal stops at once"),
        }
        stop.cancel();
        tokio::select! {
            ended = role => ended,
            name = signals.stop() => leave(name),
        }
    })
}

/// What is acknowledged is on disk already, so nothing is lost by this.
#[expect(
    clippy::exit,
    reason = "the user asked twice: waiting for tasks is what must not happen now"
)]
fn leave(signal: &str) -> anyhow::Result<()> {
    tracing::warn!(signal, "stopped at once; work in progress is repeated at the next start");
    std::process::exit(1)
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    reload: watch::Sender<u64>,
    levels: Option<LevelSignals>,
}

/// What changes the log level.
struct LevelSignals {
    more: tokio::signal::unix::Signal,
    as_configured: tokio::signal::unix::Signal,
    level: LevelSwitch,
}

impl LevelSignals {
    fn new(level: LevelSwitch) -> std::io::Result<Self> {
        let (more, as_configured) = (SignalKind::user_defined1(), SignalKind::user_defined2());
        Ok(Self { more: signal(more)?, as_configured: signal(as_configured)?, level })
    }

    /// Does what signals ask, for ever.
    async fn serve(&mut self) {
        loop {
            tokio::select! {
                _ = self.more.recv() => self.level.more(),
                _ = self.as_configured.recv() => self.level.as_configured(),
            }
        }
    }
}

impl Signals {
    fn new(reload: watch::Sender<u64>, level: Option<LevelSwitch>) -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            reload,
            levels: level.map(LevelSignals::new).transpose()?,
        })
    }

    /// The next signal that asks to stop; what SIGHUP asks is passed on meanwhile.
    async fn stop(&mut self) -> &'static str {
        let levels = async {
            match &mut self.levels {
                Some(levels) => levels.serve().await,
                None => std::future::pending().await,
            }
        };
        let mut levels = std::pin::pin!(levels);
        loop {
            tokio::select! {
                () = levels.as_mut() => {}
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => {
                    tracing::info!("SIGHUP: reloading scripts; a changed configuration file needs a restart");
                    self.reload.send_modify(|asked| *asked += 1);
                }
            }
        }
    }
}
