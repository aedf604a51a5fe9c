//! The byte bound: under a flood the files never take more than they may, and a drained store gives its bytes back.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::rig::{MIB, Rig, TTL, filled};
use crate::limits::Limits;
use crate::{
    Budget, Checkpoint, Commit, CommitError, DeadLetters, Durability, Letter, QueueId,
    QueueOptions, Store, StoreOptions, StoredEvent, WhenFull, Which,
};

/// The files of a store, and the most bytes that were seen of them.
struct Files {
    paths: [PathBuf; 4],
    most: AtomicU64,
}

impl Files {
    /// Looks at them; false when that says nothing. They are not looked at in one moment: bytes that move from one to another
    /// meanwhile would count twice. Only what two looks in a row agree on was there at once.
    fn look(&self, before: &mut [u64; 4]) -> bool {
        let length = |file: &PathBuf| std::fs::metadata(file).map_or(0, |meta| meta.len());
        let lengths = self.paths.each_ref().map(length);
        let agree = lengths == *before;
        if agree {
            self.most.fetch_max(lengths.iter().sum(), Ordering::Relaxed);
        }
        *before = lengths;
        agree
    }
}

/// Looks at the files all the time, from a thread of its own.
struct Sampler {
    files: Arc<Files>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    fn start(rig: &Rig) -> Self {
        let paths = ["", "-wal", "-shm", ".reserve"].map(|suffix| rig.beside(suffix));
        let files = Arc::new(Files { paths, most: AtomicU64::new(0) });
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped) = (files.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let (mut looks, mut before) = (0, [0; 4]);
            while looks <= 20 || !stopped.load(Ordering::Relaxed) {
                looks += u32::from(seen.look(&mut before));
                std::thread::yield_now();
            }
        });
        Self { files, stop, thread: Some(thread) }
    }

    /// The most bytes that were seen.
    fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.files.most.load(Ordering::Relaxed)
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What a flood is made of.
#[derive(Debug, Clone, Copy)]
enum Size {
    Fixed(usize),
    Mixed,
    /// As large as fits into an empty store.
    Largest,
}

impl Size {
    fn event(self, largest: usize) -> Bytes {
        filled(match self {
            Self::Fixed(len) => len,
            Self::Mixed => fastrand::usize(1..60_000),
            Self::Largest => fastrand::usize(largest / 2..=largest),
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Flood {
    mib: u64,
    size: Size,
    when_full: WhenFull,
    /// Content bytes offered, as a multiple of the limit.
    times: u64,
}

async fn offer(
    store: Store,
    flood: Flood,
    left: Arc<AtomicU64>,
    largest: usize,
    files: Arc<Files>,
) {
    let queue = QueueId(0);
    loop {
        let many = match flood.size {
            Size::Fixed(len) => fastrand::usize(1..=30_000 / len),
            Size::Mixed => fastrand::usize(1..5),
            Size::Largest => 1,
        };
        let events: Vec<Bytes> = (0..many).map(|_| flood.size.event(largest)).collect();
        let bytes: u64 = events.iter().map(|event| event.len() as u64 + 40).sum();
        if left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(bytes))
            .is_err()
        {
            return;
        }
        let batch_id = fastrand::bool().then(|| format!("{:032x}", fastrand::u128(..)));
        match store.commit(Commit { batch_id, ..Commit::append(queue, events) }).await {
            Ok(_) | Err(CommitError::Full { .. } | CommitError::TooLarge { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        // A busy machine may let the sampler's thread wait for as long as the store is full.
        let mut before = [0; 4];
        for _ in 0..3 {
            files.look(&mut before);
        }
    }
}

/// Leases, acknowledges every other event, buries some, lets the rest come back.
async fn pull(store: Store, stop: Arc<AtomicBool>) {
    let queue = QueueId(0);
    while !stop.load(Ordering::Relaxed) {
        let budget = Budget { events: fastrand::usize(1..100), bytes: 100_000 };
        let leased = store.lease(queue, budget, Duration::from_secs(10)).await.unwrap();
        if leased.events.is_empty() {
            tokio::task::yield_now().await;
            continue;
        }
        let ids: Vec<u64> = leased.events.iter().map(|event| event.id).collect();
        if fastrand::u8(..) < 30 {
            store.commit(super::rig::bury(queue, ids[0])).await.unwrap();
        }
        let some = ids.iter().copied().filter(|_| fastrand::u8(..) < 60).collect();
        store.ack(queue, some).await.unwrap();
        store.release(queue, ids).await.unwrap();
    }
}

async fn drain(store: &Store) {
    loop {
        let events =
            store.read(QueueId(0), 0, Budget { events: 500, bytes: 1_000_000 }).await.unwrap();
        if events.is_empty() {
            return;
        }
        store.ack(QueueId(0), events.iter().map(|event| event.id).collect()).await.unwrap();
    }
}

async fn check(flood: Flood) {
    let max_bytes = flood.mib * MIB;
    let mut rig = Rig::closed(
        max_bytes,
        vec![QueueOptions { when_full: flood.when_full, ..QueueOptions::new("q") }],
    );
    rig.options = StoreOptions {
        durability: Durability::Process,
        max_dead_letters: 50,
        // The largest of the stores here, too, would do without.
        segment_bytes: (flood.mib == 10).then_some(64 * 1024),
        ..rig.options
    };
    let sampler = Sampler::start(&rig);
    rig.open().unwrap();
    let largest = usize::try_from(Limits::new(max_bytes).largest_event(20)).unwrap();
    let left = Arc::new(AtomicU64::new(max_bytes * flood.times));
    let stop = Arc::new(AtomicBool::new(false));
    let readers: JoinSet<()> = (0..2).map(|_| pull(rig.store().clone(), stop.clone())).collect();
    let offer = |_| offer(rig.store().clone(), flood, left.clone(), largest, sampler.files.clone());
    (0..6).map(offer).collect::<JoinSet<()>>().join_all().await;
    stop.store(true, Ordering::Relaxed);
    readers.join_all().await;
    rig.clock.advance(Duration::from_secs(10));
    DeadLetters::open(rig.path()).unwrap().purge(&Which::All(None)).unwrap();
    drain(rig.store()).await;
    let empty = crate::limits::base_pages(1) * 4096 + 20 * 4096;
    rig.until(async |_| {
        rig.clock.advance(Duration::from_secs(1));
        length(&rig, "") < empty && length(&rig, "-wal") == 0
    })
    .await;
    let peak = sampler.finish();
    assert!(
        peak <= max_bytes,
        "{flood:?}: {peak} of {max_bytes} bytes, {} too many",
        peak - max_bytes
    );
    assert!(
        peak > max_bytes / 2,
        "{flood:?}: only {peak} of {max_bytes} bytes, so nothing was tried"
    );
    rig.close().await;
}

fn length(rig: &Rig, suffix: &str) -> u64 {
    std::fs::metadata(rig.beside(suffix)).map_or(0, |meta| meta.len())
}

macro_rules! floods {
    ($($name:ident: $size:expr, $when_full:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            for (mib, times) in [(1, 6), (2, 4), (10, 2)] {
                check(Flood { mib, size: $size, when_full: WhenFull::$when_full, times }).await;
            }
        }
    )*};
}

floods! {
    small_rows_rejected: Size::Fixed(20), Reject;
    small_rows_dropped: Size::Fixed(20), DropOldest;
    usual_rows_rejected: Size::Fixed(700), Reject;
    usual_rows_dropped: Size::Fixed(700), DropOldest;
    half_pages_rejected: Size::Fixed(2_100), Reject;
    mixed_rows_rejected: Size::Mixed, Reject;
    mixed_rows_dropped: Size::Mixed, DropOldest;
    largest_rows_rejected: Size::Largest, Reject;
    largest_rows_dropped: Size::Largest, DropOldest;
}

/// In a large file the free pages that a large event leaves, and those that it takes, lie below many pages of the map: what
/// a transaction writes is checked against its estimate at each commit.
#[tokio::test]
async fn large_events_are_scattered_over_a_large_file() {
    let mut rig = Rig::closed(64 * MIB, vec![QueueOptions::new("q")]);
    rig.options.durability = Durability::Process;
    rig.open().unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    let mut refused = 0;
    while refused < 60 {
        let event = filled(rng.usize(1..600_000));
        match rig.store().commit(Commit::append(rig.q(), vec![event])).await {
            Ok(_) => continue,
            Err(CommitError::Full { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        let mut ids = rig.ids().await;
        rng.shuffle(&mut ids);
        ids.truncate(rng.usize(1..8));
        rig.ack(ids).await;
    }
    rig.close().await;
}

/// Leases enlarge the database of a full store, beside a WAL file that keeps the length it once had.
#[tokio::test]
async fn leases_of_a_full_store_fit_beside_the_longest_wal() {
    let mut rig = Rig::closed(MIB, vec![QueueOptions::new("q")]);
    rig.options.durability = Durability::Process;
    rig.open().unwrap();
    while rig.store().commit(Commit::append(rig.q(), vec![filled(700)])).await.is_ok() {}
    let conn = crate::schema::connect(rig.path(), Durability::Process).unwrap();
    let pages = || -> u64 { conn.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap() };
    let others = || length(&rig, "-shm") + length(&rig, ".reserve");
    let before = pages();
    // As an earlier transaction could have left it; SQLite passes over what is behind its own frames.
    let longest = 32 + (MIB - before * 4096 - others() - 32) / 4120 * 4120;
    std::fs::File::options()
        .write(true)
        .open(rig.beside("-wal"))
        .and_then(|wal| wal.set_len(longest))
        .unwrap();
    for lease in 0..150 {
        assert_eq!(rig.lease(1).await.1.len(), 1);
        // What the database will have at the next checkpoint.
        let total = pages() * 4096 + length(&rig, "-wal") + others();
        assert!(total <= MIB, "{total} bytes, {} too many, at lease {lease}", total - MIB);
    }
    assert!(pages() > before, "so nothing was tried");
}

/// Pages of the database, also of those that only the WAL has.
fn pages(conn: &rusqlite::Connection) -> u64 {
    conn.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn dead_letters_leave_the_room_that_leases_grow_into() {
    let mut rig = Rig::closed(10 * MIB, vec![QueueOptions::new("q")]);
    rig.options.durability = Durability::Process;
    rig.open().unwrap();
    for many in [50, 1] {
        let append = || Commit::append(rig.q(), vec![filled(4_000); many]);
        while rig.store().commit(append()).await.is_ok() {}
    }
    let letter = Letter { queue: rig.q(), content: filled(1_000), reason: "refused".to_owned() };
    while rig.store().disk().dropped_dead == 0 {
        let letters = vec![letter.clone()];
        rig.store().commit(Commit { letters, ..Commit::default() }).await.unwrap();
    }
    let kept = rig.store().disk().dead_letters;
    assert!(kept < 500, "{kept}: not the file was full, but the share of letters");
    let limits = Limits::new(10 * MIB);
    let mut leases = 0;
    while !rig.lease(1).await.1.is_empty() {
        leases += 1;
    }
    assert!(leases >= limits.max_ranges(), "only {leases}");
    let conn = crate::schema::connect(rig.path(), Durability::Process).unwrap();
    let (pages, cap) = (pages(&conn), limits.db_cap());
    assert!(pages <= cap, "{pages} pages of {cap}");
}

/// Events that are given back one by one, between others that are held, make as many ranges as there can be. What a
/// transaction writes is checked against its estimate at each commit.
async fn check_releases_one_by_one(mib: u64) {
    const EVENTS: u64 = 20_000;
    let mut rig = Rig::closed(mib * MIB, vec![QueueOptions::new("q")]);
    rig.options.durability = Durability::Process;
    rig.open().unwrap();
    let append = || Commit::append(rig.q(), vec![filled(100); 50]);
    while rig.usage().events < EVENTS && rig.store().commit(append()).await.is_ok() {}
    let conn = crate::schema::connect(rig.path(), Durability::Process).unwrap();
    let limits = Limits::new(mib * MIB);
    let others = || length(&rig, "-shm") + length(&rig, ".reserve");
    let check = |when: &str| {
        let count = "SELECT count(*) FROM leases";
        let ranges: u64 = conn.query_row(count, [], |row| row.get(0)).unwrap();
        // A lease may cut what came back, and what nobody has had.
        assert!(ranges <= limits.max_ranges() + 2, "{mib} MiB, {when}: {ranges} ranges");
        let (pages, cap) = (pages(&conn), limits.db_cap());
        assert!(pages <= cap, "{mib} MiB, {when}: {pages} pages of {cap}");
        // What the database will have at the next checkpoint.
        let total = pages * 4096 + length(&rig, "-wal") + others();
        assert!(total <= mib * MIB, "{mib} MiB, {when}: {} bytes too many", total - mib * MIB);
    };
    let ids = |events: &[StoredEvent]| events.iter().map(|event| event.id).collect::<Vec<_>>();
    let all = ids(&rig.lease(usize::MAX).await.1);
    let every_other: Vec<u64> = all.iter().copied().step_by(2).collect();
    // As an earlier transaction could have left it, beside the few pages that any other may add.
    let longest = 32 + (mib * MIB - (pages(&conn) + 8) * 4096 - others() - 32) / 4120 * 4120;
    if length(&rig, "-wal") < longest {
        let wal = std::fs::File::options().write(true).open(rig.beside("-wal")).unwrap();
        wal.set_len(longest).unwrap();
    }
    let released = rig.store().release(rig.q(), every_other.clone()).await.unwrap();
    check("released");
    let expected = limits.max_ranges() / 2;
    assert!((expected - 1..=expected + 1).contains(&released), "{released} of {expected}");
    let again = ids(&rig.lease(usize::MAX).await.1);
    check("leased again");
    assert_eq!(again.len() as u64, released);
    rig.clock.advance(TTL);
    assert_eq!(ids(&rig.lease(usize::MAX).await.1), all, "the others when their lease has run out");
    check("leased once more");
    assert_eq!(rig.ack(every_other).await, all.len().div_ceil(2) as u64);
    check("acknowledged");
    rig.clock.advance(TTL);
    let rest: Vec<u64> = all.into_iter().skip(1).step_by(2).collect();
    assert_eq!(ids(&rig.lease(usize::MAX).await.1), rest);
    check("the rest");
}

#[tokio::test]
async fn a_store_keeps_to_its_bound_whatever_is_released() {
    for mib in [1, 10] {
        check_releases_one_by_one(mib).await;
    }
}

#[tokio::test]
async fn ten_thousand_releases_one_by_one_are_quick() {
    let check = tokio::time::timeout(Duration::from_secs(60), check_releases_one_by_one(64));
    check.await.expect("no walk over the whole book for each of them");
}

/// Values by name take their place beside the events. Who sets them may not know how many there will be.
#[tokio::test]
async fn values_within_the_limit_are_refused_like_events_and_others_go_on() {
    let rig = Rig::with(MIB, vec![QueueOptions::new("q")]);
    let set = async |key: &str, bytes: usize, within_limit: bool| {
        let value = Some(filled(bytes).to_vec());
        let checkpoints = vec![Checkpoint { key: key.to_owned(), value }];
        rig.store().commit(Commit { checkpoints, within_limit, ..Commit::default() }).await
    };
    let mut stored = 0;
    let refused = loop {
        match set(&format!("value {stored}"), 60_000, true).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 20, "a megabyte takes no more");
    };
    assert!(matches!(refused, CommitError::Full { .. }), "{refused}");
    assert_eq!(refused.to_string(), "the store is full: the store's size limit is reached");
    assert!(stored > 5, "only {stored} of them");
    let files: u64 =
        ["", "-wal", "-shm", ".reserve"].map(|suffix| length(&rig, suffix)).iter().sum();
    assert!(files <= MIB, "{files} bytes");
    set("value 0", 60_000, true).await.expect("no longer than what is there");
    set("ship:sink", 100, false).await.expect("a sink goes on");
    let large = set("value 0", 2 << 20, true).await.unwrap_err();
    assert!(matches!(large, CommitError::TooLarge { .. }), "{large}");
}

/// They do not let the file grow, but the WAL has to take them once more.
#[tokio::test]
async fn values_that_take_the_place_of_others_keep_to_the_bound_too() {
    let rig = Rig::with(MIB, vec![QueueOptions::new("q")]);
    let set = async |within_limit: bool| {
        let checkpoint =
            |key: usize| Checkpoint { key: key.to_string(), value: Some(filled(60_000).to_vec()) };
        let checkpoints = (0..4).map(checkpoint).collect();
        rig.store().commit(Commit { checkpoints, within_limit, ..Commit::default() }).await
    };
    set(true).await.expect("an empty store has room");
    while rig.store().commit(Commit::append(rig.q(), vec![filled(4_000)])).await.is_ok() {}
    let refused = set(true).await.unwrap_err();
    assert!(matches!(refused, CommitError::Full { .. }), "{refused}");
    let files: u64 =
        ["", "-wal", "-shm", ".reserve"].map(|suffix| length(&rig, suffix)).iter().sum();
    assert!(files <= MIB, "{files} bytes");
    rig.ack(rig.ids().await).await;
    set(true).await.expect("there is room again");
}
