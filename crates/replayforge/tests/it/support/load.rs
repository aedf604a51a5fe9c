//! Clients that post without a pause, each number once, and write down what was answered 200.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::http::{Kind, request};
use super::wait::let_pass;
use super::wire::Wire;

/// `T` is what stands for a request.
pub(crate) struct Load<T> {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeSet<T>>>,
    clients: Vec<JoinHandle<()>>,
}

impl<T: Ord + Clone + Send + 'static> Load<T> {
    /// `send` is given the number of a request, and gives what stands for it if it was answered 200.
    pub(crate) fn start(
        clients: usize,
        send: impl Fn(usize) -> Option<T> + Send + Sync + 'static,
    ) -> Load<T> {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let (next, send) = (Arc::new(AtomicUsize::new(0)), Arc::new(send));
        let client = |_| {
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            let (next, send) = (Arc::clone(&next), Arc::clone(&send));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // One that is not answered may have been taken or not: it is not sent again.
                    if let Some(sent) = send(next.fetch_add(1, Ordering::Relaxed)) {
                        acknowledged.lock().insert(sent);
                    }
                    let_pass(Duration::from_millis(2));
                }
            })
        };
        let clients = (0..clients).map(client).collect();
        Load { stop, acknowledged, clients }
    }

    pub(crate) fn count(&self) -> usize {
        self.acknowledged.lock().len()
    }

    /// Ends it between two requests of each client.
    pub(crate) fn finish(self) -> BTreeSet<T> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("clients do not panic");
        }
        let acknowledged = self.acknowledged.lock().clone();
        println!("{} requests acknowledged", acknowledged.len());
        acknowledged
    }
}

/// Whether a POST on a connection of its own was answered 200.
pub(crate) fn try_post(port: u16, target: &str, body: &[u8]) -> bool {
    let Ok(mut wire) = Wire::try_connect(port) else { return false };
    let sent = wire.try_send(&request("POST", target, &[], body));
    sent.and_then(|()| wire.try_answer(Kind::Answer)).is_ok_and(|answer| answer.status() == 200)
}
