//! The contract of sources, with a device that has one TCP connection. Datagrams have none: they may be lost on their way.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::source::Source;
use crate::source::contract::{Origin, Survives, build_source, check_source_contract};

/// Sends each number as a message.
#[derive(Default)]
struct Device {
    port: AtomicU16,
    connection: Mutex<Option<TcpStream>>,
}

impl Device {
    /// A connection, as soon as the source listens.
    async fn connect(&self) -> TcpStream {
        loop {
            let port = self.port.load(Ordering::SeqCst);
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await {
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Origin for Device {
    fn source(&self) -> Box<dyn Source> {
        let params = json!({ "listenPort": 0, "listenAddress": "127.0.0.1", "protocol": "tcp" });
        build_source("syslog", &params)
    }

    fn started(&self, addresses: &[SocketAddr]) {
        self.port.store(addresses[0].port(), Ordering::SeqCst);
    }

    fn write(&self, number: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut kept = self.connection.lock().await;
            if kept.is_none() {
                *kept = Some(self.connect().await);
            }
            let stream = kept.as_mut().expect("just connected");
            stream.write_all(format!("<13>item {number}\n").as_bytes()).await.unwrap();
        })
    }

    fn number(&self, event: &[u8]) -> Option<u64> {
        let event: Value = serde_json::from_slice(event).ok()?;
        let body: Value = serde_json::from_str(event["body"].as_str()?).ok()?;
        body["message"].as_str()?.strip_prefix("item ")?.parse().ok()
    }

    /// Nobody tells a device what has arrived.
    fn survives(&self) -> Survives {
        Survives::Refusals
    }
}

#[tokio::test]
pub(crate) async fn a_connection_keeps_the_contract() {
    check_source_contract(Device::default).await;
}
