//! Waiting for what other processes do: looked at again and again, with an end.

use std::time::Duration;

use tokio::time::Instant;

/// How long something may take that usually takes milliseconds, on a machine whose disk is busy. Twice a lease, under which a
/// killed player may have what it had just asked for.
pub(crate) const SOON: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The first `Some` of `look`; panics with `what` when there is none within `deadline`.
pub(crate) fn eventually_some<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < deadline, "not within {deadline:?}: {what}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// Waits until `is_so`; panics with `what` when it is not within `deadline`.
pub(crate) fn eventually(what: &str, deadline: Duration, mut is_so: impl FnMut() -> bool) {
    eventually_some(what, deadline, || is_so().then_some(()));
}

/// Looks until `time` is over, and panics with `what` as soon as it is not so.
pub(crate) fn always_for(what: &str, time: Duration, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while started.elapsed() < time {
        assert!(is_so(), "not so after {:?}: {what}", started.elapsed());
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// Time in which something else happens, as load or a slow answer: never a stand-in for knowing that it has happened.
pub(crate) fn let_pass(time: Duration) {
    always_for("time passes", time, || true);
}
