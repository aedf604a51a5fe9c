//! `dead-letters`: list, show, retry, edit and purge what could not be delivered.

use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::Context;
use rf_queue::{DeadLetter, DeadLetters, Which};

use super::status::plain;
use super::{complain, fail, no_store, print, shown};
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
        Ok(done) if done.missing.is_empty() => print(&done.text),
        Ok(done) => {
            // Printed or not, not all was done that was asked.
            print(&done.text);
            complain(&there_is_no(&done.missing));
            Exit::Failed
        }
        Err(error) => fail(&error),
    }
}

/// What is to be printed, and numbers that were asked for and that no letter has.
struct Done {
    text: Vec<u8>,
    missing: Vec<u64>,
}

impl Done {
    fn whole(text: impl Into<Vec<u8>>) -> Self {
        Self { text: text.into(), missing: Vec::new() }
    }
}

fn act(path: &Path, action: DeadLettersAction) -> anyhow::Result<Done> {
    let letters = DeadLetters::open(path).with_context(|| no_store(path))?;
    Ok(match action {
        DeadLettersAction::List { sink, limit, after, json, .. } => {
            ensure_known(&letters, sink.as_deref())?;
            let found = letters.list(sink.as_deref(), after, limit)?;
            Done::whole(if json {
                as_json(&found)
            } else {
                as_table(&found) + &and_more(&letters, sink.as_deref(), &found)?
            })
        }
        DeadLettersAction::Show { id, .. } => {
            let letter = letters.get(id)?.with_context(|| there_is_no(&[id]))?;
            let shown = shown(&letter.content, std::io::stdout().is_terminal());
            Done::whole([&shown[..], b"\n"].concat())
        }
        DeadLettersAction::Retry { which, .. } => {
            let (which, missing) = which_letters(&letters, which)?;
            let text = match letters.retry(&which)? {
                0 => "0 marked\n".to_owned(),
                marked => format!(
                    "{marked} marked: they go back into their queue within a second if the agent is running, otherwise when it starts\n"
                ),
            };
            Done { text: text.into(), missing }
        }
        DeadLettersAction::Edit { store, id, file } => {
            // Looked for first: nobody types a text for a letter that is not there.
            anyhow::ensure!(letters.missing(&[id])?.is_empty(), there_is_no(&[id]));
            let text = read_text(&file)?;
            // As where the program before a pipe has failed.
            anyhow::ensure!(
                !text.trim_ascii().is_empty(),
                "the text is empty: dead letter {id} is as it was (`purge` removes one)"
            );
            anyhow::ensure!(letters.edit(id, &text)?, there_is_no(&[id]));
            Done::whole(changed(id, &store.config))
        }
        DeadLettersAction::Purge { which, .. } => {
            let (which, missing) = which_letters(&letters, which)?;
            let text = format!("{} removed\n", letters.purge(&which)?);
            Done { text: text.into(), missing }
        }
    })
}

/// Which letters are meant, and the numbers that no letter has.
fn which_letters(letters: &DeadLetters, which: WhichArgs) -> anyhow::Result<(Which, Vec<u64>)> {
    if which.all || which.sink.is_some() {
        ensure_known(letters, which.sink.as_deref())?;
        return Ok((Which::All(which.sink), Vec::new()));
    }
    let mut ids = which.ids;
    ids.sort_unstable();
    ids.dedup();
    let missing = letters.missing(&ids)?;
    Ok((Which::Ids(ids), missing))
}

fn ensure_known(letters: &DeadLetters, sink: Option<&str>) -> anyhow::Result<()> {
    let Some(sink) = sink else { return Ok(()) };
    let sinks = letters.queues()?;
    let all = sinks.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    anyhow::ensure!(
        sinks.iter().any(|name| name == sink),
        "the store has no sink `{sink}`; it has: {all}"
    );
    Ok(())
}

fn there_is_no(ids: &[u64]) -> String {
    match ids {
        [id] => format!("there is no dead letter {id}"),
        ids => {
            let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
            format!("there are no dead letters {}", ids.join(", "))
        }
    }
}

/// What to do with a letter that was changed, as a line for the same shell.
fn changed(id: u64, config: &Path) -> String {
    let config = for_shell(&config.to_string_lossy());
    format!(
        "dead letter {id} changed; retry it with `replayforge dead-letters retry -c {config} {id}`\n"
    )
}

/// A word as a shell reads it: in quotes where it would be several, or something else.
fn for_shell(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
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

/// A line that says where to go on, if these are not all.
fn and_more(
    letters: &DeadLetters,
    sink: Option<&str>,
    found: &[DeadLetter],
) -> anyhow::Result<String> {
    let Some(last) = found.last().map(|letter| letter.id) else { return Ok(String::new()) };
    if letters.list(sink, last, 1)?.is_empty() {
        return Ok(String::new());
    }
    Ok(format!("there are more: go on with `--after {last}`\n"))
}

fn as_row(letter: &DeadLetter) -> String {
    let reason: String =
        letter.reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let reason = plain(&reason);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_event_holds_does_not_steer_a_terminal() {
        let check = |content: &str, on_terminal: &str| {
            assert_eq!(shown(content.as_bytes(), false), content.as_bytes());
            assert_eq!(String::from_utf8_lossy(&shown(content.as_bytes(), true)), on_terminal);
        };
        check("{\"path\":\"/a\"}", "{\"path\":\"/a\"}");
        check("one\ntwo ü\n", "one\ntwo ü\n");
        check("\x1b]0;pwned\x07", "\u{fffd}]0;pwned\u{fffd}");
        check("a\u{9b}2J\u{202e}b\rc", "a\u{fffd}2J\u{fffd}b\u{fffd}c");
        assert_eq!(shown(b"\xff", false), &b"\xff"[..], "for a file every byte stays");
    }

    #[test]
    fn nor_does_a_reason() {
        let letter = DeadLetter {
            id: 1,
            queue: "target".to_owned(),
            at_ms: 0,
            dead_at_ms: 0,
            reason: "it says\u{202e}\x1b[2J".to_owned(),
            attempts: 1,
            retry: false,
            content: bytes::Bytes::new(),
        };
        assert!(as_row(&letter).ends_with("it says\u{fffd} [2J\n"), "{}", as_row(&letter));
    }

    #[test]
    fn a_letter_that_was_changed_is_retried_with_the_same_file() {
        let check = |config: &str, shown: &str| {
            let expected = format!(
                "dead letter 5 changed; retry it with `replayforge dead-letters retry -c {shown} 5`\n"
            );
            assert_eq!(changed(5, Path::new(config)), expected);
        };
        check("/etc/replayforge/player.json", "/etc/replayforge/player.json");
        check("my player.json", "'my player.json'");
        check("it's.json", r"'it'\''s.json'");
        check("$HOME.json", "'$HOME.json'");
    }
}
