//! Programs of the user's own, run beside the agent: for the sources `command` and `exec`, and for sinks that are programs.
//!
//! Promises: a child never outlives the agent, also when that is killed with SIGKILL; a stop reaches all that the child has
//! started, first with SIGTERM and after `KILL_AFTER` with SIGKILL; nothing stays behind as a zombie.
//!
//! A safe program can keep none of this by itself: what is to happen at its own death must be set between fork and exec. So
//! the agent does not start the program but a [`guard`]: itself once more, as a small process that starts the program, hands
//! its standard streams through and watches over both sides. Should the guard be killed, `Child::wait` ends its group.

mod command_line;
pub mod guard;
mod obstacle;

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rf_core::config::{Node, Problems, Secret};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

pub(crate) use command_line::CommandLine;

use crate::settings::at;

/// How long a program may take to end after SIGTERM; then it is killed.
pub(crate) const KILL_AFTER: Duration = Duration::from_secs(5);

/// The hidden command of the program that is a [`guard`].
pub const GUARD_COMMAND: &str = "child-guard";

/// This very program, also after its file was replaced by a newer one.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// What is run, and where.
#[derive(Debug, Clone)]
pub(crate) struct ChildCommand {
    /// Program and arguments.
    pub(crate) command: CommandLine,
    /// The folder that it starts in; `None`: the agent's.
    pub(crate) working_dir: Option<PathBuf>,
    /// Variables besides those of the agent.
    pub(crate) env: BTreeMap<String, Secret>,
}

/// Whether the child's standard input is a pipe from the agent, or empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Nothing to read: `/dev/null`.
    Empty,
    /// [`Child::stdin`] writes to it.
    Piped,
}

/// A running program and all that it has started. Dropped before its end, it is asked to stop as by [`Child::terminate`].
#[derive(Debug)]
pub(crate) struct Child {
    /// Present with [`Input::Piped`], until it is taken.
    pub(crate) stdin: Option<ChildStdin>,
    /// What it prints, until it is taken.
    pub(crate) stdout: Option<ChildStdout>,
    /// What it complains of, until it is taken.
    pub(crate) stderr: Option<ChildStderr>,
    guard: tokio::process::Child,
    group: Pid,
    has_ended: bool,
}

impl ChildCommand {
    /// Whether `command` is one, with `shell` or without; a problem is told at its key, and so is a program that is not
    /// there.
    pub(crate) fn checked(
        self,
        shell: bool,
        params: &Node<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let command = self.command.checked(shell);
        let wrong = |message| problems.error(&at(params, "command"), message);
        let checked = Self { command: command.map_err(wrong).ok()?, ..self };
        if let Some(reason) = obstacle::of_files(&checked) {
            problems.warn(&at(params, "command"), format!("the program cannot be run: {reason}"));
        }
        Some(checked)
    }

    /// The code that the program ended with.
    ///
    /// # Errors
    /// When it never ran: the code is the [`guard`]'s, and there is a reason for it. Standard error says the same, but may
    /// say what is secret, too.
    pub(crate) fn ran(&self, exit_code: i32) -> std::io::Result<i32> {
        let is_guards = [guard::CANNOT_RUN, guard::NOT_FOUND].map(i32::from).contains(&exit_code);
        let reason = if is_guards { obstacle::of(self) } else { None };
        match reason {
            Some(reason) => {
                let program = self.command.argv().first().map_or("", String::as_str);
                Err(cannot_run(format_args!("{program}: {reason}")))
            }
            None => Ok(exit_code),
        }
    }

    /// Starts the program. One that cannot be started ends with 126 or 127 and says why on its standard error, as in a
    /// shell.
    ///
    /// # Errors
    /// When there is no process to be had, or [`Self::working_dir`] is no folder.
    pub(crate) fn spawn(&self, input: Input) -> std::io::Result<Child> {
        let mut command = guard_command(&self.command);
        if let Some(folder) = &self.working_dir {
            command.current_dir(folder);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value.expose())));
        command.stdin(if input == Input::Piped { Stdio::piped() } else { Stdio::null() });
        // A group of its own: a Ctrl-C for the agent is not for its children, which get their SIGTERM in time.
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut guard = command.spawn().map_err(cannot_run)?;
        let id = guard.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let group = id.ok_or_else(|| std::io::Error::other("the child has no process id"))?;
        let (stdin, stdout, stderr) =
            (guard.stdin.take(), guard.stdout.take(), guard.stderr.take());
        Ok(Child { stdin, stdout, stderr, guard, group, has_ended: false })
    }
}

fn cannot_run(reason: impl fmt::Display) -> std::io::Error {
    std::io::Error::other(format!("the program cannot be run: {reason}"))
}

#[cfg(not(test))]
fn guard_command(line: &CommandLine) -> Command {
    let mut command = Command::new(OWN_PROGRAM);
    command.arg0("replayforge").arg(GUARD_COMMAND);
    command.args(["--parent", &std::process::id().to_string(), "--"]).args(line.argv());
    command
}

/// In this crate's own tests the program is the test runner, which cannot be a guard.
#[cfg(test)]
fn guard_command(line: &CommandLine) -> Command {
    let [program, arguments @ ..] = line.argv() else { return Command::new(OWN_PROGRAM) };
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

impl Child {
    /// Asks the program and all that it has started to end: SIGTERM now, SIGKILL after [`KILL_AFTER`]. Does not wait.
    pub(crate) fn terminate(&self) {
        // Of a guard that is not waited for yet the id cannot belong to anybody else.
        if self.has_ended {
            return;
        }
        // One that was stopped with its group hears of it when it goes on.
        let asked = kill_process(self.group, Signal::TERM)
            .and_then(|()| kill_process(self.group, Signal::CONT));
        if let Err(error) = asked {
            tracing::debug!(%error, "a child has ended before it was asked to");
        }
    }

    /// Waits for the end of the program, and of all that it has started; the code as a shell tells it: 128 and the signal's
    /// number after a signal.
    ///
    /// # Errors
    /// When the system refuses to tell.
    pub(crate) async fn wait(&mut self) -> std::io::Result<i32> {
        let status = self.guard.wait().await?;
        self.has_ended = true;
        if status.signal().is_some() {
            // Somebody has killed the guard: what it watched over ends here. An empty group is an error that means nothing.
            kill_process_group(self.group, Signal::KILL).unwrap_or_default();
        }
        Ok(shell_code(status))
    }

    /// As [`Self::wait`]; asks the program to end once `stop` is cancelled.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub(crate) async fn end(&mut self, stop: &CancellationToken) -> std::io::Result<i32> {
        tokio::select! {
            code = self.wait() => return code,
            () = stop.cancelled() => self.terminate(),
        }
        self.wait().await
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.terminate();
    }
}

fn shell_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
