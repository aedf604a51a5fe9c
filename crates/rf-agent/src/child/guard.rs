//! The process between the agent and a program of the user's: starts it, and sees to its end.
//!
//! It ends the program, and all that this has started, when the agent asks it to (SIGTERM) and when the agent has gone, in
//! whatever way: it holds a pidfd of the agent, which the kernel makes readable then. It ends with the program's own code.
//!
//! As a *subreaper* it becomes the parent of every process below it that loses its own, also of those that have left the
//! group: so all can be found, ended and waited for.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, getpgid, getpgrp, getpid, getppid,
    kill_current_process_group, kill_process, pidfd_open, set_child_subreaper, wait,
};
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::KILL_AFTER;

/// What the guard itself ends with when it cannot do its work; 126 and 127 are about the program, all as with `env`.
const FAILED: u8 = 125;
pub(super) const CANNOT_RUN: u8 = 126;
pub(super) const NOT_FOUND: u8 = 127;

/// How long killed processes may take to be gone; one that hangs in the kernel takes longer, and is left.
const GONE_AFTER: Duration = Duration::from_secs(2);
/// How often is looked for processes that came up while others were killed.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Runs `command` (program and arguments) for the agent with the process id `parent`; the code to end with.
pub fn run(parent: i32, command: &[OsString]) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.and_then(|runtime| runtime.block_on(guard(parent, command)));
    outcome.unwrap_or_else(|error| {
        complain(&format!("a child cannot be guarded: {error}"));
        FAILED
    })
}

async fn guard(parent: i32, command: &[OsString]) -> io::Result<u8> {
    let no_agent = || io::Error::new(io::ErrorKind::NotFound, "there is no agent to guard it for");
    let parent = Pid::from_raw(parent).ok_or_else(no_agent)?;
    set_child_subreaper(Some(getpid()))?;
    let agent = pidfd_open(parent, PidfdFlags::empty())?;
    // Opened first, then looked: the pidfd is the agent's only while the agent is the parent.
    if getppid() != Some(parent) {
        return Err(no_agent());
    }
    let agent_gone = end_of(agent)?;
    // Both are caught before there is a child that they could be about.
    let (terminate, child_ended) = (signal(SignalKind::terminate())?, signal(SignalKind::child())?);
    let [program, arguments @ ..] = command else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no program"));
    };
    let child = match Command::new(program).args(arguments).spawn() {
        Ok(child) => child,
        Err(error) => {
            complain(&format!("{} cannot be run: {error}", program.display()));
            let is_missing = error.kind() == io::ErrorKind::NotFound;
            return Ok(if is_missing { NOT_FOUND } else { CANNOT_RUN });
        }
    };
    release_streams()?;
    let program = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
    let guard =
        Guard { agent_gone, terminate, child_ended, program, code: None, strays: Vec::new() };
    Ok(guard.watch().await)
}

/// Ends when the process does. It is waited for on a thread: the runtime can watch sockets and files of its own only.
fn end_of(process: OwnedFd) -> io::Result<oneshot::Receiver<()>> {
    let (running, ended) = oneshot::channel();
    std::thread::Builder::new().name("agent".to_owned()).spawn(move || {
        let mut watched = [PollFd::new(&process, PollFlags::IN)];
        while poll(&mut watched, None) == Err(Errno::INTR) {}
        drop(running);
    })?;
    Ok(ended)
}

/// The streams are the program's from here on: when it closes one, the agent must see its end.
fn release_streams() -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    Ok(())
}

struct Guard {
    agent_gone: oneshot::Receiver<()>,
    terminate: unix::Signal,
    child_ended: unix::Signal,
    program: Option<Pid>,
    /// The program's, once it has ended.
    code: Option<u8>,
    /// Children outside of the group that have had their SIGTERM.
    strays: Vec<Pid>,
}

impl Guard {
    async fn watch(mut self) -> u8 {
        while self.reap() && self.code.is_none() {
            // Every arm only waits, so that nothing is lost in the others.
            tokio::select! {
                _ = self.child_ended.recv() => {}
                _ = self.terminate.recv() => break,
                _ = &mut self.agent_gone => break,
            }
        }
        self.end_all().await;
        self.code.unwrap_or(FAILED)
    }

    /// Ends what still runs: also what the program has left behind.
    async fn end_all(&mut self) {
        if !self.reap() {
            return;
        }
        // Comes to this process as well, which has it caught. There is a group: its leader is this process.
        kill_current_process_group(Signal::TERM).unwrap_or_default();
        // What was stopped hears of it when it goes on.
        kill_current_process_group(Signal::CONT).unwrap_or_default();
        self.terminate_strays();
        let deadline = Instant::now() + KILL_AFTER;
        while self.reap() && timeout_at(deadline, self.child_ended.recv()).await.is_ok() {
            // Some are found only when their parents have ended.
            self.terminate_strays();
        }
        let deadline = Instant::now() + GONE_AFTER;
        while self.reap() && Instant::now() < deadline {
            kill_children();
            let look_again = Instant::now() + LOOK_EVERY;
            // Over when a child has ended or when it is time; both mean to look again.
            drop(timeout_at(look_again, self.child_ended.recv()).await);
        }
    }

    /// SIGTERM for every child that has left the group, as the program itself may have. Each gets it once, since many a
    /// program takes a second one for an order to hurry.
    fn terminate_strays(&mut self) {
        let own = getpgrp();
        for pid in children().unwrap_or_default() {
            let has_left = getpgid(Some(pid)).is_ok_and(|group| group != own);
            if has_left && !self.strays.contains(&pid) {
                // Fails for a program of another user (sudo), which must end by itself.
                kill_process(pid, Signal::TERM).unwrap_or_default();
                self.strays.push(pid);
            }
        }
    }

    /// Takes in every child that has ended; false when there is none left.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if Some(pid) == self.program => {
                    self.code = Some(shell_code(status));
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return true,
                Err(_no_child) => return false,
            }
        }
    }
}

/// What its children have started becomes children of this process when they end, and is found next.
fn kill_children() {
    let Ok(children) = children() else {
        // Without the list there is the group; this process is in it.
        return kill_current_process_group(Signal::KILL).unwrap_or_default();
    };
    for pid in children {
        kill_process(pid, Signal::KILL).unwrap_or_default();
    }
}

fn children() -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task")? {
        let list = std::fs::read_to_string(thread?.path().join("children"))?;
        found.extend(list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    }
    Ok(found)
}

/// As a shell tells it: 128 and the signal's number after a signal.
fn shell_code(status: WaitStatus) -> u8 {
    let code =
        status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)
}

/// Standard error is the only way to tell, and the agent reads it as the program's.
fn complain(text: &str) {
    drop(writeln!(io::stderr(), "replayforge: {text}"));
}
