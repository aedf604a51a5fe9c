//! What the child does, and what is there afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::tests::rig::{EVERYTHING, MIB, bury, remove, set, texts};
use crate::{
    Append, Budget, Checkpoint, Clock, Commit, DeadLetters, Durability, OpenError, Opened, QueueId,
    QueueOptions, Store, StoreOptions, Which,
};

pub(super) const QUEUES: [&str; 2] = ["first", "second"];
pub(super) const KEYS: [&str; 2] = ["file", "other"];
pub(super) const FILE: &str = "store.sqlite3";

/// Long enough for a slow machine, so that no lease of the script runs out by itself.
const LEASE: Duration = Duration::from_secs(3600);
/// Fits an empty store only: its WAL needs the place of the pages that others have left free.
const LARGE: usize = 300_000;
const MEDIUM: usize = 110_000;
const PART: usize = 20_000;
/// A few events, so that segments come and go.
const SEGMENT: u64 = 100;

#[derive(Debug, Clone)]
pub(super) enum Action {
    /// Events for both queues and a checkpoint, with a batch id or without.
    Append {
        to: [Vec<String>; 2],
        checkpoint: (&'static str, Option<&'static str>),
        batch: Option<&'static str>,
    },
    /// So many events of [`PART`] bytes for the second queue: more than the WAL can take at once.
    InParts(usize, &'static str),
    /// The same batch again.
    Repeat(&'static str),
    /// An event of that many bytes for the second queue.
    Large(&'static str, usize),
    /// Removes these events of a queue, and moves a checkpoint.
    Remove(usize, Vec<String>, &'static str),
    /// Leases so many of the first queue.
    Lease(usize),
    /// Gives these of the first queue back.
    Release(Vec<String>),
    /// The event of the first queue becomes a dead letter.
    Bury(String),
    /// All dead letters go back into their queue.
    RetryDead,
}

pub(super) fn actions() -> Vec<Action> {
    let names =
        |prefix: &str, count: usize| (0..count).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>();
    vec![
        Action::Append {
            to: [names("a", 3), vec![]],
            checkpoint: ("file", Some("1")),
            batch: None,
        },
        Action::Append {
            to: [names("b", 2), names("c", 2)],
            checkpoint: ("other", Some("x")),
            batch: Some("batch 1"),
        },
        Action::Repeat("batch 1"),
        Action::Remove(0, vec!["a1".into()], "2"),
        Action::Lease(2),
        Action::Bury("a0".into()),
        Action::Large("medium 1", MEDIUM),
        Action::Append {
            to: [vec![], names("d", 1)],
            checkpoint: ("other", None),
            batch: Some("batch 2"),
        },
        Action::Release(vec!["a2".into()]),
        Action::Large("medium 2", MEDIUM),
        Action::Large("medium 3", MEDIUM),
        Action::Large("medium 4", MEDIUM),
        Action::Remove(1, (1..=4).map(|n| format!("medium {n}")).collect(), "3"),
        Action::Large("large", LARGE),
        Action::RetryDead,
        Action::Append {
            to: [names("e", 16), vec![]],
            checkpoint: ("file", Some("4")),
            batch: None,
        },
        Action::Lease(9),
        Action::Remove(0, names("e", 15), "5"),
        Action::Bury("b0".into()),
        Action::Remove(1, vec!["c0".into(), "large".into(), "d0".into()], "6"),
        Action::InParts(25, "batch of parts"),
        Action::Append {
            to: [names("f", 1), names("g", 1)],
            checkpoint: ("file", Some("7")),
            batch: Some("batch 3"),
        },
    ]
}

pub(in crate::tests) fn queues() -> Vec<QueueOptions> {
    QUEUES.map(|name| QueueOptions { max_bytes: Some(MIB), ..QueueOptions::new(name) }).to_vec()
}

pub(super) fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<Opened, OpenError> {
    let options = StoreOptions {
        clock,
        durability: Durability::Process,
        segment_bytes: Some(SEGMENT),
        ..StoreOptions::new(folder.join(FILE), MIB, queues())
    };
    Store::open(options)
}

/// The name of an event, without the padding of a large one.
pub(super) fn label(content: &[u8]) -> String {
    String::from_utf8(content.to_vec()).unwrap().trim_end().to_owned()
}

fn events(names: &[String]) -> Vec<Bytes> {
    names.iter().map(|name| name.clone().into()).collect()
}

impl Action {
    pub(super) async fn perform(&self, store: &Store, folder: &Path) {
        if let Some(commit) = self.batch() {
            assert_eq!(store.commit(commit).await.unwrap().duplicate, self.is_repeat());
            return;
        }
        match self {
            Self::Append { .. } | Self::Repeat(_) | Self::InParts(..) => {
                store.commit(self.append()).await.unwrap();
            }
            Self::Large(name, bytes) => {
                let content = format!("{name}{}", " ".repeat(*bytes));
                store.commit(Commit::append(QueueId(1), vec![content.into()])).await.unwrap();
            }
            Self::Remove(queue, names, at) => {
                let ids = find(store, QueueId(*queue), names).await;
                let commit =
                    Commit { checkpoints: vec![set("file", at)], ..remove(QueueId(*queue), ids) };
                assert_eq!(store.commit(commit).await.unwrap().removed, names.len() as u64);
            }
            Self::Lease(count) => {
                let leased = store
                    .lease(QueueId(0), Budget { events: *count, ..EVERYTHING }, LEASE)
                    .await
                    .unwrap();
                assert_eq!(leased.events.len(), *count);
            }
            Self::Release(names) => {
                let ids = find(store, QueueId(0), names).await;
                assert_eq!(store.release(QueueId(0), ids).await.unwrap(), names.len() as u64);
            }
            Self::Bury(name) => {
                let ids = find(store, QueueId(0), std::slice::from_ref(name)).await;
                store.commit(bury(QueueId(0), ids[0])).await.unwrap();
            }
            Self::RetryDead => {
                DeadLetters::open(&folder.join(FILE)).unwrap().retry(&Which::All(None)).unwrap();
                store.poke().await.unwrap();
            }
        }
    }

    fn append(&self) -> Commit {
        let Self::Append { to, checkpoint: (key, value), batch } = self else {
            unreachable!("only appends are asked")
        };
        let appends = (0..)
            .zip(to)
            .map(|(queue, names)| Append { queue: QueueId(queue), events: events(names) })
            .collect();
        let checkpoint = Checkpoint {
            key: (*key).to_owned(),
            value: value.map(|value| value.as_bytes().to_vec()),
        };
        Commit {
            appends,
            checkpoints: vec![checkpoint],
            batch_id: batch.map(str::to_owned),
            ..Commit::default()
        }
    }

    /// The commit, if it has a batch id.
    pub(super) fn batch(&self) -> Option<Commit> {
        match self {
            Self::Append { batch: Some(_), .. } => Some(self.append()),
            Self::InParts(count, id) => {
                let events =
                    (0..*count).map(|n| format!("part {n}{}", " ".repeat(PART)).into()).collect();
                Some(Commit {
                    batch_id: Some((*id).to_owned()),
                    ..Commit::append(QueueId(1), events)
                })
            }
            Self::Repeat(id) => Some(Commit {
                batch_id: Some((*id).to_owned()),
                ..Commit::append(QueueId(0), vec!["never stored".into()])
            }),
            _ => None,
        }
    }

    /// Whether only leases tell if it was done.
    pub(super) fn is_lease(&self) -> bool {
        matches!(self, Self::Lease(_) | Self::Release(_))
    }

    pub(super) fn is_repeat(&self) -> bool {
        matches!(self, Self::Repeat(_))
    }
}

async fn find(store: &Store, queue: QueueId, names: &[String]) -> Vec<u64> {
    let all = store.read(queue, 0, EVERYTHING).await.unwrap();
    let labels: Vec<String> = texts(&all).iter().map(|text| text.trim_end().to_owned()).collect();
    all.iter()
        .zip(&labels)
        .filter(|(_, label)| names.contains(label))
        .map(|(event, _)| event.id)
        .collect()
}

/// What is there.
#[derive(Debug, Default, Clone)]
pub(super) struct Expected {
    pub(super) queues: [Vec<String>; 2],
    pub(super) checkpoints: BTreeMap<&'static str, String>,
    pub(super) dead: Vec<String>,
    leased: BTreeSet<String>,
}

/// Leases are not seen by looking.
impl PartialEq for Expected {
    fn eq(&self, other: &Self) -> bool {
        self.queues == other.queues
            && self.checkpoints == other.checkpoints
            && self.dead == other.dead
    }
}

impl Expected {
    pub(super) fn after(actions: &[Action]) -> Self {
        let mut expected = Self::default();
        actions.iter().for_each(|action| expected.apply(action));
        expected
    }

    fn apply(&mut self, action: &Action) {
        match action {
            Action::Append { to, checkpoint: (key, value), .. } => {
                for (queue, names) in self.queues.iter_mut().zip(to) {
                    queue.extend(names.iter().cloned());
                }
                match value {
                    Some(value) => self.checkpoints.insert(key, (*value).to_owned()),
                    None => self.checkpoints.remove(key),
                };
            }
            Action::Repeat(_) => {}
            Action::InParts(count, _) => {
                self.queues[1].extend((0..*count).map(|n| format!("part {n}")));
            }
            Action::Large(name, _) => self.queues[1].push((*name).to_owned()),
            Action::Remove(queue, names, at) => {
                self.queues[*queue].retain(|name| !names.contains(name));
                self.leased.retain(|name| !names.contains(name));
                self.checkpoints.insert("file", (*at).to_owned());
            }
            Action::Lease(count) => {
                let free: Vec<String> = self.not_leased().into_iter().take(*count).collect();
                self.leased.extend(free);
            }
            Action::Release(names) => self.leased.retain(|name| !names.contains(name)),
            Action::Bury(name) => {
                self.queues[0].retain(|other| other != name);
                self.leased.remove(name);
                self.dead.push(name.clone());
            }
            Action::RetryDead => self.queues[0].append(&mut self.dead),
        }
    }

    /// Events of the first queue that a lease would give, in its order: those that came back, then the new ones.
    pub(super) fn not_leased(&self) -> Vec<String> {
        self.queues[0].iter().filter(|name| !self.leased.contains(*name)).cloned().collect()
    }
}
