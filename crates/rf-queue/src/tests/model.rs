//! Random requests, to the store and to a model of plain lists: both must say the same.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use super::rig::{MIB, Rig, bury, filled};
use crate::limits::stored_bytes;
use crate::{
    Budget, Clock, Commit, CommitError, Durability, FullReason, QueueId, QueueOptions,
    StoreOptions, WhenFull,
};

/// Own limit of the first two queues, in bytes in the file.
const LIMIT: u64 = 40_000;
/// So that a queue has several.
const SEGMENT: u64 = 8_000;
const MAX_AGE: Duration = Duration::from_secs(100);

#[derive(Debug, Clone)]
enum Step {
    Append { queue: usize, sizes: Vec<usize> },
    Read { queue: usize, after: Index, events: usize, bytes: usize },
    Lease { queue: usize, events: usize, bytes: usize, ttl_ms: u64 },
    Ack { queue: usize, which: Vec<Index> },
    Release { queue: usize, which: Vec<Index> },
    Extend { queue: usize, which: Index, ttl_ms: u64 },
    Bury { queue: usize, which: Index },
    Advance(u64),
    Reopen,
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![1 => Just(0usize), 6 => 1..200usize, 3 => 200..5_000usize, 1 => 5_000..45_000usize];
    prop::collection::vec(size, 0..6)
}

fn which() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 0..8)
}

fn step() -> impl Strategy<Value = Step> {
    let queue = 0..3usize;
    let budget = (0..12usize, prop_oneof![Just(0usize), 1..500usize, 500..50_000usize]);
    let ttl = 1..60_000u64;
    prop_oneof![
        6 => (queue.clone(), sizes()).prop_map(|(queue, sizes)| Step::Append { queue, sizes }),
        2 => (queue.clone(), any::<Index>(), budget.clone())
            .prop_map(|(queue, after, (events, bytes))| Step::Read { queue, after, events, bytes }),
        4 => (queue.clone(), budget, ttl.clone())
            .prop_map(|(queue, (events, bytes), ttl_ms)| Step::Lease { queue, events, bytes, ttl_ms }),
        4 => (queue.clone(), which()).prop_map(|(queue, which)| Step::Ack { queue, which }),
        2 => (queue.clone(), which()).prop_map(|(queue, which)| Step::Release { queue, which }),
        2 => (queue.clone(), any::<Index>(), ttl).prop_map(|(queue, which, ttl_ms)| Step::Extend { queue, which, ttl_ms }),
        1 => (queue, any::<Index>()).prop_map(|(queue, which)| Step::Bury { queue, which }),
        3 => (0..50_000u64).prop_map(Step::Advance),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    id: u64,
    at: u64,
    len: usize,
    attempts: u32,
    /// Until when, and by which lease.
    held: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Queue {
    when_full: WhenFull,
    max_age: Option<u64>,
    events: VecDeque<Event>,
    last_id: u64,
    last_at: u64,
    dropped: (u64, u64),
    tokens: Vec<u64>,
}

impl Queue {
    fn stored(&self) -> u64 {
        self.events.iter().map(|event| stored_bytes(event.len as u64)).sum()
    }

    fn pick(&self, which: &[Index]) -> Vec<u64> {
        let pick = |index: &Index| {
            if self.events.is_empty() { 3 } else { self.events[index.index(self.events.len())].id }
        };
        which.iter().map(pick).collect()
    }

    /// What a read with this budget gives of the events for which `free` holds.
    fn take(&self, budget: Budget, free: impl Fn(&Event) -> bool) -> Vec<Event> {
        let (mut taken, mut bytes) = (Vec::<Event>::new(), 0);
        for event in self.events.iter().filter(|event| free(event)) {
            let fits =
                taken.is_empty() || bytes < budget.bytes && bytes + event.len <= budget.bytes;
            if taken.len() == budget.events || !fits {
                break;
            }
            bytes += event.len;
            taken.push(event.clone());
        }
        taken
    }
}

struct Pair {
    rig: Rig,
    queues: Vec<Queue>,
}

impl Pair {
    fn new() -> Self {
        let own = |name: &str, when_full| QueueOptions {
            max_bytes: Some(LIMIT),
            when_full,
            ..QueueOptions::new(name)
        };
        let options = vec![
            own("rejects", WhenFull::Reject),
            own("drops", WhenFull::DropOldest),
            QueueOptions { max_age: Some(MAX_AGE), ..QueueOptions::new("ages") },
        ];
        let queues = options.iter().map(|options| Queue {
            when_full: options.when_full,
            max_age: options.max_age.map(|age| u64::try_from(age.as_millis()).unwrap()),
            events: VecDeque::new(),
            last_id: 0,
            last_at: 0,
            dropped: (0, 0),
            tokens: vec![0],
        });
        let queues = queues.collect();
        let mut rig = Rig::closed(64 * MIB, options);
        rig.options = StoreOptions {
            durability: Durability::Process,
            segment_bytes: Some(SEGMENT),
            ..rig.options
        };
        rig.open().unwrap();
        Self { rig, queues }
    }

    async fn take_step(&mut self, step: &Step) {
        match step {
            Step::Append { queue, sizes } => self.append(*queue, sizes).await,
            Step::Read { queue, after, events, bytes } => {
                let after = self.queues[*queue].pick(&[*after])[0];
                self.read(*queue, after, (*events, *bytes)).await;
            }

            Step::Lease { queue, events, bytes, ttl_ms } => {
                self.lease(*queue, (*events, *bytes), *ttl_ms).await;
            }
            Step::Ack { queue, which } => self.ack(*queue, which).await,
            Step::Release { queue, which } => self.release(*queue, which).await,
            Step::Extend { queue, which, ttl_ms } => self.extend(*queue, *which, *ttl_ms).await,
            Step::Bury { queue, which } => self.bury(*queue, *which).await,
            Step::Advance(ms) => self.advance(*ms).await,
            Step::Reopen => {
                self.rig.reopen().await;
                self.queues.iter_mut().for_each(|queue| queue.dropped = (0, 0));
            }
        }
        self.compare().await;
    }

    async fn append(&mut self, index: usize, sizes: &[usize]) {
        let answer = self
            .rig
            .store()
            .commit(Commit::append(QueueId(index), sizes.iter().copied().map(filled).collect()))
            .await;
        let queue = &mut self.queues[index];
        let bytes: u64 = sizes.iter().map(|&len| stored_bytes(len as u64)).sum();
        let limit = if queue.max_age.is_some() { u64::MAX } else { LIMIT };
        if bytes > limit {
            assert_eq!(answer, Err(CommitError::TooLarge { bytes, limit }));
            return;
        }
        if queue.stored() + bytes > limit && !sizes.is_empty() {
            if queue.when_full == WhenFull::Reject {
                assert_eq!(
                    answer,
                    Err(CommitError::Full { queue: "rejects".into(), reason: FullReason::Queue })
                );
                return;
            }
            while queue.stored() + bytes > limit {
                queue.events.pop_front();
                queue.dropped.0 += 1;
            }
        }
        answer.unwrap();
        let at = self.rig.clock.wall_ms().max(queue.last_at);
        queue.last_at = if sizes.is_empty() { queue.last_at } else { at };
        let stored = self
            .rig
            .store()
            .read(QueueId(index), queue.last_id, super::rig::EVERYTHING)
            .await
            .unwrap();
        assert_eq!(stored.iter().map(|event| event.content.len()).collect::<Vec<_>>(), sizes);
        for event in stored {
            assert!(event.id > queue.last_id);
            queue.last_id = event.id;
            queue.events.push_back(Event {
                id: event.id,
                at,
                len: event.content.len(),
                attempts: 0,
                held: None,
            });
        }
    }

    async fn read(&mut self, index: usize, after: u64, (events, bytes): (usize, usize)) {
        let budget = Budget { events, bytes };
        let queue = &self.queues[index];
        let found = self.rig.store().read(QueueId(index), after, budget).await.unwrap();
        let expected = queue.take(budget, |event| event.id > after);
        let shape = |id, at, len| (id, at, len);
        let found: Vec<_> =
            found.iter().map(|event| shape(event.id, event.at_ms, event.content.len())).collect();
        assert_eq!(
            found,
            expected.iter().map(|event| shape(event.id, event.at, event.len)).collect::<Vec<_>>()
        );
    }

    async fn lease(&mut self, index: usize, (events, bytes): (usize, usize), ttl_ms: u64) {
        let budget = Budget { events, bytes };
        let leased = self
            .rig
            .store()
            .lease(QueueId(index), budget, Duration::from_millis(ttl_ms))
            .await
            .unwrap();
        let until = self.rig.clock.mono_ms() + ttl_ms;
        let queue = &mut self.queues[index];
        let expected = queue.take(budget, |event| event.held.is_none());
        let found: Vec<_> = leased.events.iter().map(|event| (event.id, event.attempts)).collect();
        assert_eq!(
            found,
            expected.iter().map(|event| (event.id, event.attempts)).collect::<Vec<_>>()
        );
        assert_eq!(leased.token == 0, expected.is_empty());
        assert!(leased.token == 0 || !queue.tokens.contains(&leased.token));
        queue.tokens.push(leased.token);
        for event in
            queue.events.iter_mut().filter(|event| found.iter().any(|(id, _)| *id == event.id))
        {
            event.held = Some((until, leased.token));
        }
    }

    async fn ack(&mut self, index: usize, which: &[Index]) {
        let queue = &mut self.queues[index];
        let ids = queue.pick(which);
        let before = queue.events.len();
        queue.events.retain(|event| !ids.contains(&event.id));
        let removed = self.rig.store().ack(QueueId(index), ids).await.unwrap();
        assert_eq!(removed, (before - queue.events.len()) as u64);
    }

    async fn release(&mut self, index: usize, which: &[Index]) {
        let queue = &mut self.queues[index];
        let ids = queue.pick(which);
        let mut count = 0;
        for event in
            queue.events.iter_mut().filter(|event| event.held.is_some() && ids.contains(&event.id))
        {
            event.held = None;
            event.attempts += 1;
            count += 1;
        }
        assert_eq!(self.rig.store().release(QueueId(index), ids).await.unwrap(), count);
    }

    async fn extend(&mut self, index: usize, which: Index, ttl_ms: u64) {
        let until = self.rig.clock.mono_ms() + ttl_ms;
        let queue = &mut self.queues[index];
        let token = queue.tokens[which.index(queue.tokens.len())];
        let mut found = false;
        for event in
            queue.events.iter_mut().filter(|event| event.held.is_some_and(|(_, by)| by == token))
        {
            event.held = Some((until, token));
            found = true;
        }
        let answer = self
            .rig
            .store()
            .extend(QueueId(index), token, Duration::from_millis(ttl_ms))
            .await
            .unwrap();
        assert_eq!(answer, found);
    }

    async fn bury(&mut self, index: usize, which: Index) {
        let queue = &mut self.queues[index];
        let id = queue.pick(&[which])[0];
        queue.events.retain(|event| event.id != id);
        self.rig.store().commit(bury(QueueId(index), id)).await.unwrap();
    }

    async fn advance(&mut self, ms: u64) {
        self.rig.clock.advance(Duration::from_millis(ms));
        let (wall, mono) = (self.rig.clock.wall_ms(), self.rig.clock.mono_ms());
        for queue in &mut self.queues {
            for event in queue
                .events
                .iter_mut()
                .filter(|event| event.held.is_some_and(|(until, _)| until <= mono))
            {
                event.held = None;
                event.attempts += 1;
            }
            while queue
                .events
                .front()
                .is_some_and(|event| queue.max_age.is_some_and(|age| event.at + age <= wall))
            {
                queue.events.pop_front();
                queue.dropped.1 += 1;
            }
        }
        self.rig.store().poke().await.unwrap();
    }

    async fn compare(&self) {
        for (index, queue) in self.queues.iter().enumerate() {
            let usage = self.rig.store().usage(QueueId(index));
            assert_eq!(usage.events, queue.events.len() as u64);
            assert_eq!(usage.bytes, queue.events.iter().map(|event| event.len as u64).sum::<u64>());
            assert_eq!(usage.oldest_at_ms, queue.events.front().map(|event| event.at));
            assert_eq!((usage.dropped_full, usage.dropped_age), queue.dropped);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_plain_lists_would(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new();
            for step in &steps {
                pair.take_step(step).await;
            }
            for index in 0..3 {
                pair.read(index, 0, (usize::MAX, usize::MAX)).await;
            }
        });
    }
}
