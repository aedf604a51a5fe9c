//! `script test`: the tests beside scripts, run or brought up to date.

use std::path::{Path, PathBuf};

use anyhow::Context;
use rf_script::testing::{
    Failure, TestFileError, is_test_file, run_file, test_file_of, update_file,
};

use super::{complain, print};
use crate::cli::ScriptTestArgs;
use crate::running::Exit;

/// Folders within folders that are searched.
const MAX_DEPTH: usize = 32;
/// Folders of tools, in which nobody looks for tests; so are those whose name begins with a dot.
const SKIPPED: [&str; 2] = ["target", "node_modules"];

#[derive(Default)]
struct Totals {
    files: usize,
    passed: usize,
    failed: usize,
    updated: usize,
    broken: usize,
}

pub(super) fn run(args: &ScriptTestArgs) -> anyhow::Result<Exit> {
    let files = test_files(&args.path)?;
    let mut totals = Totals::default();
    for file in &files {
        totals.files += 1;
        let done =
            if args.update { update_one(file, &mut totals) } else { test_one(file, &mut totals) };
        if let Err(error) = done {
            totals.broken += 1;
            complain(&error.to_string());
        }
    }
    print(summary(&totals, args.update).as_bytes());
    Ok(if totals.broken > 0 {
        Exit::Config
    } else if totals.failed > 0 {
        Exit::Failed
    } else {
        Exit::Ok
    })
}

fn test_one(file: &Path, totals: &mut Totals) -> Result<(), TestFileError> {
    let report = run_file(file)?;
    let failed = report.failed();
    let name = file.display();
    totals.passed += report.passed;
    totals.failed += failed;
    let mut text = if failed == 0 {
        format!("ok      {name}: {}\n", counted(report.passed, "test"))
    } else {
        format!("FAILED  {name}: {failed} of {}\n", counted(report.passed + failed, "test"))
    };
    text.extend(report.failures.iter().map(|failure| told(file, failure)));
    print(text.as_bytes());
    Ok(())
}

fn update_one(file: &Path, totals: &mut Totals) -> Result<(), TestFileError> {
    let updated = update_file(file)?;
    let name = file.display();
    totals.updated += updated.steps;
    totals.failed += updated.failures.len();
    let mut text = match updated.steps {
        0 => format!("as it was  {name}\n"),
        steps => {
            format!("updated    {name}: {}, without the comments in them\n", counted(steps, "step"))
        }
    };
    text.extend(updated.failures.iter().map(|failure| told(file, failure)));
    print(text.as_bytes());
    Ok(())
}

/// A failure with its place, in a form that editors jump to.
fn told(file: &Path, failure: &Failure) -> String {
    let Failure { test, step, line, diff, .. } = failure;
    let step = if *step == 0 { String::new() } else { format!(", step {step}") };
    let diff: String = diff.lines().map(|line| format!("    {line}\n")).collect();
    format!("\n  {}:{line}: {test:?}{step} (- expected, + got)\n{diff}\n", file.display())
}

fn summary(totals: &Totals, is_update: bool) -> String {
    let files = counted(totals.files, "test file");
    let broken =
        if totals.broken > 0 { format!(", {} broken", totals.broken) } else { String::new() };
    if is_update {
        let failed =
            if totals.failed > 0 { format!(", {} failed", totals.failed) } else { String::new() };
        return format!("{files}: {} rewritten{failed}{broken}\n", counted(totals.updated, "step"));
    }
    format!(
        "{files}: {} passed, {} failed{broken}\n",
        counted(totals.passed, "test"),
        totals.failed
    )
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// What a path stands for; never nothing, for a run without a test that ends well would say too much.
fn test_files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let shown = path.display();
    let meta = std::fs::metadata(path).with_context(|| shown.to_string())?;
    let mut found = Vec::new();
    if meta.is_dir() {
        search(path, 0, &mut found).with_context(|| shown.to_string())?;
        found.sort();
        anyhow::ensure!(
            !found.is_empty(),
            "{shown}: no test file in this folder: the tests of `my.lua` are in `my.test.json` beside it"
        );
    } else if is_test_file(path) {
        found.push(path.to_owned());
    } else {
        let file = test_file_of(path);
        found.push(file.with_context(|| {
            format!("{shown}: it has no test file: the tests of `my.lua` are in `my.test.json`")
        })?);
    }
    Ok(found)
}

fn search(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        // Not of what a link leads to: that may be a folder above.
        let is_folder = entry.file_type()?.is_dir();
        if is_folder && depth < MAX_DEPTH {
            if !name.starts_with('.') && !SKIPPED.contains(&&*name) {
                search(&path, depth + 1, found)?;
            }
        } else if !is_folder && is_test_file(&path) {
            found.push(path);
        }
    }
    Ok(())
}
