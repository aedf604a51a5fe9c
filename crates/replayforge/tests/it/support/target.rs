//! The target of the replays: writes down every request, and answers as it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::http::Message;
use super::server::{Answer, Server};
use super::wait::{SOON, eventually};

type Script = dyn Fn(&Message, usize) -> Answer + Send + Sync;

/// Answers 200 unless told otherwise.
pub(crate) struct Target {
    pub(crate) port: u16,
    state: Arc<State>,
    server: Option<Server>,
}

struct State {
    received: Mutex<Vec<Message>>,
    script: Mutex<Arc<Script>>,
}

impl Target {
    pub(crate) fn start() -> Target {
        let script: Arc<Script> = Arc::new(|_, _| Answer::status(200));
        let state = Arc::new(State { received: Mutex::default(), script: Mutex::new(script) });
        let mut target = Target { port: super::ports::free_port(), state, server: None };
        target.come_back();
        target
    }

    /// Connections are cut, and refused from now on.
    pub(crate) fn go_away(&mut self) {
        self.server = None;
    }

    /// Listens again, on the same port.
    pub(crate) fn come_back(&mut self) {
        let state = Arc::clone(&self.state);
        self.server = Some(Server::start(self.port, move |request| state.answer(request)));
    }

    /// From now on each request, with its number from 0 on since the start, is answered by `script`.
    pub(crate) fn answer(
        &self,
        script: impl Fn(&Message, usize) -> Answer + Send + Sync + 'static,
    ) {
        *self.state.script.lock() = Arc::new(script);
    }

    /// Everything so far, in the order of arrival.
    pub(crate) fn requests(&self) -> Vec<Message> {
        self.state.received.lock().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.state.received.lock().len()
    }

    /// Waits for so many requests; exactly as many must have come.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Message> {
        self.wait_for_within(count, SOON)
    }

    pub(crate) fn wait_for_within(&self, count: usize, deadline: Duration) -> Vec<Message> {
        eventually(&format!("{count} requests at the target"), deadline, || self.count() >= count);
        let requests = self.requests();
        assert_eq!(requests.len(), count, "requests at the target");
        requests
    }

    /// Waits until so many requests have their answer, since it was started or came back: what a target has got and not yet
    /// answered when it goes away comes again.
    pub(crate) fn wait_for_answers(&self, count: usize) {
        let answered = || self.server.as_ref().map_or(0, Server::answered);
        eventually(&format!("{count} answers of the target"), SOON, || answered() >= count);
    }

    /// Waits until each of the bodies has come at least once.
    pub(crate) fn wait_for_bodies(&self, wanted: &BTreeSet<Vec<u8>>, deadline: Duration) {
        let mut missing = wanted.clone();
        let mut seen = 0;
        eventually("every acknowledged request is at the target", deadline, || {
            let received = self.state.received.lock();
            for request in &received[seen..] {
                missing.remove(&request.body);
            }
            seen = received.len();
            missing.is_empty()
        });
    }

    /// The bodies that came under each `Idempotency-Key`.
    pub(crate) fn by_key(&self) -> BTreeMap<String, Vec<Vec<u8>>> {
        let mut by_key: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        for request in self.requests() {
            let key =
                request.header("Idempotency-Key").expect("every replay has an Idempotency-Key");
            by_key.entry(key).or_default().push(request.body);
        }
        by_key
    }
}

impl State {
    fn answer(&self, request: &Message) -> Answer {
        let mut received = self.received.lock();
        let number = received.len();
        received.push(request.clone());
        drop(received);
        let script = Arc::clone(&self.script.lock());
        script(request, number)
    }
}
