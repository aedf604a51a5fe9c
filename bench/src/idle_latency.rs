//! `idle-latency`: how long one event takes from capture to target while nothing else moves.
//!
//! It is both ends of the way: it posts to the proxy, and it is the target that the player replays to. The clock runs
//! from just before the post until the target has the whole request, once a second.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::client::Client;
use crate::stats::Latencies;
use crate::{body, out};

/// An event that takes longer counts as lost and makes the run void.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// Arrivals that may wait to be looked at; one is on its way at a time, the rest are repeats.
const ARRIVALS: usize = 64;

/// Posts one request a second to a proxy and measures until it reaches the target, which is this program.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of the proxy's http source
    url: String,
    /// Port on loopback where the player's target is expected
    #[arg(long)]
    target_port: u16,
    /// Requests to send, one a second, after one that warms the way up
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// A request at the target.
struct Arrival {
    path: String,
    at: Instant,
}

/// Measures and prints p50, p99 and the slowest.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, args.target_port))).await?;
    let (sender, mut arrivals) = mpsc::channel(ARRIVALS);
    let mut target = JoinSet::new();
    target.spawn(serve_target(listener, sender));

    let client = Client::new();
    let proxy = args.url.trim_end_matches('/');
    way(&client, proxy, "/warm-up", &mut arrivals).await?;
    let mut latencies = Vec::new();
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0..args.seconds {
        second.tick().await;
        latencies.push(way(&client, proxy, &format!("/idle/{number}"), &mut arrivals).await?);
    }
    target.shutdown().await;
    let latencies = Latencies::new(latencies);
    out::figures(&serde_json::json!({
        "requests": latencies.len(),
        "p50_ms": out::rounded(latencies.per_mille_ms(500)),
        "p99_ms": out::rounded(latencies.per_mille_ms(990)),
        "max_ms": out::rounded(latencies.max_ms()),
    }))
}

/// Sends one event the whole way.
async fn way(
    client: &Client,
    proxy: &str,
    path: &str,
    arrivals: &mut mpsc::Receiver<Arrival>,
) -> anyhow::Result<Duration> {
    let start = Instant::now();
    client
        .send_ok(
            Method::POST,
            &format!("{proxy}{path}"),
            &[],
            Bytes::from_static(b"{\"idle\":true}"),
        )
        .await?;
    let arrived = timeout(LOST_AFTER, async {
        while let Some(arrival) = arrivals.recv().await {
            if arrival.path == path {
                return Some(arrival.at);
            }
        }
        None
    });
    let at = arrived
        .await
        .with_context(|| format!("{path} has not arrived"))?
        .context("the target has ended")?;
    Ok(at - start)
}

async fn serve_target(
    listener: TcpListener,
    arrivals: mpsc::Sender<Arrival>,
) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _peer) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(stream, arrivals.clone()));
    }
}

async fn connection(stream: TcpStream, arrivals: mpsc::Sender<Arrival>) {
    let service = service_fn(|request| answer(request, &arrivals));
    // A player that goes away is noticed where its event is missed.
    drop(stream.set_nodelay(true));
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(
    request: Request<Incoming>,
    arrivals: &mpsc::Sender<Arrival>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    if body::read(request.into_body()).await.is_ok() {
        // The receiver is gone only when the run is over.
        drop(arrivals.send(Arrival { path, at: Instant::now() }).await);
    }
    Ok(Response::new(Full::default()))
}
