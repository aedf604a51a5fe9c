//! Burying, and what the command line does to dead letters while the store is open.

use super::rig::{MIB, Rig, bury, filled, set};
use crate::{
    Bury, Commit, DeadLetters, Durability, Letter, QueueOptions, Store, StoreOptions, Which,
};

async fn bury_all(rig: &Rig) {
    for id in rig.ids().await {
        rig.store().commit(bury(rig.q(), id)).await.unwrap();
    }
}

fn contents(letters: &DeadLetters) -> Vec<String> {
    let letters = letters.list(None, 0, 100).unwrap();
    letters.iter().map(|letter| String::from_utf8(letter.content.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn a_buried_event_is_kept_with_its_story() {
    let mut rig = Rig::new();
    rig.append(&["a", "bad"]).await.unwrap();
    let (stored, ids) = (rig.usage().oldest_at_ms.unwrap(), rig.ids().await);
    rig.clock.advance(std::time::Duration::from_secs(9));
    let commit = Commit { checkpoints: vec![set("at", "1")], ..bury(rig.q(), ids[1]) };
    rig.store().commit(commit.clone()).await.unwrap();
    rig.store().commit(commit).await.expect("burying what is gone does nothing");
    rig.reopen().await;
    assert_eq!(rig.texts().await, ["a"]);
    assert_eq!(rig.store().disk().dead_letters, 1);
    let letter = DeadLetters::open(rig.path()).unwrap().list(Some("q"), 0, 10).unwrap().remove(0);
    assert_eq!((letter.at_ms, letter.dead_at_ms), (stored, stored + 9_000));
    assert_eq!((letter.reason.as_str(), letter.attempts, letter.retry), ("refused", 3, false));
    assert_eq!((letter.queue.as_str(), &letter.content[..]), ("q", &b"bad"[..]));
}

#[tokio::test]
async fn an_event_that_never_was_in_a_queue_becomes_a_letter_with_its_commit() {
    let mut rig = Rig::new();
    let letter = |content: &'static str, reason: &str| Letter {
        queue: rig.q(),
        content: content.into(),
        reason: reason.to_owned(),
    };
    let letters = vec![letter("bad", "script.lua:3: oops"), letter("worse", "too long")];
    let commit = Commit { letters, ..Commit::append(rig.q(), vec!["good".into()]) };
    rig.store().commit(commit).await.unwrap();
    rig.reopen().await;
    assert_eq!(rig.texts().await, ["good"]);
    assert_eq!(rig.store().disk().dead_letters, 2);
    let letters = DeadLetters::open(rig.path()).unwrap();
    assert_eq!(contents(&letters), ["bad", "worse"]);
    let first = letters.list(Some("q"), 0, 1).unwrap().remove(0);
    assert_eq!((first.reason.as_str(), first.attempts), ("script.lua:3: oops", 0));
    assert_eq!(letters.retry(&Which::All(None)).unwrap(), 2);
    rig.until(async |store| store.usage(rig.q()).events == 3).await;
    assert_eq!(rig.texts().await, ["good", "bad", "worse"]);
}

#[tokio::test]
async fn a_refused_commit_leaves_no_letter() {
    let rig =
        Rig::with(16 * MIB, vec![QueueOptions { max_bytes: Some(MIB), ..QueueOptions::new("q") }]);
    let letter = Letter { queue: rig.q(), content: "bad".into(), reason: "oops".to_owned() };
    let large = vec![vec![0; 2 * 1024 * 1024].into()];
    let commit = Commit { letters: vec![letter], ..Commit::append(rig.q(), large) };
    rig.store().commit(commit).await.unwrap_err();
    assert_eq!(rig.store().disk().dead_letters, 0);
    assert_eq!(contents(&DeadLetters::open(rig.path()).unwrap()), <[&str; 0]>::default());
}

#[tokio::test]
async fn letters_are_listed_edited_purged_and_retried_beside_the_open_store() {
    let rig = Rig::new();
    rig.append(&["a", "b", "c", "d"]).await.unwrap();
    bury_all(&rig).await;
    let letters = DeadLetters::open(rig.path()).unwrap();
    assert_eq!(contents(&letters), ["a", "b", "c", "d"]);
    let ids: Vec<u64> = letters.list(None, 0, 10).unwrap().iter().map(|letter| letter.id).collect();
    assert_eq!(letters.list(None, ids[1], 1).unwrap()[0].id, ids[2]);
    assert_eq!(letters.list(Some("other"), 0, 10).unwrap(), []);
    assert!(letters.edit(ids[1], b"better").unwrap());
    assert!(!letters.edit(99, b"?").unwrap());
    assert_eq!(&letters.get(ids[1]).unwrap().unwrap().content[..], b"better");
    assert_eq!(letters.purge(&Which::Ids(vec![ids[2], 99])).unwrap(), 1);
    assert_eq!(letters.retry(&Which::Ids(vec![ids[0], ids[1]])).unwrap(), 2);
    rig.until(async |store| store.usage(rig.q()).events == 2).await;
    assert_eq!(rig.texts().await, ["a", "better"]);
    assert_eq!(contents(&letters), ["d"]);
    rig.until(async |store| store.disk().dead_letters == 1).await;
    assert_eq!(letters.purge(&Which::All(None)).unwrap(), 1);
    rig.until(async |store| store.disk().dead_letters == 0).await;
}

#[tokio::test]
async fn all_letters_of_a_queue_are_meant_at_once() {
    let mut rig = Rig::unsynced(MIB, vec![QueueOptions::new("q"), QueueOptions::new("r")]);
    let many: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    rig.append(&many).await.unwrap();
    bury_all(&rig).await;
    rig.append_to(rig.queue("r"), &["r"]).await.unwrap();
    let r = rig.store().read(rig.queue("r"), 0, super::rig::EVERYTHING).await.unwrap();
    rig.store().commit(bury(rig.queue("r"), r[0].id)).await.unwrap();
    rig.close().await;
    let letters = DeadLetters::open(rig.path()).unwrap();
    assert_eq!(letters.purge(&Which::All(Some("r".into()))).unwrap(), 1);
    assert_eq!(letters.retry(&Which::All(Some("q".into()))).unwrap(), 200);
    assert_eq!(letters.retry(&Which::All(None)).unwrap(), 200);
    rig.open().unwrap();
    rig.until(async |store| store.usage(rig.q()).events == 200).await;
    assert_eq!(rig.texts().await, many);
    assert_eq!(rig.store().disk().dead_letters, 0);
}

#[tokio::test]
async fn letters_are_counted_for_each_queue_by_itself() {
    let mut rig = Rig::closed(MIB, ["q", "r", "s"].map(QueueOptions::new).to_vec());
    rig.options.max_dead_letters = 3;
    rig.open().unwrap();
    let counts = |store: &Store| {
        let usage = |name| store.usage(store.queue(name).unwrap()).dead_letters;
        ["q", "r", "s"].map(usage)
    };
    let letter = |queue| Letter { queue, content: "x".into(), reason: "bad".to_owned() };
    let (q, r) = (letter(rig.queue("q")), letter(rig.queue("r")));
    let put = async |letters: Vec<Letter>| {
        rig.store().commit(Commit { letters, ..Commit::default() }).await.unwrap();
        counts(rig.store())
    };
    assert_eq!(put(vec![q.clone(), q, r.clone()]).await, [2, 1, 0]);
    // The oldest is pushed out.
    assert_eq!(put(vec![r]).await, [1, 2, 0]);
    rig.reopen().await;
    assert_eq!(counts(rig.store()), [1, 2, 0]);
    let letters = DeadLetters::open(rig.path()).unwrap();
    letters.purge(&Which::All(Some("q".to_owned()))).unwrap();
    rig.until(async |store| counts(store) == [0, 2, 0]).await;
    let oldest = letters.list(None, 0, 1).unwrap().remove(0).id;
    letters.retry(&Which::Ids(vec![oldest])).unwrap();
    // Shown one after the other.
    rig.until(async |store| counts(store) == [0, 1, 0] && store.disk().dead_letters == 1).await;

    // Those of a queue that is gone are of nobody, and are still pushed out by others.
    rig.close().await;
    rig.options.queues.remove(1);
    rig.open().unwrap();
    let usage = |name| rig.store().usage(rig.queue(name)).dead_letters;
    assert_eq!((usage("q"), usage("s"), rig.store().disk().dead_letters), (0, 0, 1));
    let s = letter(rig.queue("s"));
    let commit = Commit { letters: vec![s; 3], ..Commit::default() };
    rig.store().commit(commit).await.unwrap();
    assert_eq!((usage("q"), usage("s"), rig.store().disk().dead_letters), (0, 3, 3));
}

#[tokio::test]
async fn letters_are_bounded_by_number_and_by_bytes() {
    let check =
        async |max_dead_letters: u64, len: usize, expected: std::ops::RangeInclusive<u64>| {
            let mut rig = Rig::closed(MIB, vec![QueueOptions::new("q")]);
            let durability = Durability::Process;
            rig.options = StoreOptions { max_dead_letters, durability, ..rig.options };
            rig.open().unwrap();
            for _ in 0..40 {
                rig.store().commit(Commit::append(rig.q(), vec![filled(len)])).await.unwrap();
                bury_all(&rig).await;
            }
            let disk = rig.store().disk();
            assert_eq!(disk.dead_letters + disk.dropped_dead, 40);
            assert!(expected.contains(&disk.dead_letters), "{disk:?}");
            let newest = DeadLetters::open(rig.path()).unwrap().list(None, 0, 100).unwrap();
            assert_eq!(newest.len() as u64, disk.dead_letters);
        };
    check(7, 10, 7..=7).await;
    check(0, 10, 0..=0).await;
    check(1000, 10, 40..=40).await;
    check(1000, 10_000, 6..=10).await;
}

#[tokio::test]
async fn a_full_store_still_buries() {
    for len in [700, 20_000, 200_000] {
        let rig = Rig::unsynced(MIB, vec![QueueOptions::new("q")]);
        while rig.store().commit(Commit::append(rig.q(), vec![filled(len)])).await.is_ok() {}
        let ids = rig.ids().await;
        rig.store().commit(bury(rig.q(), ids[0])).await.unwrap();
        let disk = rig.store().disk();
        assert_eq!(disk.dead_letters + disk.dropped_dead, 1, "{len}");
        assert_eq!(rig.usage().events, ids.len() as u64 - 1);
    }
}

#[tokio::test]
async fn of_an_event_that_is_too_large_for_a_letter_its_beginning_is_kept() {
    let rig = Rig::with(MIB, vec![QueueOptions::new("q")]);
    rig.store().commit(Commit::append(rig.q(), vec![filled(100)])).await.unwrap();
    let content = filled(5_000_000);
    let letter = Letter { queue: rig.q(), content: content.clone(), reason: "huge".to_owned() };
    let letters = vec![letter];
    rig.store().commit(Commit { letters, ..Commit::default() }).await.unwrap();
    let disk = rig.store().disk();
    assert_eq!((disk.dead_letters, disk.dropped_dead, rig.usage().events), (1, 0, 1));
    let kept = DeadLetters::open(rig.path()).unwrap().list(None, 0, 10).unwrap().remove(0);
    assert_eq!(kept.reason, "huge (cut: the first 16384 of 5000000 bytes)");
    assert_eq!(kept.content, content[..16384]);
}

#[tokio::test]
async fn the_command_line_keeps_to_the_bound_of_a_full_store() {
    let rig = Rig::unsynced(MIB, vec![QueueOptions::new("q")]);
    rig.store()
        .commit(Commit::append(rig.q(), (0..150).map(|_| filled(600)).collect()))
        .await
        .unwrap();
    bury_all(&rig).await;
    while rig.store().commit(Commit::append(rig.q(), vec![filled(3_000)])).await.is_ok() {}
    let letters = DeadLetters::open(rig.path()).unwrap();
    let first = letters.list(None, 0, 1).unwrap().remove(0);
    let total = || {
        ["", "-wal", "-shm", ".reserve"]
            .map(|s| std::fs::metadata(rig.beside(s)).map_or(0, |m| m.len()))
            .iter()
            .sum::<u64>()
    };
    let error = letters.edit(first.id, &filled(300_000)).unwrap_err();
    assert!(error.to_string().ends_with("no room for it: purge dead letters first"), "{error}");
    assert!(letters.edit(first.id, &filled(700)).unwrap());
    assert!(total() <= MIB, "{}", total());
    let count = letters.retry(&Which::All(None)).unwrap();
    assert!(total() <= MIB, "{}", total());
    assert_eq!(letters.purge(&Which::All(None)).unwrap(), count);
    assert!(total() <= MIB, "{}", total());
}

/// Groups of burials grow the file while the WAL is as long as it may be.
#[tokio::test]
async fn no_letter_is_lost_while_the_wal_is_at_its_bound() {
    let mut rig = Rig::closed(10 * MIB, vec![QueueOptions::new("q")]);
    rig.options.durability = Durability::Process;
    rig.open().unwrap();
    for _ in 0..30 {
        rig.store().commit(Commit::append(rig.q(), vec![filled(354); 100])).await.unwrap();
    }
    let letter = |&id| Bury { queue: rig.q(), id, reason: "refused".to_owned(), attempts: 1 };
    for some in rig.ids().await.chunks(32) {
        let dead = some.iter().map(letter).collect();
        rig.store().commit(Commit { dead, ..Commit::default() }).await.unwrap();
    }
    let disk = rig.store().disk();
    assert_eq!((disk.dead_letters, disk.dropped_dead, rig.usage().events), (3000, 0, 0));
}

#[tokio::test]
async fn a_large_letter_pushes_out_as_many_small_ones_as_it_needs() {
    const LARGE: usize = 900_000;
    let mut rig = Rig::with(10 * MIB, vec![QueueOptions::new("q")]);
    let small = Letter { queue: rig.q(), content: filled(354), reason: "refused".to_owned() };
    for _ in 0..30 {
        let letters = vec![small.clone(); 100];
        rig.store().commit(Commit { letters, ..Commit::default() }).await.unwrap();
    }
    rig.store().commit(Commit::append(rig.q(), vec![filled(LARGE)])).await.unwrap();
    bury_all(&rig).await;
    let disk = rig.store().disk();
    assert_eq!(disk.dead_letters + disk.dropped_dead, 3001);
    assert_eq!(rig.usage().dropped_dead, disk.dropped_dead, "counted for the queue, too");
    assert!((400..3000).contains(&disk.dead_letters), "{disk:?}");
    let kept = DeadLetters::open(rig.path()).unwrap().list(None, 0, 5000).unwrap();
    assert_eq!(kept.len() as u64, disk.dead_letters);
    assert_eq!(kept.last().map(|letter| letter.content.len()), Some(LARGE), "whole");
    rig.reopen().await;
    assert_eq!(rig.usage().dropped_dead, 0, "since the store was opened");
}
