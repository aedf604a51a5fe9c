//! `status` and `top`: what a relay sees, in a terminal.

mod text;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use rf_net::body::read_capped;
use rf_net::client::{Client, ClientOptions};
use rf_relay::report::Report;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{complain, print};
use crate::cli::{StatusArgs, TopArgs};
use crate::config_file::environment;
use crate::running::{Exit, run_role};
pub(super) use text::plain;

/// How long the relay may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A status of a thousand nodes is a few MiB.
const MAX_STATUS_BYTES: usize = 64 * 1024 * 1024;
/// The variable that holds `statusAuth` of the relay.
const TOKEN_VARIABLE: &str = "RF_STATUS_TOKEN";

pub(super) fn run(args: &StatusArgs) -> Exit {
    let shown = run_role(async |_control| {
        let relay = Relay::new(&args.relay, args.token_file.as_ref())?;
        let body = relay.statusz().await?;
        let report = report(&body)?;
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
        let relay = Relay::new(&args.relay, args.token_file.as_ref())?;
        let screen = Screen::open();
        watch(&relay, (&args.relay, every), &screen, control.stop).await
    }))
}

/// Draws again and again until `stop`; a relay that is away for a while is no end.
async fn watch(
    relay: &Relay,
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
        let fetched = match relay.statusz().await {
            Ok(body) => report(&body),
            Err(error) => Err(error),
        };
        let (rows, columns) = screen.size();
        let frame = match fetched {
            Ok(report) => {
                let frame = text::top(&report, url, (rows, columns));
                last = Some(frame.clone());
                frame
            }
            Err(error) => {
                let warning = plain(&format!("NOT UP TO DATE: {error:#}"));
                format!("{warning}\n{}", last.as_deref().unwrap_or_default())
            }
        };
        screen.draw(&frame)?;
    }
}

fn ended(outcome: anyhow::Result<()>) -> Exit {
    match outcome {
        Ok(()) => Exit::Ok,
        Err(error) => {
            complain(&format!("{error:#}"));
            Exit::Failed
        }
    }
}

fn report(body: &[u8]) -> anyhow::Result<Report> {
    let mut page: Value =
        serde_json::from_slice(body).context("the answer is not the status of a relay")?;
    let report = page.get_mut("report").map(Value::take);
    let report = report
        .context("the relay is too old to tell a report: update it, or look at its /statusz")?;
    Ok(serde_json::from_value(report)?)
}

/// A relay's status port.
struct Relay {
    url: String,
    token: Option<HeaderValue>,
    client: Client,
}

impl Relay {
    fn new(url: &str, token_file: Option<&PathBuf>) -> anyhow::Result<Relay> {
        let token = token(TOKEN_VARIABLE, token_file)?;
        let bearer = |token: String| -> anyhow::Result<HeaderValue> {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .context("the token cannot be sent as a header")?;
            value.set_sensitive(true);
            Ok(value)
        };
        Ok(Relay {
            url: format!("{}/statusz", url.trim_end_matches('/')),
            token: token.map(bearer).transpose()?,
            client: Client::new(&ClientOptions::default())?,
        })
    }

    async fn statusz(&self) -> anyhow::Result<Bytes> {
        let mut request = Request::get(&self.url).body(Full::new(Bytes::new()))?;
        if let Some(token) = &self.token {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        let answer = self.client.send(request, TIMEOUT).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => anyhow::bail!(
                "the relay asks for a token: set {TOKEN_VARIABLE} to its statusAuth, or use --token-file"
            ),
            other => anyhow::bail!("{} answered {other}", self.url),
        }
        Ok(read_capped(answer.into_body(), MAX_STATUS_BYTES, TIMEOUT).await?)
    }
}

/// A token from a file, or from the environment: never from the command line, where everybody on the machine sees it.
pub(super) fn token(variable: &str, file: Option<&PathBuf>) -> anyhow::Result<Option<String>> {
    let Some(file) = file else { return Ok(environment(variable)) };
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(Some(text.trim_end().to_owned()))
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
