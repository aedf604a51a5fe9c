//! The program as a process: started, watched, killed, started again, and never left behind.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::Instant;

use super::wait::{SOON, eventually_some};

/// A running or ended program. Dropped, it must stop within [`SOON`] with exit code 0, and must not have logged an error
/// that the test did not expect.
pub(crate) struct Program {
    name: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    folder: PathBuf,
    child: Option<Child>,
    /// Standard error and standard output of the run that is on, or was last.
    log: Arc<Lines>,
    output: Arc<Lines>,
    readers: Vec<JoinHandle<()>>,
    /// Logs of the runs before.
    history: Vec<String>,
    expected_errors: Vec<String>,
}

/// Lines as they come from a pipe.
#[derive(Default)]
struct Lines {
    lines: Mutex<Vec<String>>,
    changed: Condvar,
}

/// How a program that ends by itself has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) log: String,
}

impl Program {
    /// Starts `replayforge` with these arguments in `folder`.
    pub(crate) fn start(folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Program {
        let mut program = Program {
            name: args.first().copied().unwrap_or_default().to_owned(),
            args: args.iter().map(ToString::to_string).collect(),
            env: env
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            folder: folder.to_owned(),
            child: None,
            log: Arc::default(),
            output: Arc::default(),
            readers: Vec::new(),
            history: Vec::new(),
            expected_errors: Vec::new(),
        };
        program.start_again();
        program
    }

    /// Starts a role with this configuration, written to `ROLE.json` in `folder`; its data goes where the file says.
    pub(crate) fn role(folder: &Path, role: &str, config: &Value) -> Program {
        let program =
            Program::start(folder, &[role, "-c", &write_config(folder, role, config)], &[]);
        program.wait_until_ready();
        program
    }

    /// Runs to the end.
    pub(crate) fn run(folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Finished {
        let mut program = Program::start(folder, args, env);
        let code = program.wait_for_end().code();
        let finished = Finished { code, output: program.output(), log: program.log() };
        // What it logged is for the test to judge.
        program.expect_error("");
        finished
    }

    /// Starts with the same arguments after an end; a role is ready when this returns.
    pub(crate) fn restart(&mut self) {
        self.start_again();
        self.wait_until_ready();
    }

    fn start_again(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_replayforge"));
        command.args(&self.args).current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in ["LOG_LEVEL", "RPF_LOG_LEVEL", "LOG_FORMAT"] {
            command.env_remove(name);
        }
        let env = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut child =
            command.env("NO_COLOR", "1").envs(env).spawn().expect("the program can be started");
        (self.log, self.output) = (Arc::default(), Arc::default());
        self.readers.push(read_lines(child.stderr.take().expect("piped"), Arc::clone(&self.log)));
        self.readers
            .push(read_lines(child.stdout.take().expect("piped"), Arc::clone(&self.output)));
        self.child = Some(child);
    }

    /// Until a role takes connections, and a player pulls.
    pub(crate) fn wait_until_ready(&self) {
        match self.name.as_str() {
            "relay" => self.wait_for("relay started address="),
            "proxy" | "player" => self.wait_for(" INFO started "),
            other => panic!("{other} is not a role"),
        };
    }

    /// The first line of the log of this run that contains `text`.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.log.wait_for(&self.name, text)
    }

    /// The first line on standard output that contains `text`.
    pub(crate) fn wait_for_output(&self, text: &str) -> String {
        self.output.wait_for(&self.name, text)
    }

    /// The port that a line of the log tells as `address=127.0.0.1:PORT`.
    pub(crate) fn port_in_log(&self, text: &str) -> u16 {
        let line = self.wait_for(text);
        let port = line.split("address=127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next());
        port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no address in: {line}"))
    }

    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    pub(crate) fn output(&self) -> String {
        self.output.text()
    }

    /// From now on, and in hindsight, errors in the log that contain `text` are as they should be.
    pub(crate) fn expect_error(&mut self, text: &str) {
        self.expected_errors.push(text.to_owned());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the program runs");
        kill_process(Pid::from_child(child), signal).expect("an own process can be signalled");
    }

    /// Names of its threads.
    pub(crate) fn threads(&self) -> Vec<String> {
        let id = self.child.as_ref().expect("the program runs").id();
        let tasks = std::fs::read_dir(format!("/proc/{id}/task")).expect("the program runs");
        // One that ends just now has no name.
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
        tasks.flatten().filter_map(name).map(|name| name.trim_end().to_owned()).collect()
    }

    /// SIGKILL, at once.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_for_end();
    }

    /// SIGTERM, and the end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_for_end()
    }

    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the program runs");
        let what = format!("the end of {}", self.name);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually_some(&what, SOON, || {
                child.try_wait().expect("an own process can be waited for")
            })
        }));
        let status = ended.unwrap_or_else(|panic| {
            self.child = Some(child);
            std::panic::resume_unwind(panic)
        });
        // With the process its pipes have ended, and with them the readers.
        for reader in self.readers.drain(..) {
            reader.join().expect("readers do not panic");
        }
        self.history.push(self.log.text());
        status
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("an own process").is_none())
    }

    fn unexpected_error(&self) -> Option<String> {
        let is_error = |line: &&str| line.contains(" ERROR ") || line.contains("panicked at");
        let expected =
            |line: &str| self.expected_errors.iter().any(|text| line.contains(text.as_str()));
        // A test's folder may go before the programs that run there.
        let is_of_end =
            |line: &str| line.contains("the database's file was removed") && !self.folder.exists();
        let lines = self.history.iter().flat_map(|log| log.lines());
        let found = lines.filter(is_error).find(|line| !expected(line) && !is_of_end(line));
        found.map(str::to_owned)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if let Some(mut child) = self.child.take() {
                // It may have ended meanwhile.
                drop(child.kill());
                drop(child.wait());
                self.history.push(self.log.text());
            }
            for (run, log) in self.history.iter().enumerate() {
                eprintln!("--- log of {} (run {run}) ---\n{log}", self.name);
            }
            return;
        }
        if self.child.is_some() {
            let status = self.stop();
            assert!(status.success(), "{} stopped with {status}:\n{}", self.name, self.log());
        }
        if let Some(error) = self.unexpected_error() {
            panic!("{} logged what the test did not expect: {error}", self.name);
        }
    }
}

impl Lines {
    fn wait_for(&self, name: &str, text: &str) -> String {
        let deadline = Instant::now() + SOON;
        let mut lines = self.lines.lock();
        loop {
            if let Some(line) = lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = deadline.duration_since(Instant::now());
            if left.is_zero() {
                drop(lines);
                panic!("{name} did not say {text:?} but:\n{}", self.text());
            }
            self.changed.wait_for(&mut lines, left);
        }
    }

    fn text(&self) -> String {
        self.lines.lock().iter().map(|line| format!("{line}\n")).collect()
    }
}

fn read_lines(pipe: impl Read + Send + 'static, into: Arc<Lines>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            line.clear();
            into.lines.lock().push(text);
            into.changed.notify_all();
        }
    })
}

/// Writes `NAME.json`; its path.
pub(crate) fn write_config(folder: &Path, name: &str, config: &Value) -> String {
    let path = folder.join(format!("{name}.json"));
    std::fs::write(&path, serde_json::to_vec_pretty(config).unwrap()).unwrap();
    path.display().to_string()
}
