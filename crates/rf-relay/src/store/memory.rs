//! A store in memory for tests: the contract in its simplest form, and faults on demand.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rf_core::protocol::PulledEvent;
use rf_queue::{Budget, Found, FoundEvent};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{AppendError, Appended, BucketStore, IsMeant, Pulled, Unavailable, Usage};
use crate::bucket::BucketName;

/// Buckets in memory; clones are the same store.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    buckets: Arc<Mutex<HashMap<BucketName, Bucket>>>,
}

#[derive(Default)]
struct Bucket {
    next_id: u64,
    next_lease: u64,
    events: BTreeMap<u64, Event>,
    batch_ids: HashSet<String>,
    holders: HashMap<String, String>,
    news: watch::Sender<u64>,
    fault: Option<Fault>,
    usage: Usage,
}

struct Event {
    content: Bytes,
    attempts: u32,
    lease: Option<(String, Instant)>,
}

/// What a bucket does instead of its work.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    Full,
    DiskFull,
    Broken,
    Panic,
    /// An append does its work, and never ends.
    Unanswered,
}

impl Memory {
    pub(crate) fn break_bucket(&self, bucket: &str, fault: impl Into<Option<Fault>>) {
        self.with(&BucketName::new(bucket).unwrap(), |bucket| bucket.fault = fault.into());
    }

    /// Figures that the bucket tells from now on, but for its events.
    pub(crate) fn set_usage(&self, bucket: &str, usage: Usage) {
        self.with(&BucketName::new(bucket).unwrap(), |bucket| bucket.usage = usage);
    }

    /// Returns as soon as a long poll waits for the bucket.
    pub(crate) async fn somebody_watches(&self, bucket: &str) {
        self.so_many_watch(bucket, 1).await;
    }

    /// Returns as soon as so many long polls wait for the bucket.
    pub(crate) async fn so_many_watch(&self, bucket: &str, least: usize) {
        while self.watchers(bucket) < least {
            tokio::task::yield_now().await;
        }
    }

    /// Returns as soon as no long poll waits for the bucket.
    pub(crate) async fn nobody_watches(&self, bucket: &str) {
        while self.watchers(bucket) > 0 {
            tokio::task::yield_now().await;
        }
    }

    fn watchers(&self, bucket: &str) -> usize {
        self.with(&BucketName::new(bucket).unwrap(), |bucket| bucket.news.receiver_count())
    }

    fn with<R>(&self, name: &BucketName, work: impl FnOnce(&mut Bucket) -> R) -> R {
        work(self.buckets.lock().entry(name.clone()).or_default())
    }

    fn try_with<R>(
        &self,
        name: &BucketName,
        work: impl FnOnce(&mut Bucket) -> R,
    ) -> Result<R, Unavailable> {
        self.with(name, |bucket| match bucket.fault {
            Some(Fault::Broken) => Err(Unavailable("the secret cause".to_owned())),
            _ => Ok(work(bucket)),
        })
    }
}

impl Bucket {
    fn end_leases(&mut self) {
        let now = Instant::now();
        for event in self.events.values_mut() {
            if event.lease.take_if(|(_, until)| *until <= now).is_some() {
                event.attempts += 1;
            }
        }
    }

    fn pull(&mut self, budget: Budget, lease: Option<Duration>) -> Pulled {
        self.end_leases();
        self.next_lease += u64::from(lease.is_some());
        let token = lease.map(|_| self.next_lease.to_string());
        let mut events = Vec::new();
        let mut bytes = 0;
        for (&id, event) in &mut self.events {
            if lease.is_some() && event.lease.is_some() {
                continue;
            }
            bytes += event.content.len();
            if events.len() == budget.events || (bytes > budget.bytes && !events.is_empty()) {
                break;
            }
            event.lease =
                token.clone().zip(lease.map(|ttl| Instant::now() + ttl)).or(event.lease.take());
            let attempts = if lease.is_some() { event.attempts } else { 0 };
            events.push(PulledEvent { id, content: event.content.clone(), attempts });
        }
        Pulled { lease: token.filter(|_| !events.is_empty()), events }
    }
}

impl BucketStore for Memory {
    fn can_take(&self, _bucket: &BucketName, _events: &[Bytes]) -> bool {
        true
    }

    fn append<'a>(
        &'a self,
        bucket: &'a BucketName,
        events: Vec<Bytes>,
        batch_id: Option<String>,
    ) -> BoxFuture<'a, Result<Appended, AppendError>> {
        async move {
            let fault = self.with(bucket, |bucket| bucket.fault);
            match fault {
                Some(Fault::Full) => return Err(AppendError::Full("no room".to_owned())),
                Some(Fault::DiskFull) => return Err(AppendError::Disk("no room".to_owned())),
                Some(Fault::Panic) => panic!("this panic is part of the test"),
                Some(Fault::Broken | Fault::Unanswered) | None => {}
            }
            let appended = self.try_with(bucket, |bucket| {
                if batch_id.is_some_and(|id| !bucket.batch_ids.insert(id)) {
                    return Appended::Duplicate;
                }
                for content in events {
                    bucket.next_id += 1;
                    bucket
                        .events
                        .insert(bucket.next_id, Event { content, attempts: 0, lease: None });
                }
                bucket.news.send_modify(|news| *news += 1);
                Appended::Stored
            })?;
            if matches!(fault, Some(Fault::Unanswered)) {
                std::future::pending::<()>().await;
            }
            Ok(appended)
        }
        .boxed()
    }

    fn pull<'a>(
        &'a self,
        bucket: &'a BucketName,
        budget: Budget,
        lease: Option<Duration>,
        holder: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Pulled, Unavailable>> {
        let pull = move |bucket: &mut Bucket| {
            let pulled = bucket.pull(budget, lease);
            if let (Some(holder), Some(lease)) = (holder, &pulled.lease) {
                bucket.holders.insert(holder.to_owned(), lease.clone());
            }
            pulled
        };
        async move { self.try_with(bucket, pull) }.boxed()
    }

    fn lease_of<'a>(
        &'a self,
        bucket: &'a BucketName,
        holder: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, Unavailable>> {
        async move { self.try_with(bucket, |bucket| bucket.holders.get(holder).cloned()) }.boxed()
    }

    fn newest<'a>(
        &'a self,
        bucket: &'a BucketName,
        events: usize,
    ) -> BoxFuture<'a, Result<Vec<PulledEvent>, Unavailable>> {
        async move {
            self.try_with(bucket, |bucket| {
                let event = |(id, event): (&u64, &Event)| PulledEvent {
                    id: *id,
                    content: event.content.clone(),
                    attempts: 0,
                };
                let before = bucket.events.len().saturating_sub(events);
                bucket.events.iter().skip(before).map(event).collect()
            })
        }
        .boxed()
    }

    fn find<'a>(
        &'a self,
        bucket: &'a BucketName,
        is_meant: IsMeant,
        _patience: Duration,
    ) -> BoxFuture<'a, Result<Found, Unavailable>> {
        async move {
            self.try_with(bucket, |bucket| {
                let meant = bucket.events.iter().filter(|(_, event)| is_meant(&event.content));
                let queue = "events".to_owned();
                let found = meant.map(|(&id, _)| FoundEvent { queue: queue.clone(), id, at_ms: 0 });
                Found { waiting: found.collect(), ..Found::default() }
            })
        }
        .boxed()
    }

    fn acknowledge<'a>(
        &'a self,
        bucket: &'a BucketName,
        ids: Vec<u64>,
    ) -> BoxFuture<'a, Result<u64, Unavailable>> {
        async move {
            self.try_with(bucket, |bucket| {
                ids.iter().filter(|id| bucket.events.remove(id).is_some()).count() as u64
            })
        }
        .boxed()
    }

    fn release<'a>(
        &'a self,
        bucket: &'a BucketName,
        ids: Vec<u64>,
    ) -> BoxFuture<'a, Result<u64, Unavailable>> {
        async move {
            self.try_with(bucket, |bucket| {
                let mut released = 0;
                for id in ids {
                    if let Some(event) = bucket.events.get_mut(&id)
                        && event.lease.take().is_some()
                    {
                        event.attempts += 1;
                        released += 1;
                    }
                }
                bucket.news.send_modify(|news| *news += 1);
                released
            })
        }
        .boxed()
    }

    fn extend<'a>(
        &'a self,
        bucket: &'a BucketName,
        lease: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<bool, Unavailable>> {
        async move {
            self.try_with(bucket, |bucket| {
                bucket.end_leases();
                let mut extended = false;
                for event in bucket.events.values_mut() {
                    if let Some((token, until)) = &mut event.lease
                        && token == lease
                    {
                        *until = Instant::now() + ttl;
                        extended = true;
                    }
                }
                extended
            })
        }
        .boxed()
    }

    fn watch<'a>(
        &'a self,
        bucket: &'a BucketName,
    ) -> BoxFuture<'a, Result<watch::Receiver<u64>, Unavailable>> {
        async move { self.try_with(bucket, |bucket| bucket.news.subscribe()) }.boxed()
    }

    fn usage(&self, bucket: &BucketName) -> Usage {
        self.with(bucket, |bucket| Usage {
            events: bucket.events.len() as u64,
            failure: matches!(bucket.fault, Some(Fault::Broken)).then(|| "broken".to_owned()),
            ..bucket.usage.clone()
        })
    }

    fn work(&self, stop: CancellationToken) -> BoxFuture<'_, Result<(), Unavailable>> {
        async move {
            stop.cancelled().await;
            Ok(())
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            for bucket in self.buckets.lock().values_mut() {
                bucket.fault = Some(Fault::Broken);
            }
        }
        .boxed()
    }
}
