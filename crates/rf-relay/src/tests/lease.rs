//! Events that are handed out, held, given back and acknowledged.

use std::time::Duration;

use rf_queue::Budget;

use super::{AUTH, TestRelay, with_relay};
use crate::bucket::BucketName;
use crate::store::BucketStore;
use crate::store::memory::Fault;

async fn lease(relay: &TestRelay, limit: usize) -> String {
    relay.ask(&format!("GET /first-batch?lease=1m&limit={limit}\nRF-BUCKET: a\n{AUTH}"), "").await
}

async fn post(relay: &TestRelay, path: &str, body: &str) -> String {
    let answer = relay.ask(&format!("POST {path}\nRF-BUCKET: a\n{AUTH}"), body).await;
    let (head, body) = answer.split_once("\n\n").unwrap();
    format!("{} {body}", head.lines().next().unwrap())
}

fn leased(token: &str, body: &str) -> String {
    format!("200 OK\ncontent-type: application/json\nrf-lease: {token}\n\n{body}")
}

const NOTHING: &str = "404 Not Found\ncontent-type: application/json\n\n[]";

#[tokio::test]
async fn two_players_share_a_bucket() {
    with_relay(async |relay| {
        relay.record(r#"["one","two","three"]"#).await;
        let first = r#"[{"id":1,"content":"one"},{"id":2,"content":"two"}]"#;
        assert_eq!(lease(relay, 2).await, leased("1", first));
        assert_eq!(lease(relay, 10_000).await, leased("2", r#"[{"id":3,"content":"three"}]"#));
        assert_eq!(lease(relay, 1).await, NOTHING);

        assert_eq!(
            post(relay, "/release-batch", r#"{"ids":["1",3]}"#).await,
            "200 OK 2 events released"
        );
        let again =
            r#"[{"id":1,"content":"one","attempts":1},{"id":3,"content":"three","attempts":1}]"#;
        assert_eq!(lease(relay, 100).await, leased("4", again));
        let nothing = r#"404 Not Found {"error":"none of these events is leased"}"#;
        assert_eq!(post(relay, "/release-batch", r#"{"ids":[77]}"#).await, nothing);
    })
    .await;
}

#[tokio::test]
async fn a_holder_that_pulls_again_ends_its_own_lease_and_no_other() {
    with_relay(async |relay| {
        relay.record(r#"["one","two"]"#).await;
        let pull = async |holder: &str| {
            let head =
                format!("GET /first-batch?lease=1m&limit=1&holder={holder}\nRF-BUCKET: a\n{AUTH}");
            relay.ask(&head, "").await.split_once("\n\n").unwrap().1.to_owned()
        };
        assert_eq!(pull("player-1").await, r#"[{"id":1,"content":"one"}]"#);
        assert_eq!(pull("player-2").await, r#"[{"id":2,"content":"two"}]"#);
        assert_eq!(pull("player-3").await, "[]");
        assert_eq!(pull("player-1").await, r#"[{"id":1,"content":"one","attempts":1}]"#);
        assert_eq!(pull("player-2").await, r#"[{"id":2,"content":"two","attempts":1}]"#);
        let bad = relay
            .ask(&format!("GET /first-batch?lease=1m&holder=\nRF-BUCKET: a\n{AUTH}"), "")
            .await;
        assert!(bad.starts_with("400 "), "{bad}");
    })
    .await;
}

#[tokio::test]
async fn a_holder_s_lease_of_an_earlier_run_is_ended_once_the_store_can_be_asked() {
    with_relay(async |relay| {
        relay.record(r#"["one"]"#).await;
        let bucket = BucketName::new("a").unwrap();
        let budget = Budget { events: 1, bytes: usize::MAX };
        let ttl = Some(Duration::from_secs(60));
        // By the relay that was there before.
        let held = relay.memory.pull(&bucket, budget, ttl, Some("p")).await.unwrap();
        assert_eq!(held.events.len(), 1);
        let head = format!("GET /first-batch?lease=1m&holder=p\nRF-BUCKET: a\n{AUTH}");
        relay.memory.break_bucket("a", Fault::Broken);
        let answer = relay.ask(&head, "").await;
        assert!(answer.starts_with("503 "), "{answer}");
        relay.memory.break_bucket("a", None);
        let answer = relay.ask(&head, "").await;
        assert!(
            answer.ends_with("\n\n[{\"id\":1,\"content\":\"one\",\"attempts\":1}]"),
            "{answer}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_pull_leases_nothing_once_its_holder_pulls_again() {
    with_relay(async |relay| {
        let head =
            format!("GET /first-batch?lease=1m&limit=1&wait=1m&holder=p\nRF-BUCKET: a\n{AUTH}");
        // As that of a player that was killed.
        let superseded = relay.ask(&head, "");
        let newest = async {
            relay.memory.somebody_watches("a").await;
            relay.ask(&head, "").await
        };
        let record = async {
            relay.memory.so_many_watch("a", 2).await;
            relay.record(r#"["one","two"]"#).await;
        };
        let (superseded, newest, ()) = tokio::join!(superseded, newest, record);
        assert_eq!(superseded, NOTHING);
        let (head, body) = newest.split_once("\n\n").unwrap();
        assert_eq!(body, r#"[{"id":1,"content":"one"}]"#);
        let lease = head.lines().find_map(|line| line.strip_prefix("rf-lease: ")).unwrap();
        let noted = relay.memory.lease_of(&BucketName::new("a").unwrap(), "p").await.unwrap();
        assert_eq!(noted.as_deref(), Some(lease));
    })
    .await;
}

#[tokio::test]
async fn a_released_event_wakes_who_waits() {
    with_relay(async |relay| {
        relay.record(r#"["one"]"#).await;
        lease(relay, 1).await;
        let release = async {
            relay.memory.somebody_watches("a").await;
            post(relay, "/release-batch", r#"{"ids":["1"]}"#).await
        };
        let head = format!("GET /first?lease=1m&wait=1m\nRF-BUCKET: a\n{AUTH}");
        let wait = relay.ask(&head, "");
        let (answer, released) = tokio::join!(wait, release);
        assert_eq!(released, "200 OK 1 event released");
        assert!(answer.ends_with("\n\n{\"id\":1,\"content\":\"one\",\"attempts\":1}"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn leases_are_extended_while_they_last() {
    with_relay(async |relay| {
        relay.record(r#"["one"]"#).await;
        lease(relay, 1).await;
        assert_eq!(
            post(relay, "/extend-lease", r#"{"lease":"1","seconds":30}"#).await,
            "200 OK lease extended"
        );
        let gone = r#"404 Not Found {"error":"the lease does not exist or has ended"}"#;
        assert_eq!(post(relay, "/extend-lease", r#"{"lease":"x","seconds":30}"#).await, gone);
        let zero = r#"400 Bad Request {"error":"a lease lasts from 1s to 1h"}"#;
        assert_eq!(post(relay, "/extend-lease", r#"{"lease":"1","seconds":0}"#).await, zero);
        let bad = post(relay, "/extend-lease", r#"{"lease":1}"#).await;
        assert!(bad.starts_with("400 Bad Request {\"error\":\"expected {\\\"lease\\\""), "{bad}");
    })
    .await;
}

#[tokio::test]
async fn single_events_are_acknowledged() {
    with_relay(async |relay| {
        relay.record(r#"["one","two"]"#).await;
        let acknowledge = async |query: &str| {
            let answer =
                relay.ask(&format!("DELETE /acknowledge{query}\nRF-BUCKET: a\n{AUTH}"), "").await;
            answer.lines().next().unwrap().to_owned() + " " + answer.split_once("\n\n").unwrap().1
        };
        assert_eq!(acknowledge("?id=1").await, "200 OK 1 event acknowledged");
        assert_eq!(
            acknowledge("?id=1").await,
            r#"404 Not Found {"error":"none of these events is there"}"#
        );
        assert_eq!(acknowledge("").await, r#"400 Bad Request {"error":"name the event: ?id=12"}"#);
        assert_eq!(relay.pull("a").await, r#"[{"id":2,"content":"two"}]"#);
    })
    .await;
}
