//! `sink-load`: puts the events of [`crate::sink_sample`] into a bucket, in the batches of `bare-rows`. Nothing is measured.

use bytes::Bytes;
use hyper::Method;

use crate::client::Client;
use crate::out;
use crate::sample::{self, BATCH_EVENTS};
use crate::sink_sample::Kind;

/// Posts batches of 1000 events to a relay.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of the relay, as in <http://127.0.0.1:8081>
    url: String,
    /// For which sink
    #[arg(long, value_enum)]
    kind: Kind,
    /// Batches to send
    #[arg(long, default_value_t = 200)]
    batches: usize,
}

/// Sends, one batch after the other, so that they arrive in the order of `bare-rows`.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let client = Client::new();
    let url = format!("{}/record-batch", args.url.trim_end_matches('/'));
    for number in 0..args.batches {
        let events = args.kind.batch(number).into_iter().map(|sample| sample.event).collect();
        let headers = [
            ("authorization", "Bearer t"),
            ("rf-buckets", "b"),
            ("content-type", "application/json"),
            ("content-encoding", "zstd"),
        ];
        let body: Bytes = sample::zstd_body(&events)?;
        client.send_ok(Method::POST, &url, &headers, body).await?;
    }
    out::figures(&serde_json::json!({ "events": args.batches * BATCH_EVENTS }))
}
