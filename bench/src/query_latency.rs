//! `query-latency`: how long a query takes, from the request until the whole answer is there.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use tokio::time::Instant;

use crate::client::Client;
use crate::out;
use crate::stats::Latencies;

const AS_A_BROWSER: [(&str, &str); 2] = [("accept", "text/html"), ("accept-encoding", "gzip")];

/// Asks the same again and again, and says how long that took.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What is asked, as in <http://127.0.0.1:8090/db/rpf-db/orders?limit=10>
    url: String,
    /// How often, after one time that does not count
    #[arg(long, default_value_t = 20)]
    times: usize,
    /// Rests before each, in milliseconds, as for a server that answers a second long with what it has
    #[arg(long, default_value_t = 0)]
    pause_ms: u64,
    /// Asks as a browser does, which takes HTML and gzip
    #[arg(long)]
    browser: bool,
    /// Prints the answer instead
    #[arg(long)]
    body: bool,
}

/// Asks and prints the median and the slowest.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let client = Client::new();
    let headers: &[(&str, &str)] = if args.browser { &AS_A_BROWSER } else { &[] };
    if args.body {
        let body = client.send_ok(Method::GET, &args.url, headers, Bytes::new()).await?;
        return out::line(&String::from_utf8_lossy(&body));
    }
    let mut bytes = 0;
    let mut samples = Vec::with_capacity(args.times);
    for time in 0..=args.times {
        tokio::time::sleep(Duration::from_millis(args.pause_ms)).await;
        let start = Instant::now();
        let body = client.send_ok(Method::GET, &args.url, headers, Bytes::new()).await?;
        if time > 0 {
            samples.push(start.elapsed());
        }
        anyhow::ensure!(body.len() > 2, "{} answered with nothing", args.url);
        bytes = body.len();
    }
    let latencies = Latencies::new(samples);
    out::figures(&serde_json::json!({
        "p50_ms": out::rounded(latencies.per_mille_ms(500)),
        "max_ms": out::rounded(latencies.max_ms()),
        "bytes": bytes,
        "kib": out::rounded(bytes as f64 / 1024.0),
    }))
}
