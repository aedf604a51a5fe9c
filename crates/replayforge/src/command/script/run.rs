//! `script run`: what a script emits, shown.

use std::io::{self, Write};

use rf_script::{End, Outcome};

use super::events::Events;
use super::{complain, load};
use crate::cli::ScriptInputArgs;
use crate::running::Exit;

pub(super) fn run(args: &ScriptInputArgs) -> anyhow::Result<Exit> {
    let mut session = load(args)?;
    let mut events = Events::open(args)?;
    let mut out = io::stdout().lock();
    let mut failed = false;
    while let Some(event) = events.next()? {
        let outcome = session.process(&event.content)?;
        let written = write_emits(&mut out, &outcome, |index| session.vm().sink_name(index));
        match written {
            // A reader that has gone (`| head`) is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            other => other?,
        }
        let line = event.line;
        match outcome.end {
            End::Done => {}
            End::Dropped(reason) => complain(&format!("dropped: line {line}: {reason}")),
            End::Dead(reason) => complain(&format!("dead: line {line}: {reason}")),
            End::Failed(reason) => {
                failed = true;
                complain(&format!("failed: line {line}: {reason}"));
            }
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

/// Flushed after each event: standard input may be a person's terminal, or a file that still grows.
fn write_emits(
    out: &mut impl Write,
    outcome: &Outcome,
    name: impl Fn(usize) -> String,
) -> io::Result<()> {
    for emit in &outcome.emits {
        out.write_all(name(emit.sink).as_bytes())?;
        out.write_all(b"\t")?;
        out.write_all(&emit.content)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}
