//! Looking for events, beside the writer and without it.

use std::sync::Arc;
use std::time::Duration;

use super::rig::{Rig, bury};
use crate::{Found, OpenError, QueueOptions, find};

const LONG: Duration = Duration::from_secs(600);

fn numbers(found: &Found) -> (Vec<u64>, Vec<u64>) {
    let waiting = found.waiting.iter().map(|event| event.id).collect();
    (waiting, found.dead.iter().map(|letter| letter.id).collect())
}

#[tokio::test]
async fn an_event_is_found_in_its_queue_and_among_the_letters_also_in_a_closed_store() {
    let mut rig = Rig::with(16 << 20, vec![QueueOptions::new("q"), QueueOptions::new("other")]);
    // More than one transaction of the search.
    let many: Vec<String> = (0..1000).map(|number| format!("event {number}")).collect();
    rig.append(&many.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
    let ids = rig.ids().await;
    rig.store().commit(bury(rig.q(), ids[10])).await.unwrap();
    let is_meant = |content: &[u8]| content == b"event 700" || content == b"event 10";
    let found = rig.store().find(Arc::new(is_meant), LONG).await.unwrap();
    assert_eq!(numbers(&found), (vec![ids[700]], vec![1]));
    let (event, letter) = (&found.waiting[0], &found.dead[0]);
    assert_eq!((event.queue.as_str(), event.at_ms), ("q", 1_700_000_000_000));
    let told = (letter.queue.as_str(), letter.reason.as_str(), letter.attempts);
    assert_eq!((told, found.is_cut), (("q", "refused", 3), false));
    rig.store().ack(rig.q(), vec![ids[700]]).await.unwrap();
    rig.close().await;
    let found = find(rig.path(), &is_meant, LONG).unwrap();
    assert_eq!(numbers(&found), (vec![], vec![1]));
    rig.open().unwrap();
    assert_eq!(rig.usage().events, 998, "the search has changed nothing");
}

#[tokio::test]
async fn a_search_ends_when_its_time_is_over_and_says_so() {
    let rig = Rig::new();
    rig.append(&["a"]).await.unwrap();
    let found = find(rig.path(), &|_| true, Duration::ZERO).unwrap();
    assert!(found.is_cut && found.waiting.is_empty());
}

#[tokio::test]
async fn an_empty_store_is_not_even_opened_and_a_missing_one_is_not_made() {
    let mut rig = Rig::new();
    let meant = Arc::new(|_: &[u8]| panic!("there is nothing to look at"));
    assert_eq!(rig.store().find(meant, LONG).await.unwrap(), Found::default());
    rig.close().await;
    let missing = rig.path().with_file_name("missing.sqlite3");
    let found = find(&missing, &|_| true, LONG);
    assert!(matches!(found, Err(OpenError::Io { .. })), "{found:?}");
    assert!(!missing.exists());
}
