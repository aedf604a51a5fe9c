//! A copy of the examples, and the commands of a README in it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::markdown::blocks;
use crate::support::ports::free_port;
use crate::support::program::Program;
use crate::support::wait::{SOON, eventually_some};
use crate::support::wire::call;

/// One example, set up. Dropped, each command of its README must have been run.
pub(super) struct Example {
    folder: TempDir,
    name: &'static str,
    /// After the README's set-up.
    env: Vec<(String, String)>,
    commands: Vec<String>,
    run: RefCell<BTreeSet<usize>>,
}

/// A program of a README that is not ours; killed at the end.
pub(super) struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Example {
    /// Copies the examples with these pieces of text replaced, and runs the set-up of this one. Each piece must be there.
    pub(super) fn set_up(name: &'static str, replacements: &[(&str, &str)]) -> Example {
        let folder = tempfile::tempdir().unwrap();
        let mut used = BTreeSet::new();
        copy(&examples(), &folder.path().join("examples"), replacements, &mut used);
        assert_eq!(used.len(), replacements.len(), "used of {replacements:?}: {used:?}");
        fs::create_dir(folder.path().join("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_replayforge"), folder.path().join("bin/replayforge")).unwrap();
        let readme = folder.path().join("examples").join(name).join("README.md");
        let readme = fs::read_to_string(&readme).unwrap();
        let lines = blocks(&readme, "sh").concat().replace("\\\n", "");
        let commands: Vec<String> = lines.lines().map(command).collect();
        let mut example =
            Example { folder, name, env: Vec::new(), commands, run: RefCell::default() };
        example.env = example.variables_after(&blocks(&readme, "sh set-up").concat());
        example
    }

    /// The folder of the example.
    pub(super) fn folder(&self) -> PathBuf {
        self.folder.path().join("examples").join(self.name)
    }

    fn shell(&self, script: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = self.folder.path().join("bin");
        let mut shell = Command::new("sh");
        shell.args(["-euc", script]).current_dir(self.folder()).stdin(Stdio::null());
        shell.env("PATH", format!("{}:{path}", bin.display()));
        shell.envs(self.env.iter().map(|(name, value)| (name, value)));
        shell
    }

    fn variables_after(&self, set_up: &str) -> Vec<(String, String)> {
        let output = self.shell(&format!("{set_up}\nenv -0")).output().unwrap();
        assert!(output.status.success(), "{}: set-up: {output:?}", self.name);
        let text = String::from_utf8(output.stdout).unwrap();
        let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The only command with this in it; from now on it counts as run.
    fn command(&self, part: &str) -> String {
        let found = self.commands.iter().enumerate().filter(|(_, line)| line.contains(part));
        let found: Vec<_> = found.collect();
        let [(index, line)] = found[..] else {
            panic!("{}: {part:?} in {:?}: {found:?}", self.name, self.commands);
        };
        self.run.borrow_mut().insert(index);
        line.clone()
    }

    /// The command with this in it is not run: something of the test stands in its place.
    pub(super) fn leave_out(&self, part: &str) {
        self.command(part);
    }

    /// Starts the role whose command has this in it.
    pub(super) fn start(&self, part: &str) -> Program {
        let line = self.command(part);
        let mut words = line.split(' ').map(|word| word.replace('\'', "")).peekable();
        let mut env = self.env.clone();
        while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
            env.push((name.to_owned(), value.to_owned()));
            words.next();
        }
        assert_eq!(words.next().as_deref(), Some("replayforge"), "{line}");
        let words: Vec<String> = words.collect();
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
        let env: Vec<(&str, &str)> = env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let program = Program::start(&self.folder(), &args, &env);
        program.wait_until_ready();
        program
    }

    /// Runs the command with this in it to its end; what it printed.
    pub(super) fn run(&self, part: &str) -> String {
        let line = self.command(part);
        let output = self.shell(&line).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts the command with this in it, which is not of ours.
    pub(super) fn start_other(&self, part: &str) -> Background {
        let line = self.command(part);
        let mut shell = self.shell(&format!("exec {line}"));
        Background(shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Contents and reasons of dead letters, by the configuration file that names their store.
    pub(super) fn letters(&self, config: &str) -> Vec<Value> {
        let args = ["dead-letters", "list", "-c", config, "--json", "--limit", "1000"];
        let env: Vec<(&str, &str)> =
            self.env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let listed = Program::run(&self.folder(), &args, &env);
        assert_eq!(listed.code, Some(0), "{listed:?}");
        listed.output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let run = self.run.borrow();
            let left = self.commands.iter().enumerate().filter(|(index, _)| !run.contains(index));
            let left: Vec<_> = left.map(|(_, line)| line).collect();
            assert!(left.is_empty(), "commands of {} that were not run: {left:?}", self.name);
        }
    }
}

/// A line without alignment, comment, and sign that it goes on in the background.
fn command(line: &str) -> String {
    let line = line.split(" #").next().unwrap_or_default();
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    words.join(" ").trim_end_matches(" &").to_owned()
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn copy<'a>(
    from: &Path,
    to: &Path,
    replacements: &[(&'a str, &str)],
    used: &mut BTreeSet<&'a str>,
) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to, replacements, used);
        } else {
            let text = fs::read_to_string(from).unwrap();
            fs::write(to, replaced(&text, replacements, used)).unwrap();
        }
    }
}

/// In one go, so that nothing is found in what was put in; a number is found whole only.
fn replaced<'a>(
    text: &str,
    replacements: &[(&'a str, &str)],
    used: &mut BTreeSet<&'a str>,
) -> String {
    let mut result = String::new();
    let mut rest = text;
    let mut chars = rest.chars();
    while let Some(next) = chars.next() {
        let before = result.ends_with(|c: char| c.is_ascii_digit());
        let found = replacements.iter().find_map(|(from, to)| {
            let behind = rest.strip_prefix(from)?;
            let digit = |c: char| c.is_ascii_digit();
            let whole = !from.starts_with(digit) || !(before || behind.starts_with(digit));
            whole.then_some((*from, *to, behind))
        });
        if let Some((from, to, behind)) = found {
            used.insert(from);
            result.push_str(to);
            rest = behind;
            chars = rest.chars();
        } else {
            result.push(next);
            rest = chars.as_str();
        }
    }
    result
}

/// Free ports as text, to stand in for those of an example.
pub(super) fn ports<const N: usize>() -> [String; N] {
    std::array::from_fn(|_| free_port().to_string())
}

/// The port that is written there.
pub(super) fn number(port: &str) -> u16 {
    port.parse().unwrap()
}

/// Rows that a player serves; none while it does not know the table.
pub(super) fn rows(port: &str, path: &str) -> Vec<Value> {
    let answer = call(number(port), "GET", path, &[("Host", b"127.0.0.1")], b"");
    match answer.status() {
        200 => answer.json().as_array().expect("rows").clone(),
        404 => Vec::new(),
        status => panic!("{path}: {status} {}", answer.text()),
    }
}

/// The rows, once there are so many; more are shown, too.
pub(super) fn wait_for_rows(port: &str, path: &str, count: usize) -> Vec<Value> {
    eventually_some(&format!("{count} rows at {path}"), SOON * 3, || {
        Some(rows(port, path)).filter(|rows| rows.len() >= count)
    })
}
