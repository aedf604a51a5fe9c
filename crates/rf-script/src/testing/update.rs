//! `--update`: what really happened becomes what is expected.

use std::path::Path;

use serde_json::Value;

use super::file::{Act, Step};
use super::happening::Happening;
use super::tree::place;
use super::{Failure, Loaded, TestFileError, difference};

/// What an update has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Updated {
    /// Steps that were written anew. Comments within them are lost; everything else in the file is as it was.
    pub steps: usize,
    /// Tests whose script cannot be loaded: these stay as they are.
    pub failures: Vec<Failure>,
}

/// Writes into the steps of a test file what they really lead to. A file whose tests all pass is not touched.
///
/// # Errors
/// As [`super::run_file`], or when the file cannot be written.
pub fn update_file(test_file: &Path) -> Result<Updated, TestFileError> {
    let loaded = Loaded::read(test_file)?;
    let mut updated = Updated::default();
    let mut text = String::with_capacity(loaded.text.len());
    let mut copied = 0;
    for (index, test) in loaded.file.tests.iter().enumerate() {
        let observed = loaded.observe(test).unwrap_or_else(|reason| {
            updated.failures.push(Failure {
                index,
                test: test.name.clone(),
                step: 0,
                line: place(&loaded.text, test.start).0,
                diff: format!("+ {reason}\n"),
            });
            Vec::new()
        });
        for (step, observed) in test.steps.iter().zip(&observed) {
            if difference(step, observed).is_some() {
                text.push_str(loaded.text.get(copied..step.span.start).unwrap_or_default());
                text.push_str(&rewritten(&loaded.text, step, observed));
                copied = step.span.end;
                updated.steps += 1;
            }
        }
    }
    if updated.steps > 0 {
        text.push_str(loaded.text.get(copied..).unwrap_or_default());
        std::fs::write(test_file, text).map_err(|error| TestFileError {
            path: test_file.to_owned(),
            place: None,
            message: format!("cannot be written: {error}"),
        })?;
    }
    Ok(updated)
}

fn rewritten(text: &str, step: &Step, observed: &Happening) -> String {
    let mut keys = step.told.clone();
    keys.extend(observed.to_keys(matches!(step.act, Act::Batch(_))));
    let pretty = format!("{:#}", Value::Object(keys));
    let before = text.get(..step.span.start).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    let indent: String = line.chars().take_while(|c| matches!(c, ' ' | '\t')).collect();
    pretty.replace('\n', &format!("\n{indent}"))
}
