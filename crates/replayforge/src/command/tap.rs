//! `tap`: the events of a bucket as they pass, without taking them.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use rf_core::backoff::Backoff;
use rf_core::protocol::RF_BUCKET;
use rf_net::body::read_capped;
use rf_net::client::{Client, ClientError, ClientOptions};
use rf_net::mask::Mask;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::status_port::token;
use super::{complain, ended};
use crate::cli::TapArgs;
use crate::running::{Exit, run_role};

/// How long the relay may take to begin.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The relay says something each 15 s, if only that it is there.
const SILENCE: Duration = Duration::from_secs(45);
/// An event is not larger than this with its escapes.
const MAX_LINE_BYTES: usize = 128 * 1024 * 1024;
const MAX_REFUSAL_BYTES: usize = 64 * 1024;
/// What a relay answers with.
const TAP_TYPE: &[u8] = b"application/x-ndjson";
/// The variable that holds the bucket's token.
const TOKEN_VARIABLE: &str = "RF_BUCKET_TOKEN";

pub(super) fn run(args: &TapArgs) -> Exit {
    ended(run_role(async |control| tap(args, control.stop).await))
}

/// Why reading along has ended.
enum End {
    /// As many as asked for, or nobody reads what is printed.
    Enough,
    /// The relay, or the way to it, has gone: it is asked again.
    Away(String),
}

async fn tap(args: &TapArgs, stop: CancellationToken) -> anyhow::Result<()> {
    let token = token(TOKEN_VARIABLE, args.token_file.as_ref())?.with_context(|| {
        format!("the bucket's token is needed: set {TOKEN_VARIABLE}, or use --token-file")
    })?;
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
        .context("the token cannot be sent as a header")?;
    bearer.set_sensitive(true);
    let client = Client::new(&ClientOptions::default())?;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut printer = Printer { args, shown: 0, is_terminal: io::stdout().is_terminal() };
    loop {
        let end = tokio::select! {
            end = read_along(args, &client, &bearer, &mut printer, &mut backoff) => end?,
            () = stop.cancelled() => return Ok(()),
        };
        let End::Away(reason) = end else { return Ok(()) };
        complain(&format!("{reason}; trying again, events in the meantime are not shown"));
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

async fn read_along(
    args: &TapArgs,
    client: &Client,
    bearer: &HeaderValue,
    printer: &mut Printer<'_>,
    backoff: &mut Backoff,
) -> anyhow::Result<End> {
    let request = Request::get(format!("{}/tap", args.relay.trim_end_matches('/')))
        .header(RF_BUCKET, &args.bucket)
        .header(header::AUTHORIZATION, bearer.clone())
        .body(Full::new(Bytes::new()))?;
    let mask = Mask::of(request.uri(), request.headers());
    let answer = match client.send(request, TIMEOUT).await {
        Ok(answer) => answer,
        Err(error @ ClientError::NoTarget) => return Err(error.into()),
        Err(error) => return Ok(End::Away(error.to_string())),
    };
    match answer.status() {
        StatusCode::OK if is_tap(answer.headers()) => {
            lines(answer.into_body(), printer, backoff).await
        }
        StatusCode::OK => anyhow::bail!(
            "{} answered, but not as a relay's API: is it the relay's `port`, not `portStatusZ`?",
            args.relay
        ),
        StatusCode::NOT_FOUND => anyhow::bail!(
            "{} has no such path: is it a relay's API (its `port`), of a relay that is new enough to be tapped?",
            args.relay
        ),
        status => {
            let text = read_capped(answer.into_body(), MAX_REFUSAL_BYTES, TIMEOUT).await?;
            let text = mask.text(&String::from_utf8_lossy(&text));
            if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                return Ok(End::Away(format!("the relay answered {status}: {text}")));
            }
            anyhow::bail!("the relay answered {status}: {text}")
        }
    }
}

/// Every path of a status port is answered with 200.
fn is_tap(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(TAP_TYPE))
}

/// One JSON object a line; an empty line says that the relay is there. Each is a reason to try again soon when it goes.
async fn lines(
    mut body: Incoming,
    printer: &mut Printer<'_>,
    backoff: &mut Backoff,
) -> anyhow::Result<End> {
    let mut rest = BytesMut::new();
    loop {
        let frame = match tokio::time::timeout(SILENCE, body.frame()).await {
            Err(_elapsed) => return Ok(End::Away("the relay no longer responds".to_owned())),
            Ok(None) => return Ok(End::Away("the relay has stopped".to_owned())),
            Ok(Some(Err(error))) => return Ok(End::Away(error.to_string())),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        rest.extend_from_slice(&data);
        while let Some(end) = memchr::memchr(b'\n', &rest) {
            let line = rest.split_to(end + 1);
            backoff.reset();
            if !printer.line(line.trim_ascii())? {
                return Ok(End::Enough);
            }
        }
        anyhow::ensure!(rest.len() <= MAX_LINE_BYTES, "a line from the relay is too long");
    }
}

struct Printer<'a> {
    args: &'a TapArgs,
    shown: u64,
    is_terminal: bool,
}

impl Printer<'_> {
    /// Whether more is wanted.
    fn line(&mut self, line: &[u8]) -> anyhow::Result<bool> {
        if line.is_empty() {
            return Ok(true);
        }
        let value: Value = serde_json::from_slice(line).context("not a line of a tap")?;
        if let Some(skipped) = value["skipped"].as_u64() {
            complain(&format!(
                "{skipped} events are not shown: they came in faster than they were read"
            ));
            return Ok(true);
        }
        let content = value["content"].as_str().unwrap_or_default();
        let wanted =
            self.args.filter.as_ref().is_none_or(|filter| content.contains(filter.as_str()));
        if !wanted {
            return Ok(true);
        }
        let text = match (self.args.json, self.is_terminal) {
            (true, _) => value.to_string(),
            // What an event holds must not steer the terminal.
            (false, true) => super::status::plain(content),
            (false, false) => content.to_owned(),
        };
        let mut out = io::stdout().lock();
        if let Err(error) = out
            .write_all(text.as_bytes())
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush())
        {
            // `| head` has enough.
            return if error.kind() == io::ErrorKind::BrokenPipe {
                Ok(false)
            } else {
                Err(error.into())
            };
        }
        self.shown += 1;
        Ok(self.args.limit.is_none_or(|limit| self.shown < limit))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn a_relay_that_was_there_is_asked_again_as_soon_as_at_first() {
        let relay = TcpListener::bind("127.0.0.1:0").unwrap();
        let args = TapArgs {
            relay: format!("http://{}", relay.local_addr().unwrap()),
            bucket: "b".to_owned(),
            token_file: None,
            filter: None,
            limit: None,
            json: false,
        };
        let relay = thread::spawn(move || {
            let (mut tap, _) = relay.accept().unwrap();
            assert!(tap.read(&mut [0; 4096]).unwrap() > 0);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n";
            tap.write_all(format!("{head}Content-Length: 1\r\n\r\n\n").as_bytes()).unwrap();
        });
        let client = Client::new(&ClientOptions::default()).unwrap();
        let mut printer = Printer { args: &args, shown: 0, is_terminal: false };
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let at_first = format!("{backoff:?}");
        backoff.next_delay();
        let bearer = HeaderValue::from_static("Bearer t");
        let end = read_along(&args, &client, &bearer, &mut printer, &mut backoff).await.unwrap();
        relay.join().unwrap();
        assert!(matches!(end, End::Away(_)));
        assert_eq!(format!("{backoff:?}"), at_first);
    }
}
