//! `open-loop`: latency at a fixed rate, without coordinated omission.
//!
//! Request `n` is due at `start + n / rate`, whatever became of the ones before, and its latency counts from then: a
//! server that stalls for 100 ms is charged for every request that was due meanwhile, not for one. A pacing thread
//! gives out a permit for each due request; whichever connection is free takes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::out;
use crate::stats::Latencies;

/// Body of a request: a JSON object of so many bytes.
const BODY_BYTES: usize = 500;

/// Latencies of a beginning, while connections are made, are not counted.
const WARM_UP: Duration = Duration::from_millis(500);

/// Posts at a fixed rate and measures latency from the moment each request was due.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to post
    url: String,
    /// Requests a second
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Keep-alive connections
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// How long, after the warm-up of half a second
    #[arg(long, default_value_t = 8)]
    seconds: u64,
}

/// When each request is due, and how many are.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    start: Instant,
    rate: u32,
    requests: u64,
}

impl Schedule {
    fn due(&self, request: u64) -> Instant {
        self.start + Duration::from_secs_f64(request as f64 / f64::from(self.rate))
    }

    fn counts(&self, request: u64) -> bool {
        self.due(request) >= self.start + WARM_UP
    }
}

/// What one connection saw.
#[derive(Default)]
struct Seen {
    latencies: Vec<Duration>,
    failures: Vec<anyhow::Error>,
}

/// Runs the load and prints p50, p99, p99.9 and the slowest; a request that was not answered 2xx makes the run void.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let duration = WARM_UP + Duration::from_secs(args.seconds);
    let requests = u64::try_from(u128::from(args.rate) * duration.as_millis() / 1000)?;
    let schedule = Schedule { start: Instant::now(), rate: args.rate, requests };
    let seen = drive(&args.url, args.connections, schedule).await?;
    let elapsed = schedule.start.elapsed().as_secs_f64();
    let failed = seen.failures.len();
    if let Some(first) = seen.failures.into_iter().next() {
        return Err(first.context(format!("{failed} of {requests} requests failed")));
    }
    let latencies = Latencies::new(seen.latencies);
    out::figures(&serde_json::json!({
        "requests": latencies.len(),
        "per_second": out::rounded(requests as f64 / elapsed),
        "p50_ms": out::rounded(latencies.per_mille_ms(500)),
        "p99_ms": out::rounded(latencies.per_mille_ms(990)),
        "p999_ms": out::rounded(latencies.per_mille_ms(999)),
        "max_ms": out::rounded(latencies.max_ms()),
    }))
}

/// Runs one schedule over so many connections.
async fn drive(url: &str, connections: u32, schedule: Schedule) -> anyhow::Result<Seen> {
    let due = Arc::new(Semaphore::new(0));
    let next = Arc::new(AtomicU64::new(0));
    let mut open = JoinSet::new();
    for _ in 0..connections {
        open.spawn(connection(url.to_owned(), schedule, Arc::clone(&due), Arc::clone(&next)));
    }
    let last_permits = open.len();
    let pacer = std::thread::spawn(move || pace(schedule, last_permits, &due));
    let mut all = Seen::default();
    while let Some(seen) = open.join_next().await {
        let seen = seen?;
        all.latencies.extend(seen.latencies);
        all.failures.extend(seen.failures);
    }
    pacer.join().map_err(|_panic| anyhow::anyhow!("the pacing thread panicked"))?;
    Ok(all)
}

/// Gives out a permit as each request falls due, and at the end one for each connection to find out that it is over.
fn pace(schedule: Schedule, connections: usize, due: &Semaphore) {
    for request in 0..schedule.requests {
        let wait = schedule.due(request).saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            #[expect(
                clippy::disallowed_methods,
                reason = "tokio's timer ticks each millisecond: five requests too coarse"
            )]
            std::thread::sleep(wait);
        }
        due.add_permits(1);
    }
    due.add_permits(connections);
}

async fn connection(
    url: String,
    schedule: Schedule,
    due: Arc<Semaphore>,
    next: Arc<AtomicU64>,
) -> Seen {
    let client = Client::new();
    let body = Bytes::from(format!(
        "{{\"fill\":\"{}\"}}",
        "x".repeat(BODY_BYTES - r#"{"fill":""}"#.len())
    ));
    let mut seen = Seen::default();
    loop {
        due.acquire().await.expect("nobody closes it").forget();
        // Numbered after the permit: the n-th permit given out stands for request n, so this one is due.
        let request = next.fetch_add(1, Ordering::Relaxed);
        if request >= schedule.requests {
            return seen;
        }
        let answer = client
            .send_ok(Method::POST, &url, &[("content-type", "application/json")], body.clone())
            .await;
        match answer {
            Ok(_answered) if schedule.counts(request) => {
                seen.latencies.push(schedule.due(request).elapsed());
            }
            Ok(_warm_up) => {}
            Err(error) => seen.failures.push(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bare_server;
    use tokio::net::TcpListener;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_request_that_could_not_be_sent_when_it_was_due_is_charged_for_the_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(bare_server::serve(listener, Arc::default()));

        // As after a stall of ten seconds: all 60 requests were due in its first 0.6 s, the last ten after the warm-up.
        let start = Instant::now() - Duration::from_secs(10);
        let seen = drive(&url, 4, Schedule { start, rate: 100, requests: 60 }).await.unwrap();
        let least = Duration::from_millis(9_400);
        assert!(seen.failures.is_empty(), "{:?}", seen.failures);
        assert_eq!(seen.latencies.len(), 10);
        assert!(seen.latencies.iter().all(|latency| *latency >= least), "{:?}", seen.latencies);
        server.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_request_goes_before_it_is_due() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(bare_server::serve(listener, Arc::default()));

        let schedule = Schedule { start: Instant::now(), rate: 1000, requests: 50 };
        drive(&url, 4, schedule).await.unwrap();
        assert!(schedule.start.elapsed() >= Duration::from_millis(49));
        server.shutdown().await;
    }
}
