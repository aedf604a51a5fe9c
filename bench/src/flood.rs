//! `flood`: many who ask a server the same things again and again, at a rate that is bounded.
//!
//! Each connection asks one thing after the other, in turn, and never before its time; a server that is slower gets
//! fewer requests, not a growing queue, so that what a flood costs does not depend on how long it is. Every second a line
//! with the figures so far is printed, so that whoever ends the flood has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Method;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::client::Client;
use crate::out;
use crate::stats::Latencies;

/// Latencies that are kept; of a longer flood the first ones.
const MAX_SAMPLES: usize = 1_000_000;

/// Asks at a bounded rate until the process is ended, or for so many seconds, and prints figures each second.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// What is asked, in turn
    #[arg(required = true)]
    urls: Vec<String>,
    /// Requests a second, of all connections together
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Connections
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    /// A stream of server-sent events that readers keep open
    #[arg(long)]
    live: Option<String>,
    /// How many of them
    #[arg(long, default_value_t = 0)]
    readers: u32,
    /// The end, if nobody ends it before
    #[arg(long, default_value_t = 600)]
    seconds: u64,
}

#[derive(Default)]
struct Seen {
    answered: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    events: AtomicU64,
    latencies: Mutex<Vec<Duration>>,
}

/// Floods; fails when nothing at all is answered.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let seen = Arc::new(Seen::default());
    let start = Instant::now();
    let mut open = JoinSet::new();
    for number in 0..args.connections {
        open.spawn(connection(args.clone(), number, start, Arc::clone(&seen)));
    }
    for live in args.live.iter().cycle().take(args.readers as usize) {
        open.spawn(reader(live.clone(), Arc::clone(&seen)));
    }
    let mut seconds = interval_at(start + Duration::from_secs(1), Duration::from_secs(1));
    for _ in 0..args.seconds {
        seconds.tick().await;
        out::figures(&seen.figures(start.elapsed()))?;
    }
    open.shutdown().await;
    anyhow::ensure!(seen.answered.load(Ordering::Relaxed) > 0, "nothing was answered");
    Ok(())
}

async fn connection(args: Args, number: u32, start: Instant, seen: Arc<Seen>) {
    let client = Client::new();
    let pause = Duration::from_secs(1) * args.connections / args.rate;
    let mut due = interval_at(start + pause * number / args.connections, pause);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let headers = [("accept", "text/html, */*"), ("accept-encoding", "gzip")];
    for url in args.urls.iter().cycle().skip(number as usize % args.urls.len()) {
        due.tick().await;
        let asked = Instant::now();
        match client.send(Method::GET, url, &headers, Bytes::new()).await {
            Ok(answer) if (200..300).contains(&answer.status) => {
                seen.answered(answer.body.len(), asked.elapsed());
            }
            Ok(_refused) => one_more(&seen.refused),
            Err(_broken) => one_more(&seen.failed),
        }
    }
}

async fn reader(url: String, seen: Arc<Seen>) {
    let client = Client::new();
    let answer = client.open(Method::GET, &url, &[("accept", "text/event-stream")], Bytes::new());
    let mut body = match answer.await {
        Ok(answer) if answer.status().is_success() => answer.into_body(),
        Ok(_refused) => return one_more(&seen.refused),
        Err(_broken) => return one_more(&seen.failed),
    };
    while let Some(Ok(_event)) = body.frame().await {
        one_more(&seen.events);
    }
}

fn one_more(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Seen {
    fn answered(&self, bytes: usize, took: Duration) {
        one_more(&self.answered);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut latencies = self.latencies.lock();
        if latencies.len() < MAX_SAMPLES {
            latencies.push(took);
        }
    }

    fn figures(&self, elapsed: Duration) -> serde_json::Value {
        let latencies = Latencies::new(self.latencies.lock().clone());
        let answered = self.answered.load(Ordering::Relaxed);
        serde_json::json!({
            "answered": answered,
            "per_second": out::rounded(answered as f64 / elapsed.as_secs_f64()),
            "not_ok": self.refused.load(Ordering::Relaxed) + self.failed.load(Ordering::Relaxed),
            "bytes": self.bytes.load(Ordering::Relaxed),
            "events": self.events.load(Ordering::Relaxed),
            "p50_ms": out::rounded(latencies.per_mille_ms(500)),
            "p99_ms": out::rounded(latencies.per_mille_ms(990)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bare_server;
    use tokio::net::TcpListener;

    #[tokio::test(flavor = "multi_thread")]
    async fn connections_ask_in_turn_and_never_faster_than_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(bare_server::serve(listener, Arc::default()));
        let args = Args {
            urls: vec![format!("http://{address}/a"), format!("http://{address}/_count")],
            rate: 200,
            connections: 4,
            live: None,
            readers: 0,
            seconds: 1,
        };
        let start = Instant::now();
        let seen = Arc::new(Seen::default());
        let mut open = JoinSet::new();
        for number in 0..args.connections {
            open.spawn(connection(args.clone(), number, start, Arc::clone(&seen)));
        }
        while seen.answered.load(Ordering::Relaxed) < 60 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let elapsed = start.elapsed();
        open.shutdown().await;
        // 60 at 200 a second, each of four connections one step ahead.
        assert!(elapsed >= Duration::from_millis(270), "{elapsed:?}");
        let figures = seen.figures(elapsed);
        assert_eq!(figures["not_ok"], 0);
        assert!(figures["bytes"].as_u64() > Some(0), "one of the two has a body: {figures}");
        server.shutdown().await;
    }
}
