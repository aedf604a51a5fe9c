//! Over real sockets, into a real queue.

use std::sync::Arc;
use std::time::Duration;

use rf_core::event::ReplayRequest;
use rf_queue::{Budget, QueueOptions, Store, StoreOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{EventMaker, Frame};
use crate::pipeline::Output;
use crate::source::SourceError;
use crate::source::contract::build_source;
use crate::stats::SourceMeter;

const SOON: Duration = Duration::from_secs(20);

struct Rig {
    _folder: tempfile::TempDir,
    store: Store,
    meter: Arc<SourceMeter>,
    port: u16,
    stop: CancellationToken,
}

/// Runs `test` beside a source with these keys, and stops it then; what the queue has in the end.
async fn with_source(params: Value, test: impl AsyncFnOnce(&Rig)) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let mut queue = QueueOptions::new("q");
    queue.max_bytes = Some(2 << 20);
    let options = StoreOptions::new(folder.path().join("q.sqlite3"), 4 << 20, vec![queue]);
    let store = Store::open(options).unwrap().store;
    let out = Output::new(store.clone(), vec![store.queue("q").unwrap()]);
    let mut keys = json!({ "listenPort": 0, "listenAddress": "127.0.0.1" });
    keys.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
    let mut source = build_source("syslog", &keys);
    let port = source.start().unwrap()[0].address.port();
    let stop = CancellationToken::new();
    let meter = Arc::clone(out.meter());
    let rig = Rig { _folder: folder, store, meter, port, stop: stop.clone() };
    let running = source.run(out, stop);
    let testing = async {
        test(&rig).await;
        rig.stop.cancel();
    };
    let (ended, ()): (Result<(), SourceError>, ()) = tokio::join!(running, testing);
    ended.unwrap();
    bodies(&rig).await
}

async fn bodies(rig: &Rig) -> Vec<Value> {
    let all = Budget { events: 100_000, bytes: usize::MAX };
    let events = rig.store.read(rig.store.queue("q").unwrap(), 0, all).await.unwrap();
    let body = |event: &rf_queue::StoredEvent| {
        let replay = ReplayRequest::parse(&event.content).unwrap();
        serde_json::from_slice(&replay.body).unwrap()
    };
    events.iter().map(body).collect()
}

async fn wait_for(rig: &Rig, count: usize) {
    let since = Instant::now();
    while bodies(rig).await.len() < count {
        assert!(since.elapsed() < SOON, "only {} of {count}", bodies(rig).await.len());
        sleep(Duration::from_millis(5)).await;
    }
}

fn messages(bodies: &[Value]) -> Vec<&str> {
    bodies.iter().map(|body| body["message"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn connections_bring_counted_messages_and_lines() {
    let found = with_source(json!({}), async |rig| {
        let mut stream = TcpStream::connect(("127.0.0.1", rig.port)).await.unwrap();
        stream
            .write_all(b"23 <34>1 - h a - - - first<34>Oct 11 22:14:15 h a: second\n")
            .await
            .unwrap();
        // The last one has no end but that of the connection.
        stream.write_all(b"<34>third").await.unwrap();
        stream.shutdown().await.unwrap();
        wait_for(rig, 3).await;
    })
    .await;
    assert_eq!(messages(&found), ["first", "second", "third"]);
    assert_eq!((&found[0]["host"], &found[1]["app"]), (&json!("h"), &json!("a")));
}

#[tokio::test]
async fn a_counted_message_that_is_cut_by_the_end_of_its_connection_is_marked() {
    let found = with_source(json!({}), async |rig| {
        let mut stream = TcpStream::connect(("127.0.0.1", rig.port)).await.unwrap();
        stream.write_all(b"120 <34>1 - h a - - - half of").await.unwrap();
        stream.shutdown().await.unwrap();
        wait_for(rig, 1).await;
    })
    .await;
    assert_eq!(messages(&found), ["half of"]);
    assert_eq!((&found[0]["severity"], &found[0]["truncated"]), (&json!("crit"), &json!(true)));
}

#[tokio::test]
async fn datagrams_are_messages() {
    let found = with_source(json!({ "maxMessageBytes": 10 }), async |rig| {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for datagram in ["<13>one\n", "\n\0", "<13>0123456789", "<13>012345\n\0"] {
            socket.send_to(datagram.as_bytes(), ("127.0.0.1", rig.port)).await.unwrap();
        }
        wait_for(rig, 3).await;
    })
    .await;
    assert_eq!(messages(&found), ["one", "012345", "012345"]);
    let cut = json!(true);
    let expected = [&Value::Null, &cut, &Value::Null];
    assert_eq!([0, 1, 2].map(|at: usize| &found[at]["truncated"]), expected);
}

#[tokio::test]
async fn one_protocol_alone_leaves_the_other_closed() {
    let mut is_closed = false;
    // Somebody else may happen to have the other port of this number, but not each time.
    for _ in 0..3 {
        with_source(json!({ "protocol": "udp" }), async |rig| {
            is_closed |= TcpStream::connect(("127.0.0.1", rig.port)).await.is_err();
        })
        .await;
    }
    assert!(is_closed);
}

#[tokio::test]
async fn connections_over_the_limit_wait_and_silent_ones_are_closed() {
    let params = json!({ "maxConnections": 1, "idleTimeout": "200ms" });
    let found = with_source(params, async |rig| {
        let mut first = TcpStream::connect(("127.0.0.1", rig.port)).await.unwrap();
        first.write_all(b"<13>first\n").await.unwrap();
        let mut second = TcpStream::connect(("127.0.0.1", rig.port)).await.unwrap();
        second.write_all(b"<13>second\n").await.unwrap();
        // The first is closed when it has been silent for long enough; then the second has its place.
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
        wait_for(rig, 2).await;
    })
    .await;
    assert_eq!(messages(&found), ["first", "second"]);
}

#[tokio::test]
async fn a_connection_whose_framing_is_broken_is_closed_after_what_was_good() {
    let found = with_source(json!({}), async |rig| {
        let mut stream = TcpStream::connect(("127.0.0.1", rig.port)).await.unwrap();
        stream.write_all(b"<13>good\n12x").await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    })
    .await;
    assert_eq!(messages(&found), ["good"]);
}

#[tokio::test]
async fn a_full_queue_holds_up_connections_and_nothing_of_them_is_lost() {
    const COUNT: usize = 4000;
    let found = with_source(json!({ "protocol": "tcp" }), async |rig| {
        let mut stream = TcpStream::connect(("127.0.0.1", rig.port)).await.unwrap();
        let writing = async {
            for number in 0..COUNT {
                let line = format!("<13>{number} {}\n", "x".repeat(1000));
                stream.write_all(line.as_bytes()).await.unwrap();
            }
            stream.shutdown().await.unwrap();
        };
        // The queue has room for less than half of it until somebody takes events out.
        let draining = drain(rig, COUNT);
        tokio::join!(writing, draining);
    })
    .await;
    assert_eq!(found.len(), 0, "all were taken out");
}

/// Takes so many events out, in order, beginning only when the queue is full.
async fn drain(rig: &Rig, count: usize) {
    let queue = rig.store.queue("q").unwrap();
    let since = Instant::now();
    while rig.meter.health.paused().is_none() {
        assert!(since.elapsed() < SOON, "the queue never becomes full");
        sleep(Duration::from_millis(5)).await;
    }
    assert!(bodies(rig).await.len() < count, "the queue is too large for this test");
    let mut next = 0;
    while next < count {
        assert!(since.elapsed() < 2 * SOON, "only {next} of {count}");
        let events =
            rig.store.read(queue, 0, Budget { events: 500, bytes: usize::MAX }).await.unwrap();
        if events.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        for event in &events {
            let text = String::from_utf8_lossy(&event.content).into_owned();
            assert!(text.contains(&format!("\\\"message\\\":\\\"{next} ")), "{next}");
            next += 1;
        }
        let removes =
            vec![rf_queue::Remove { queue, ids: events.iter().map(|event| event.id).collect() }];
        rig.store
            .commit(rf_queue::Commit { removes, ..rf_queue::Commit::default() })
            .await
            .unwrap();
    }
}

#[test]
fn a_sender_with_ipv4_has_its_own_address_on_a_listener_for_both() {
    let zone = jiff::tz::TimeZone::UTC;
    let maker = EventMaker { path: "/".to_owned(), max_bytes: 100, zone };
    let frame = Frame { bytes: "<34>hello".into(), is_cut: false };
    let event = maker.event("[::ffff:192.0.2.7]:514".parse().unwrap(), &frame);
    let event: Value = serde_json::from_slice(&event).unwrap();
    assert_eq!(event["ip"], "192.0.2.7:514");
}
