//! `script bench`: how many events a second a script can do.

use std::time::Duration;

use rf_script::End;
use rf_script::Session;
use tokio::time::Instant;

use super::events::Events;
use super::{complain, load, print};
use crate::cli::ScriptBenchArgs;
use crate::running::Exit;

/// Bytes of events that are held in memory.
const MAX_LOADED_BYTES: usize = 512 * 1024 * 1024;
/// Events between two looks at the clock.
const EVENTS_BETWEEN_LOOKS: usize = 64;

#[derive(Default)]
struct Counts {
    events: u64,
    bytes: u64,
    emitted: u64,
    emitted_bytes: u64,
    dropped: u64,
    dead: u64,
    failed: u64,
    first_failure: String,
}

pub(super) fn run(args: &ScriptBenchArgs) -> anyhow::Result<Exit> {
    let events = load_events(args)?;
    let loading = Instant::now();
    let mut session = load(&args.input)?;
    let ready = Ready { took: loading.elapsed(), memory_bytes: session.vm().used_memory() };
    anyhow::ensure!(!events.is_empty(), "{}: no events in it", args.input.input.display());
    let mut counts = Counts::default();
    // Once through, so that caches are filled and patterns compiled.
    for event in events.iter().take(EVENTS_BETWEEN_LOOKS) {
        session.process(event)?;
    }
    let start = Instant::now();
    let limit = Duration::from_secs(args.seconds);
    let mut turns = events.iter().cycle();
    while start.elapsed() < limit {
        for event in turns.by_ref().take(EVENTS_BETWEEN_LOOKS) {
            one(&mut session, event, &mut counts)?;
        }
    }
    let elapsed = start.elapsed();
    let text = if args.json {
        figures(&counts, elapsed, &ready)
    } else {
        report(&counts, elapsed, &ready, session.vm().used_memory())
    };
    let printed = print(text.as_bytes());
    if counts.failed > 0 {
        complain(&format!("the script failed; the first reason: {}", counts.first_failure));
        return Ok(Exit::Failed);
    }
    Ok(printed)
}

fn load_events(args: &ScriptBenchArgs) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut reader = Events::open(&args.input)?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while let Some(event) = reader.next()? {
        bytes += event.content.len();
        anyhow::ensure!(
            bytes <= MAX_LOADED_BYTES,
            "{}: more than {MAX_LOADED_BYTES} bytes of events",
            args.input.input.display()
        );
        events.push(event.content);
    }
    Ok(events)
}

fn one(session: &mut Session, event: &[u8], counts: &mut Counts) -> anyhow::Result<()> {
    let outcome = session.process(event)?;
    counts.events += 1;
    counts.bytes += event.len() as u64;
    counts.emitted += outcome.emits.len() as u64;
    counts.emitted_bytes += outcome.emits.iter().map(|emit| emit.content.len() as u64).sum::<u64>();
    match outcome.end {
        End::Done => {}
        End::Dropped(_) => counts.dropped += 1,
        End::Dead(_) => counts.dead += 1,
        End::Failed(reason) => {
            if counts.failed == 0 {
                counts.first_failure = reason;
            }
            counts.failed += 1;
        }
    }
    Ok(())
}

/// What it took until the script was loaded, libraries included.
struct Ready {
    took: Duration,
    memory_bytes: usize,
}

/// For programs.
fn figures(counts: &Counts, elapsed: Duration, ready: &Ready) -> String {
    let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
    let figures = serde_json::json!({
        "per_second": rounded(counts.events as f64 / elapsed.as_secs_f64()),
        "failed": counts.failed,
        "ready_ms": rounded(ready.took.as_secs_f64() * 1000.0),
        "ready_kib": ready.memory_bytes / 1024,
    });
    format!("{figures}\n")
}

fn report(counts: &Counts, elapsed: Duration, ready: &Ready, memory_bytes: usize) -> String {
    let seconds = elapsed.as_secs_f64();
    let events = counts.events as f64;
    let megabytes = |bytes: u64| bytes as f64 / 1_000_000.0;
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push(format!("{name:<18}{value:>14}\n"));
    row("events/s", format!("{:.0}", events / seconds));
    row("MB/s in", format!("{:.1}", megabytes(counts.bytes) / seconds));
    row("MB/s emitted", format!("{:.1}", megabytes(counts.emitted_bytes) / seconds));
    row("us an event", format!("{:.2}", seconds * 1_000_000.0 / events));
    row("emitted an event", format!("{:.2}", counts.emitted as f64 / events));
    for (name, count) in
        [("dropped", counts.dropped), ("dead", counts.dead), ("failed", counts.failed)]
    {
        if count > 0 {
            row(name, format!("{:.1} %", 100.0 * count as f64 / events));
        }
    }
    let (ms, kib) = (ready.took.as_secs_f64() * 1000.0, ready.memory_bytes / 1024);
    row("VM ready in", format!("{ms:.2} ms, {kib} KiB"));
    row("VM memory", format!("{} KiB", memory_bytes / 1024));
    row("events measured", counts.events.to_string());
    rows.concat()
}
