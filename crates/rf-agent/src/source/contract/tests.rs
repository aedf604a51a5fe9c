//! The contract tells a source that keeps it from ones that do not; and the sources that have no tests of their own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rf_queue::Checkpoint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::*;
use crate::source::SourceError;

/// How a model of a source goes about its checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Right,
    CheckpointFirst,
    CheckpointLater,
    ForgetsWhatIsRefused,
    /// Likewise, and reads everything again at each start.
    StartsOverAndForgets,
}

/// A list of numbers, and a source that reads it in pieces.
struct List {
    manner: Manner,
    items: Arc<Mutex<Vec<u64>>>,
}

struct ListSource {
    manner: Manner,
    items: Arc<Mutex<Vec<u64>>>,
}

impl Origin for List {
    fn source(&self) -> Box<dyn Source> {
        Box::new(ListSource { manner: self.manner, items: Arc::clone(&self.items) })
    }

    fn write(&self, number: u64) -> BoxFuture<'_, ()> {
        self.items.lock().push(number);
        Box::pin(std::future::ready(()))
    }

    fn number(&self, event: &[u8]) -> Option<u64> {
        std::str::from_utf8(event).ok()?.parse().ok()
    }

    fn delivery(&self) -> Delivery {
        match self.manner {
            Manner::StartsOverAndForgets => Delivery::AtLeastOnce,
            _ => Delivery::ExactlyOnce,
        }
    }
}

impl Source for ListSource {
    fn run(
        self: Box<Self>,
        out: Output,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.read(&out) => {}
            }
            Ok(())
        })
    }
}

impl ListSource {
    async fn read(&self, out: &Output) {
        let starts_over = self.manner == Manner::StartsOverAndForgets;
        let forgets = starts_over || self.manner == Manner::ForgetsWhatIsRefused;
        let mut at = loop {
            if starts_over {
                break 0;
            }
            if let Ok(stored) = out.checkpoint("at").await {
                break stored.map_or(0, |at| String::from_utf8(at).unwrap().parse().unwrap());
            }
        };
        let mut most = 3;
        loop {
            sleep(Duration::from_millis(1)).await;
            let numbers: Vec<u64> = self.items.lock().iter().skip(at).take(most).copied().collect();
            if numbers.is_empty() {
                continue;
            }
            let next = at + numbers.len();
            let events = numbers.iter().map(|n| Bytes::from(n.to_string())).collect();
            match self.store(out, events, next).await {
                Ok(()) => at = next,
                Err(Rejected::TooLarge { .. }) => most = 1,
                Err(_) if forgets => at = next,
                Err(_) => {}
            }
        }
    }

    async fn store(&self, out: &Output, events: Vec<Bytes>, next: usize) -> Result<(), Rejected> {
        let key = "at".to_owned();
        let checkpoints = vec![Checkpoint { key, value: Some(next.to_string().into_bytes()) }];
        let checkpoint = Batch { events: Vec::new(), checkpoints: checkpoints.clone() };
        match self.manner {
            Manner::Right | Manner::ForgetsWhatIsRefused | Manner::StartsOverAndForgets => {
                out.send(Batch { events, checkpoints }).await
            }
            Manner::CheckpointFirst => {
                out.send(checkpoint).await?;
                out.send(Batch::of(events)).await
            }
            Manner::CheckpointLater => {
                out.send(Batch::of(events)).await?;
                out.send(checkpoint).await
            }
        }
    }
}

async fn check_manner(manner: Manner) {
    // What some of them lose is waited for in vain.
    let patience = if is_lossy(manner) { Duration::from_secs(5) } else { PATIENCE };
    check_with(patience, || List { manner, items: Arc::default() }).await;
}

fn is_lossy(manner: Manner) -> bool {
    !matches!(manner, Manner::Right | Manner::CheckpointLater)
}

#[tokio::test]
async fn a_source_that_keeps_the_contract_passes() {
    check_manner(Manner::Right).await;
}

#[tokio::test]
#[should_panic(expected = "lost")]
async fn a_checkpoint_before_its_events_is_found() {
    check_manner(Manner::CheckpointFirst).await;
}

#[tokio::test]
#[should_panic(expected = "more than once")]
async fn a_checkpoint_after_its_events_is_found() {
    check_manner(Manner::CheckpointLater).await;
}

#[tokio::test]
#[should_panic(expected = "lost")]
async fn a_refusal_that_is_not_tried_again_is_found() {
    check_manner(Manner::ForgetsWhatIsRefused).await;
}

#[tokio::test]
#[should_panic(expected = "lost")]
async fn a_refusal_that_only_the_next_start_would_mend_is_found() {
    check_manner(Manner::StartsOverAndForgets).await;
}

/// A client that posts each number until it is answered 200.
struct Client {
    port: watch::Sender<u16>,
}

async fn post(port: u16, number: u64) -> Option<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let body = number.to_string();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer.starts_with("HTTP/1.1 200 "))
}

impl Origin for Client {
    fn source(&self) -> Box<dyn Source> {
        build_source("http", &serde_json::json!({ "listenPort": 0, "listenAddress": "127.0.0.1" }))
    }

    fn started(&self, addresses: &[SocketAddr]) {
        self.port.send_replace(addresses[0].port());
    }

    fn write(&self, number: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut port = self.port.subscribe();
            loop {
                let asked = *port.borrow_and_update();
                // A killed agent answers nothing; its port is another one the next time.
                let answered = tokio::select! {
                    answered = post(asked, number) => answered,
                    _started = port.changed() => None,
                };
                if answered == Some(true) {
                    return;
                }
                sleep(LOOK).await;
            }
        })
    }

    fn number(&self, event: &[u8]) -> Option<u64> {
        let event: serde_json::Value = serde_json::from_slice(event).unwrap();
        event["body"].as_str()?.parse().ok()
    }

    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }
}

#[tokio::test]
pub(super) async fn http_keeps_the_contract() {
    check_source_contract(|| Client { port: watch::Sender::new(0) }).await;
}
