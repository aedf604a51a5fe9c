//! `status` and `top`: what a relay sees, in a terminal.

mod text;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use rf_net::mask::shown;
use rf_relay::report::Report;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::status_port::{StatusPort, TOKEN_VARIABLE, token};
use super::{ended, print, told};
use crate::cli::{StatusArgs, TopArgs};
use crate::running::{Exit, run_once, run_role};
pub(super) use text::plain;

const STATUSZ: &str = "/statusz";

pub(super) fn run(args: &StatusArgs) -> Exit {
    let shown = run_once(async {
        let relay = relay(&args.relay, args.token_file.as_ref())?;
        let body = relay.get(STATUSZ).await?;
        let report = report(&args.relay, &body)?;
        let text = if args.json {
            format!("{}\n", serde_json::to_string_pretty(&report)?)
        } else {
            text::status(&report, &args.relay)
        };
        print(text.as_bytes());
        Ok(())
    });
    ended(shown)
}

pub(super) fn top(args: &TopArgs) -> Exit {
    let every = Duration::from_secs(args.every);
    ended(run_role(async |control| {
        let relay = relay(&args.relay, args.token_file.as_ref())?;
        let screen = Screen::open();
        watch(&relay, (&args.relay, every), &screen, control.stop).await
    }))
}

/// Draws again and again until `stop`; a relay that is away for a while is no end.
async fn watch(
    relay: &StatusPort,
    (url, every): (&str, Duration),
    screen: &Screen,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(every);
    let mut last = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return Ok(()),
        }
        // An answer that nobody waits for any more is not missed: a stop must not wait for a relay that is silent.
        let fetched = tokio::select! {
            fetched = relay.get(STATUSZ) => fetched.and_then(|body| report(url, &body)),
            () = stop.cancelled() => return Ok(()),
        };
        let (rows, columns) = screen.size();
        let frame = match fetched {
            Ok(report) => {
                let frame = text::top(&report, url, (rows, columns));
                last = Some(frame.clone());
                frame
            }
            Err(error) => {
                let warning = plain(&format!("NOT UP TO DATE: {}", told(&error)));
                format!("{warning}\n{}", last.as_deref().unwrap_or_default())
            }
        };
        match screen.draw(&frame) {
            // `| head` has enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            drawn => drawn?,
        }
    }
}

fn relay(url: &str, token_file: Option<&PathBuf>) -> anyhow::Result<StatusPort> {
    StatusPort::new(url, token(TOKEN_VARIABLE, token_file)?.as_deref())
}

fn report(url: &str, body: &[u8]) -> anyhow::Result<Report> {
    let mut page: Value = serde_json::from_slice(body).map_err(|_not_json| {
        let url = url.parse::<http::Uri>().map_or_else(|_bad| url.to_owned(), |uri| shown(&uri));
        anyhow::anyhow!("{url} answers, but not as the status port of a relay (portStatusZ)")
    })?;
    let report = page.get_mut("report").map(Value::take);
    let is_agent = page.get("sources").is_some() && page.get("sinks").is_some();
    anyhow::ensure!(
        report.is_some() || !is_agent,
        "this is the status port of a proxy or a player: expected that of a relay"
    );
    let report = report
        .context("the relay is too old to give a report: update it, or look at its /statusz")?;
    Ok(serde_json::from_value(report)?)
}

/// The terminal; left as it was found. Where there is none, frames follow each other.
struct Screen {
    is_terminal: bool,
}

impl Screen {
    fn open() -> Screen {
        let screen = Screen { is_terminal: io::stdout().is_terminal() };
        // A screen of its own, without a cursor.
        screen.control("\x1b[?1049h\x1b[?25l");
        screen
    }

    fn size(&self) -> (usize, usize) {
        let known = rustix::termios::tcgetwinsize(io::stdout()).ok().filter(|_| self.is_terminal);
        known.map_or((usize::MAX, 160), |size| (size.ws_row.into(), size.ws_col.into()))
    }

    fn draw(&self, frame: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.is_terminal {
            // Each line over the one that was there, and nothing left below: no flicker.
            let lines = frame.trim_end().replace('\n', "\x1b[K\r\n");
            out.write_all(format!("\x1b[H{lines}\x1b[K\x1b[J").as_bytes())?;
        } else {
            out.write_all(frame.as_bytes())?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    fn control(&self, codes: &str) {
        if self.is_terminal {
            let mut out = io::stdout().lock();
            // A terminal that has gone needs nothing any more.
            drop(out.write_all(codes.as_bytes()).and_then(|()| out.flush()));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.control("\x1b[?25h\x1b[?1049l");
    }
}
