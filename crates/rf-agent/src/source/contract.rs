//! The test that every source runs: what it has read is stored, or read again after a kill.
//!
//! A source's test describes where its events come from as an [`Origin`] and calls [`check_source_contract`], once for each
//! way in which the source may be set up. The check lets the source run through several lives over one real store: each
//! but the last ends in the middle of something (a kill before a commit, after it but before its answer, at some poll of
//! the source's future), or meets refusals (queue full, database failed, batch too large). In the end every item must
//! have been stored, and where [`Origin::delivery`] says so, once. What no source of a kind can survive is left out:
//! [`Origin::survives`]. Which kinds run the check is listed in [`kinds`], and a kind that is missing there fails a test.
//!
//! What is killed is the future of the source; its store serves what it had been handed, as a database does after a
//! SIGKILL, and is opened anew. Threads that a source has left running can no longer reach it.

mod kinds;
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{BoxFuture, FusedFuture};
use futures_util::{FutureExt, poll};
use rf_core::config::{Problems, parse};
use rf_queue::{Budget, FullReason, OpenError, QueueOptions, Store, StoreOptions};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{SOURCES, Source, SourceContext};
use crate::pipeline::faults::{Fault, FaultPlan, Faults};
use crate::pipeline::{Batch, Output, Rejected};

/// Items that are offered before, and while, the source lives once.
const ITEMS_A_LIFE: u32 = 8;
/// A life whose end is not reached (the source needs fewer batches or polls) is ended after this.
const LIFE: Duration = Duration::from_millis(400);
/// The last life may go on for so long without storing anything that is missing; a stop may take so long.
const PATIENCE: Duration = Duration::from_secs(40);
/// A test does not wait longer for anything.
const SOON: Duration = Duration::from_secs(20);
const STORE_BYTES: u64 = 64 * 1024 * 1024;
/// How often the harness looks at the queue in the last life.
const LOOK: Duration = Duration::from_millis(5);

/// How often an item may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The source has checkpoints, or may otherwise tell what it has stored.
    ExactlyOnce,
    /// Repeats are allowed.
    AtLeastOnce,
}

/// What a source may go through without the loss of an item; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Survives {
    /// Refusals. Its senders are not told what has arrived, so what is on its way at a stop is lost.
    Refusals,
    /// Stops: all that was read is stored. What was read is nowhere else, so a kill loses what is in memory.
    Stops,
    /// Kills: what was read and is not stored is read again.
    Kills,
}

/// Where a source's events come from; outlives the source. Items are numbered from 0.
pub(crate) trait Origin: Send + Sync {
    /// A source over this origin, as the agent builds it at a start.
    fn source(&self) -> Box<dyn Source>;

    /// Told at each start where the source listens.
    fn started(&self, _addresses: &[SocketAddr]) {}

    /// Offers an item. Where a client waits for an answer, ready only when the item was taken, however many lives that
    /// takes; else at once.
    fn write(&self, number: u64) -> BoxFuture<'_, ()>;

    /// The number of the item that became this event; `None` for an event of another kind, which is passed over.
    fn number(&self, event: &[u8]) -> Option<u64>;

    /// Items that may be missing in the end, because the source cannot have read them. Asked at the end.
    fn may_miss(&self) -> BTreeSet<u64> {
        BTreeSet::new()
    }

    /// How often an item may be stored.
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    /// What the source may go through without the loss of an item; it is put through nothing else.
    fn survives(&self) -> Survives {
        Survives::Kills
    }
}

/// How a life ends, and what happens in it.
#[derive(Debug, Clone, Copy)]
enum Life {
    /// Killed before its `n`th batch reaches the store.
    KilledBefore(u64),
    /// Killed after the commit of its `n`th batch, before the source hears of it.
    KilledAfter(u64),
    /// Killed at the `n`th poll of the source's future.
    KilledAtPoll(u64),
    /// Stopped as an agent is stopped.
    Stopped,
    /// Its first batches are refused: queue full, database failed. Then killed before the next.
    Refused,
    /// Batches of more than one event are refused as too large.
    OneAtATime,
    /// The first look at the checkpoints fails.
    CheckpointsFail,
    /// The last one: all is stored.
    Last,
    /// The same, but its first batches are refused. A source that reads everything again at its next start could mend
    /// what it forgets in any other life.
    LastRefused,
    /// The same, but batches of more than one event are refused as too large.
    LastOneAtATime,
}

/// The lives of each round.
const ROUNDS: &[&[Life]] = &[
    &[Life::Last],
    &[Life::LastRefused],
    &[Life::LastOneAtATime],
    &[Life::Stopped, Life::Stopped, Life::Last],
    &[Life::KilledBefore(0), Life::KilledAfter(0), Life::KilledAfter(0), Life::Last],
    &[Life::KilledAfter(1), Life::KilledBefore(1), Life::KilledAfter(2), Life::Last],
    &[Life::KilledAtPoll(1), Life::KilledAtPoll(2), Life::KilledAtPoll(3), Life::Last],
    &[Life::KilledAtPoll(4), Life::KilledAtPoll(6), Life::KilledAtPoll(9), Life::Last],
    &[Life::KilledAtPoll(13), Life::KilledAtPoll(20), Life::KilledAtPoll(35), Life::Last],
    &[Life::Refused, Life::KilledAfter(0), Life::Refused, Life::Last],
    &[Life::OneAtATime, Life::KilledAfter(1), Life::OneAtATime, Life::Last],
    &[Life::Stopped, Life::CheckpointsFail, Life::Stopped, Life::Last],
];

impl Life {
    fn faults(self) -> Faults {
        let plan: FaultPlan = match self {
            Self::KilledBefore(at) => {
                Box::new(move |n, _| if n == at { Fault::KillBefore } else { Fault::None })
            }
            Self::KilledAfter(at) => {
                Box::new(move |n, _| if n == at { Fault::KillAfter } else { Fault::None })
            }
            Self::Refused => Box::new(|n, _| if n > 2 { Fault::KillBefore } else { refusal(n) }),
            Self::LastRefused => Box::new(|n, _| refusal(n)),
            Self::OneAtATime | Self::LastOneAtATime => Box::new(|_, batch: &Batch| {
                let (bytes, limit) = (batch.events.len() as u64, 1);
                if bytes > limit {
                    Fault::Refuse(Rejected::TooLarge { bytes, limit })
                } else {
                    Fault::None
                }
            }),
            _ => Box::new(|_, _| Fault::None),
        };
        Faults::new(u64::from(matches!(self, Self::CheckpointsFail)), plan)
    }

    /// Long enough for the pauses after refusals and failures.
    fn longest(self) -> Duration {
        match self {
            Self::Refused | Self::CheckpointsFail => 10 * LIFE,
            _ if self.is_last() => Duration::MAX,
            _ => LIFE,
        }
    }

    fn is_last(self) -> bool {
        matches!(self, Self::Last | Self::LastRefused | Self::LastOneAtATime)
    }

    /// Whether a source that survives this much can be put through it.
    fn is_survived(self, survives: Survives) -> bool {
        let needed = match self {
            _ if self.is_last() => Survives::Refusals,
            Self::Stopped => Survives::Stops,
            _ => Survives::Kills,
        };
        survives >= needed
    }

    fn polls(self) -> u64 {
        if let Self::KilledAtPoll(polls) = self { polls } else { u64::MAX }
    }
}

/// The first two batches are refused, each for a reason of its own.
fn refusal(n: u64) -> Fault {
    match n {
        0 => Fault::Refuse(Rejected::Full { sink: "q".to_owned(), reason: FullReason::Queue }),
        1 => Fault::Refuse(Rejected::Failed("a test".to_owned())),
        _ => Fault::None,
    }
}

/// Builds a source of this type as the loader does; its id is `s`, its `hookInterval` 20 ms.
pub(crate) fn build_source(kind: &str, params: &serde_json::Value) -> Box<dyn Source> {
    let mut problems = Problems::new();
    let document = parse("params", &params.to_string(), &|_| None, &mut problems).expect("JSON");
    let kind = SOURCES.iter().find(|known| known.name == kind).expect("a known type");
    let hook_interval = Some(Duration::from_millis(20));
    let context = SourceContext { id: "s", env_name: "", host_name: "h", hook_interval };
    let built = (kind.build)(&context, &document.root(), &mut problems);
    built.unwrap_or_else(|| panic!("{problems}"))
}

/// Holds a source to the contract; `make` gives a fresh origin for each round.
pub(crate) async fn check_source_contract<O: Origin>(make: impl Fn() -> O) {
    check_with(PATIENCE, make).await;
}

/// The same, with another [`PATIENCE`].
async fn check_with<O: Origin>(patience: Duration, make: impl Fn() -> O) {
    for lives in ROUNDS {
        let (origin, folder) = (make(), tempfile::tempdir().unwrap());
        if lives.iter().all(|life| life.is_survived(origin.survives())) {
            let items = u64::from(ITEMS_A_LIFE) * lives.len() as u64;
            let round = Round { origin: &origin, lives, items, patience };
            check_round(&round, folder.path()).await;
        }
    }
}

/// An origin, and the lives of the source that reads its items.
struct Round<'a> {
    origin: &'a dyn Origin,
    lives: &'a [Life],
    items: u64,
    patience: Duration,
}

async fn check_round(round: &Round<'_>, folder: &Path) {
    let Round { origin, lives, items, .. } = *round;
    let (allowed, half) = (Semaphore::new(0), ITEMS_A_LIFE as usize / 2);
    let mut writing = pin!(
        async {
            for number in 0..items {
                allowed.acquire().await.expect("never closed").forget();
                origin.write(number).await;
            }
        }
        .fuse()
    );
    for life in lives {
        // Some are there when the source starts, some come while it runs.
        allowed.add_permits(half);
        let _before = poll!(&mut writing);
        allowed.add_permits(half);
        let store = open(folder).await;
        live(round, *life, &store, &mut writing).await;
        store.close().await;
    }
    let store = open(folder).await;
    let mut stored: BTreeMap<u64, u64> = BTreeMap::new();
    for number in numbers(origin, &store).await {
        *stored.entry(number).or_default() += 1;
    }
    store.close().await;
    let may_miss = origin.may_miss();
    let missing: Vec<u64> =
        (0..items).filter(|n| !stored.contains_key(n) && !may_miss.contains(n)).collect();
    assert!(missing.is_empty(), "{lives:?}: lost {missing:?}");
    if origin.delivery() == Delivery::ExactlyOnce {
        let repeated: Vec<_> = stored.iter().filter(|(_, count)| **count > 1).collect();
        assert!(
            repeated.is_empty(),
            "{lives:?}: stored more than once (item, times): {repeated:?}"
        );
    }
}

/// One life of the source, from its start to its end.
async fn live(
    round: &Round<'_>,
    life: Life,
    store: &Store,
    writing: &mut (impl FusedFuture<Output = ()> + Unpin),
) {
    let origin = round.origin;
    let faults = Arc::new(life.faults());
    let queue = store.queue("q").expect("the queue of the test");
    let out = Output::new(store.clone(), vec![queue]).with_faults(Arc::clone(&faults));
    let stop = CancellationToken::new();
    let mut source = origin.source();
    let places = source.start().unwrap_or_else(|error| panic!("{life:?}: {error}"));
    let addresses: Vec<SocketAddr> = places.iter().map(|place| place.address).collect();
    origin.started(&addresses);
    let mut running = source.run(out, stop.clone());
    let mut polls = 0;
    let mut running = poll_fn(move |context| {
        polls += 1;
        if polls > life.polls() {
            return Poll::Ready(None);
        }
        running.poll_unpin(context).map(Some)
    });
    let end = async {
        match life {
            _ if life.is_last() => until_all_stored(round, store).await,
            Life::Stopped => sleep(LIFE / 2).await,
            _ => faults.killed.notified().await,
        }
    };
    let (mut end, mut over) = (pin!(end), pin!(sleep(life.longest())));
    // Whatever ends this life, threads that wait for the answer to a batch are let go before they are joined.
    let _dead = faults.dead.clone().drop_guard();
    loop {
        tokio::select! {
            ended = &mut running => match ended {
                None => return,
                Some(result) => panic!("{life:?}: the source ended by itself: {result:?}"),
            },
            () = &mut end => break,
            () = &mut over => break,
            () = &mut *writing, if !writing.is_terminated() => {}
        }
    }
    if life.is_last() || matches!(life, Life::Stopped) {
        stop.cancel();
        let stopped = timeout(round.patience, running).await;
        let stopped = stopped.unwrap_or_else(|_| panic!("{life:?}: the source does not stop"));
        stopped.expect("not killed").unwrap_or_else(|error| panic!("{life:?}: {error}"));
    }
}

/// Until nothing is missing that must be there, or nothing more comes; the check at the end names what is missing.
async fn until_all_stored(round: &Round<'_>, store: &Store) {
    let Round { origin, items, patience, .. } = *round;
    let (mut count, mut since) = (0, Instant::now());
    loop {
        let stored: BTreeSet<u64> = numbers(origin, store).await.into_iter().collect();
        let may_miss = origin.may_miss();
        if (0..items).all(|n| stored.contains(&n) || may_miss.contains(&n)) {
            return;
        }
        if stored.len() > count {
            (count, since) = (stored.len(), Instant::now());
        } else if since.elapsed() > patience {
            return;
        }
        sleep(LOOK).await;
    }
}

async fn numbers(origin: &dyn Origin, store: &Store) -> Vec<u64> {
    let queue = store.queue("q").expect("the queue of the test");
    let all = Budget { events: usize::MAX, bytes: usize::MAX };
    let events = store.read(queue, 0, all).await.expect("the queue can be read");
    events.iter().filter_map(|event| origin.number(&event.content)).collect()
}

/// Opens the store; the writer of the life before may still be ending.
async fn open(folder: &Path) -> Store {
    let since = Instant::now();
    loop {
        let options =
            StoreOptions::new(folder.join("q.sqlite3"), STORE_BYTES, vec![QueueOptions::new("q")]);
        match Store::open(options) {
            Ok(opened) => return opened.store,
            Err(OpenError::InUse { .. }) if since.elapsed() < SOON => sleep(LOOK).await,
            Err(error) => panic!("{error}"),
        }
    }
}
