//! Datagrams: received without a pause, stored beside that; what finds no room is lost and counted.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

use super::EventMaker;
use super::framing::Frame;
use crate::source::hand_over::{HandOver, HandedOver};
use crate::stats::{Counts, Loss};

/// The longest datagram of IP.
const MAX_DATAGRAM: usize = 64 * 1024;
/// Asked of the kernel for datagrams that wait to be read; it gives `net.core.rmem_max` at most.
const KERNEL_BUFFER: usize = 4 * 1024 * 1024;
/// Losses are logged at most once in this time.
const LOSS_WINDOW: Duration = Duration::from_secs(60);
/// Most events that are stored together.
const MAX_BATCH: usize = 1000;

/// Listens for datagrams.
pub(super) fn bind(address: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind((address, port))?;
    socket.set_nonblocking(true)?;
    // A smaller buffer works, too.
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, KERNEL_BUFFER).unwrap_or_default();
    UdpSocket::from_std(socket)
}

/// Datagrams on their way into the queues.
pub(super) struct Datagrams<'a> {
    maker: &'a EventMaker,
    hand_over: &'a HandOver<'a>,
    /// What waits, and the bound of its bytes.
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    max_bytes: usize,
    report: Report,
}

impl<'a> Datagrams<'a> {
    pub(super) fn new(
        maker: &'a EventMaker,
        hand_over: &'a HandOver<'a>,
        max_bytes: usize,
    ) -> Self {
        let report = Report::default();
        Self { maker, hand_over, waiting: Vec::new(), waiting_bytes: 0, max_bytes, report }
    }

    /// Until the stop; what has been received by then is stored, if a queue takes it.
    pub(super) async fn receive(mut self, socket: &UdpSocket) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut storing: Option<BoxFuture<'a, HandedOver>> = None;
        while !self.hand_over.stop.is_cancelled() {
            if storing.is_none() && !self.waiting.is_empty() {
                storing = Some(self.begin_storing());
            }
            let window = self.report.window;
            // Every arm is cancel-safe: what is being stored stays in its future.
            tokio::select! {
                () = self.hand_over.stop.cancelled() => {}
                received = socket.recv_from(&mut buffer) => match received {
                    Ok((count, peer)) => self.take(peer, &buffer[..count]),
                    Err(error) => tracing::debug!(source = self.hand_over.id, %error, "a datagram is broken"),
                },
                stored = async { storing.as_mut().expect("guarded").await }, if storing.is_some() => {
                    storing = None;
                    self.settle(&stored);
                }
                () = async { sleep_until(window.expect("guarded")).await }, if window.is_some() => {
                    self.tell();
                }
            }
        }
        if let Some(storing) = storing {
            let stored = storing.await;
            self.settle(&stored);
        }
        while !self.waiting.is_empty() {
            let stored = self.begin_storing().await;
            self.settle(&stored);
        }
        self.tell();
    }

    fn take(&mut self, peer: SocketAddr, datagram: &[u8]) {
        // Many a device ends its text as one in C.
        let ends = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
        let length = datagram.iter().rposition(|byte| !ends(byte)).map_or(0, |last| last + 1);
        let kept = length.min(self.maker.max_bytes);
        if kept == 0 {
            return;
        }
        let (bytes, is_cut) = (Bytes::copy_from_slice(&datagram[..kept]), kept < length);
        self.hand_over.out.meter().cut(usize::from(is_cut));
        let event = self.maker.event(peer, &Frame { bytes, is_cut });
        if self.waiting_bytes + event.len() > self.max_bytes {
            self.lose(Loss::Memory, 1);
            return;
        }
        self.waiting_bytes += event.len();
        self.waiting.push(event);
    }

    fn begin_storing(&mut self) -> BoxFuture<'a, HandedOver> {
        let count = self.waiting.len().min(MAX_BATCH);
        let events: Vec<Bytes> = self.waiting.drain(..count).collect();
        self.waiting_bytes -= events.iter().map(Bytes::len).sum::<usize>();
        Box::pin(self.hand_over.store(events))
    }

    fn settle(&mut self, stored: &HandedOver) {
        if let HandedOver::Stopped(events) = stored {
            self.lose(Loss::Stopping, *events);
        }
    }

    fn lose(&mut self, loss: Loss, datagrams: usize) {
        self.hand_over.out.meter().losses.count(loss, datagrams);
        let report = &mut self.report;
        if report.window.is_none() {
            // The first loss is told soon, so that somebody who watches sees it; then once in a window.
            let is_first = report.told == Counts::default();
            let wait = if is_first { Duration::from_secs(1) } else { LOSS_WINDOW };
            report.window = Some(Instant::now() + wait);
        }
    }

    fn tell(&mut self) {
        self.report.window = None;
        let counts = self.hand_over.out.meter().losses.counts();
        let new = counts.since(self.report.told);
        self.report.told = counts;
        if new.total() > 0 {
            tracing::error!(
                source = self.hand_over.id,
                datagrams = new.total(),
                reasons = %new,
                "syslog datagrams are lost: raise udpBufferBytes, or the sink's buffer.maxBytes"
            );
        }
    }
}

/// When losses are told, and which have been.
#[derive(Debug, Default)]
struct Report {
    /// Set by a loss.
    window: Option<Instant>,
    told: Counts,
}
