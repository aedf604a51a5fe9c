//! `dead-letters`: list, show, retry, edit and purge what could not be delivered.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use rf_queue::{DeadLetter, DeadLetters, Which};

use super::{complain, no_store, print, told};
use crate::cli::{DeadLettersAction, WhichArgs};
use crate::config_file::store_path;
use crate::running::Exit;

/// A replacement text above this is refused: no event is that large.
const MAX_EDIT_BYTES: u64 = 64 * 1024 * 1024;

pub(super) fn run(action: DeadLettersAction) -> Exit {
    let store = match &action {
        DeadLettersAction::List { store, .. }
        | DeadLettersAction::Show { store, .. }
        | DeadLettersAction::Retry { store, .. }
        | DeadLettersAction::Edit { store, .. }
        | DeadLettersAction::Purge { store, .. } => store,
    };
    let path = match store_path(&store.config) {
        Ok(path) => path,
        Err(problems) => {
            complain(&problems.to_string());
            return Exit::Config;
        }
    };
    match act(&path, action) {
        Ok(text) => print(&text),
        Err(error) => {
            complain(&told(&error));
            Exit::Failed
        }
    }
}

fn act(path: &Path, action: DeadLettersAction) -> anyhow::Result<Vec<u8>> {
    let letters = DeadLetters::open(path).with_context(|| no_store(path))?;
    Ok(match action {
        DeadLettersAction::List { sink, limit, after, json, .. } => {
            let found = letters.list(sink.as_deref(), after, limit)?;
            if json { as_json(&found) } else { as_table(&found) }.into_bytes()
        }
        DeadLettersAction::Show { id, .. } => {
            let letter =
                letters.get(id)?.with_context(|| format!("there is no dead letter {id}"))?;
            [&letter.content[..], b"\n"].concat()
        }
        DeadLettersAction::Retry { which, .. } => {
            let marked = letters.retry(&which_letters(which))?;
            format!("{marked} marked: a running agent delivers them again within a second, another one when it starts\n").into_bytes()
        }
        DeadLettersAction::Edit { id, file, .. } => {
            let changed = letters.edit(id, &read_text(&file)?)?;
            anyhow::ensure!(changed, "there is no dead letter {id}");
            format!("dead letter {id} changed; retry it with `dead-letters retry {id}`\n")
                .into_bytes()
        }
        DeadLettersAction::Purge { which, .. } => {
            format!("{} removed\n", letters.purge(&which_letters(which))?).into_bytes()
        }
    })
}

fn which_letters(which: WhichArgs) -> Which {
    if which.all || which.sink.is_some() { Which::All(which.sink) } else { Which::Ids(which.ids) }
}

fn read_text(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().take(MAX_EDIT_BYTES + 1).read_to_end(&mut text)?;
    } else {
        let source = std::fs::File::open(file).with_context(|| file.display().to_string())?;
        source.take(MAX_EDIT_BYTES + 1).read_to_end(&mut text)?;
    }
    anyhow::ensure!(
        text.len() as u64 <= MAX_EDIT_BYTES,
        "the text is larger than {MAX_EDIT_BYTES} bytes"
    );
    Ok(text)
}

fn as_table(letters: &[DeadLetter]) -> String {
    if letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let heading =
        format!("{:>8}  {:<20}  {:<29}  {:>8}  REASON\n", "ID", "SINK", "GIVEN UP", "ATTEMPTS");
    std::iter::once(heading).chain(letters.iter().map(as_row)).collect()
}

fn as_row(letter: &DeadLetter) -> String {
    let reason: String =
        letter.reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mark = if letter.retry { " (to be retried)" } else { "" };
    let time = utc(letter.dead_at_ms);
    format!(
        "{:>8}  {:<20}  {time:<29}  {:>8}  {reason}{mark}\n",
        letter.id, letter.queue, letter.attempts
    )
}

fn as_json(letters: &[DeadLetter]) -> String {
    let line = |letter: &DeadLetter| {
        let object = serde_json::json!({
            "id": letter.id,
            "sink": letter.queue,
            "storedAtMs": letter.at_ms,
            "deadAtMs": letter.dead_at_ms,
            "reason": letter.reason,
            "attempts": letter.attempts,
            "retry": letter.retry,
            "content": String::from_utf8_lossy(&letter.content),
        });
        format!("{object}\n")
    };
    letters.iter().map(line).collect()
}

/// As HTTP writes dates (RFC 9110, section 5.6.7).
fn utc(ms: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
    httpdate::fmt_http_date(time)
}
