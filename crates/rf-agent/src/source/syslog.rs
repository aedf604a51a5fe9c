//! `syslog`: messages of devices that can do nothing else, over UDP and TCP.
//!
//! Promise, as far as the protocol has one (nobody is told what arrived): a connection is read on only after what it brought
//! is stored, so that a full queue holds up its sender. A datagram cannot wait: those that find no room are counted, by
//! reason, and the loss is logged once a window.

#[cfg(test)]
pub(super) mod contract;
mod framing;
mod parse;
mod tcp;
mod time;
mod udp;

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rf_core::config::{ByteSize, Interval, Node, Problems, schema_of};
use rf_core::event::peer_address;
use rf_net::address::Place;
use rf_net::listen::listen;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use self::framing::Frame;
use self::parse::Message;
use super::defaults::{all_interfaces, root_path};
use super::hand_over::HandOver;
use super::local_event::LocalEvent;
use super::{Listening, Source, SourceContext, SourceError};
use crate::pipeline::Output;
use crate::settings::{check_connections, not_zero};

/// `params` of a `syslog` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SyslogSourceConfig {
    /// Port to listen on; 0 takes any free one and logs which.
    pub(crate) listen_port: u16,
    /// Address to listen on: all interfaces by default.
    #[serde(default = "all_interfaces")]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub(crate) listen_address: String,
    /// UDP, TCP, or both on the same port.
    #[serde(default)]
    pub(crate) protocol: Protocol,
    /// Path of the events.
    #[serde(default = "root_path")]
    pub(crate) path: String,
    /// A longer message is cut here.
    #[serde(default = "default_max_message")]
    pub(crate) max_message_bytes: ByteSize,
    /// TCP connections at a time; further ones wait in the kernel.
    #[serde(default = "default_max_connections")]
    pub(crate) max_connections: NonZeroUsize,
    /// A TCP connection that is silent for so long is closed.
    #[serde(default = "default_idle_timeout")]
    pub(crate) idle_timeout: Interval,
    /// Datagrams that wait in memory for the queue; further ones are lost.
    #[serde(default = "default_udp_buffer")]
    pub(crate) udp_buffer_bytes: ByteSize,
}

/// `protocol`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Protocol {
    /// Both.
    #[default]
    Both,
    /// Datagrams, a message each.
    Udp,
    /// Connections.
    Tcp,
}

fn default_max_message() -> ByteSize {
    ByteSize::kib(64)
}

fn default_max_connections() -> NonZeroUsize {
    NonZeroUsize::new(256).expect("256 is not zero")
}

fn default_idle_timeout() -> Interval {
    Interval::from_secs(3600)
}

fn default_udp_buffer() -> ByteSize {
    ByteSize::mib(4)
}

/// JSON Schema of [`SyslogSourceConfig`].
pub(super) fn schema() -> Schema {
    schema_of::<SyslogSourceConfig>()
}

/// Checks the configuration and makes the source.
pub(super) fn build(
    context: &SourceContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Box<dyn Source>> {
    let mut config: SyslogSourceConfig = params.decode(problems)?;
    config.max_connections = check_connections(params, config.max_connections, problems);
    not_zero(params, &[("idleTimeout", config.idle_timeout)], problems);
    let maker = EventMaker {
        path: config.path.clone(),
        max_bytes: config.max_message_bytes.as_usize(),
        zone: TimeZone::system(),
    };
    let id = context.id.to_owned();
    Some(Box::new(Syslog { id, config, maker, tcp: None, udp: None }))
}

struct Syslog {
    id: String,
    config: SyslogSourceConfig,
    maker: EventMaker,
    tcp: Option<TcpListener>,
    udp: Option<UdpSocket>,
}

/// Messages in, events out.
#[derive(Debug, Clone)]
struct EventMaker {
    path: String,
    max_bytes: usize,
    /// The zone of times that name none.
    zone: TimeZone,
}

impl EventMaker {
    fn event(&self, peer: SocketAddr, frame: &Frame) -> Bytes {
        let text = String::from_utf8_lossy(&frame.bytes);
        let message = Message::parse(&text, Timestamp::now(), &self.zone).cut(frame.is_cut);
        let body = serde_json::to_string(&message).expect("texts and numbers are JSON");
        let peer = peer_address(peer).to_string();
        let mut event = LocalEvent::new(&self.path, body.into());
        event.ip = &peer;
        event.encode()
    }
}

impl Source for Syslog {
    fn places(&self) -> Vec<Place> {
        let (address, port) = (&self.config.listen_address, self.config.listen_port);
        match self.config.protocol {
            Protocol::Both => vec![Place::tcp(address, port), Place::udp(address, port)],
            Protocol::Udp => vec![Place::udp(address, port)],
            Protocol::Tcp => vec![Place::tcp(address, port)],
        }
    }

    fn start(&mut self) -> Result<Vec<Listening>, SourceError> {
        let fail = |reason: String| SourceError { id: self.id.clone(), reason };
        let mut places = Vec::new();
        let mut port = self.config.listen_port;
        if self.config.protocol != Protocol::Udp {
            let listener = listen(&self.config.listen_address, port)
                .map_err(|error| fail(format!("listenPort: {error}")))?;
            let address = listener.local_addr().map_err(|error| fail(error.to_string()))?;
            // With port 0 the datagrams come to the port that was chosen here.
            port = address.port();
            places.push(Listening { address, protocol: "tcp" });
            self.tcp = Some(listener);
        }
        if self.config.protocol != Protocol::Tcp {
            let socket = udp::bind(&self.config.listen_address, port).map_err(|error| {
                fail(format!("listenPort: cannot listen on UDP port {port}: {error}"))
            })?;
            let address = socket.local_addr().map_err(|error| fail(error.to_string()))?;
            places.push(Listening { address, protocol: "udp" });
            self.udp = Some(socket);
        }
        Ok(places)
    }

    fn run(
        self: Box<Self>,
        out: Output,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let Self { id, config, maker, tcp, udp } = *self;
            let datagrams = async {
                if let Some(socket) = udp {
                    let max_bytes = config.udp_buffer_bytes.as_usize();
                    // Its losses are told with those of datagrams that found no room.
                    let hand_over = HandOver::new(&id, &out, &stop);
                    udp::Datagrams::new(&maker, &hand_over, max_bytes).receive(&socket).await;
                }
            };
            let connections = async {
                if let Some(listener) = tcp {
                    let limits = tcp::Limits {
                        max_connections: config.max_connections.get(),
                        idle_timeout: config.idle_timeout.into(),
                    };
                    tcp::serve(listener, limits, tcp::Shared::new(&id, &maker, &out), &stop).await;
                }
            };
            tokio::join!(datagrams, connections);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
