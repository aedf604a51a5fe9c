//! Groups of tasks that do as they are told, under paused time.

use std::future::pending;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::*;

const GRACE: Duration = Duration::from_secs(30);

/// What a task of a test does.
#[derive(Clone, Copy)]
enum Does {
    EndsWell,
    Fails(&'static str),
    Panics(&'static str),
    PanicsInDrop,
    WaitsForStop,
    /// Ends so many seconds after the stop.
    Drains(u64),
    FailsInDrain(&'static str),
    NeverEnds,
}

struct PanicInDrop;

impl Drop for PanicInDrop {
    fn drop(&mut self) {
        panic!("in drop");
    }
}

async fn act(does: Does, stop: CancellationToken) -> Result<(), &'static str> {
    match does {
        Does::EndsWell => Ok(()),
        Does::Fails(reason) => Err(reason),
        Does::Panics(text) => panic!("{text}"),
        Does::PanicsInDrop => {
            let _held = PanicInDrop;
            Ok(())
        }
        Does::WaitsForStop => {
            stop.cancelled().await;
            Ok(())
        }
        Does::Drains(secs) => {
            stop.cancelled().await;
            tokio::time::sleep(Duration::from_secs(secs)).await;
            Ok(())
        }
        Does::FailsInDrain(reason) => {
            stop.cancelled().await;
            Err(reason)
        }
        Does::NeverEnds => pending().await,
    }
}

fn group(essential: &[(&str, Does)]) -> Tasks {
    let tasks = Tasks::new(CancellationToken::new());
    for (name, does) in essential {
        tasks.spawn(*name, act(*does, tasks.stop_token().clone()));
    }
    tasks
}

fn told(result: Result<(), TaskFailure>) -> String {
    result.map_or_else(|failure| failure.to_string(), |()| "ok".to_owned())
}

/// Nobody asks the group to stop: what does `join` say by itself?
async fn check_unasked(essential: &[(&str, Does)], expected: &str) {
    let joined = timeout(GRACE * 10, group(essential).join(GRACE)).await;
    assert_eq!(joined.map_or_else(|_| "waits".to_owned(), told), expected);
}

/// The group is asked to stop: what does `join` say, and how long after?
async fn check_asked(essential: &[(&str, Does)], expected: &str, expected_wait: Duration) {
    let tasks = group(essential);
    tasks.stop_token().cancel();
    let begin = Instant::now();
    assert_eq!(told(tasks.join(GRACE).await), expected);
    assert_eq!(begin.elapsed().as_secs(), expected_wait.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_failure_stops_the_group_and_is_named() {
    use Does::{EndsWell, Fails, Panics, PanicsInDrop, WaitsForStop};
    check_unasked(&[], "waits").await;
    check_unasked(&[("a", EndsWell), ("b", WaitsForStop)], "waits").await;
    check_unasked(&[("a", WaitsForStop), ("b", Fails("disk gone"))], "task b ended: disk gone")
        .await;
    check_unasked(&[("a", WaitsForStop), ("b", Panics("index"))], "task b panicked: index").await;
    check_unasked(&[("a", WaitsForStop), ("b", PanicsInDrop)], "task b panicked: in drop").await;
    check_unasked(&[("a", Fails("first")), ("b", Fails("second"))], "task a ended: first").await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_all_within_the_grace() {
    use Does::{Drains, EndsWell, Fails, FailsInDrain, NeverEnds, WaitsForStop};
    let soon = Duration::ZERO;
    check_asked(&[], "ok", soon).await;
    check_asked(&[("a", EndsWell), ("b", WaitsForStop)], "ok", soon).await;
    check_asked(&[("a", Drains(29)), ("b", Drains(3))], "ok", Duration::from_secs(29)).await;
    check_asked(
        &[("a", Drains(5)), ("b", FailsInDrain("full"))],
        "task b ended: full",
        Duration::from_secs(5),
    )
    .await;
    let stuck = "still running 30s after the stop: b (x2), c";
    check_asked(
        &[("a", Drains(1)), ("b", NeverEnds), ("c", Drains(40)), ("b", NeverEnds)],
        stuck,
        GRACE,
    )
    .await;
    check_asked(&[("a", NeverEnds), ("b", Fails("bad"))], "task b ended: bad", GRACE).await;
}

#[tokio::test]
async fn an_error_is_told_with_its_causes() {
    struct Chained;
    impl fmt::Display for Chained {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(if f.alternate() { "outer: inner" } else { "outer" })
        }
    }
    let tasks = Tasks::new(CancellationToken::new());
    tasks.spawn("a", async { Err(Chained) });
    assert_eq!(told(tasks.join(GRACE).await), "task a ended: outer: inner");
}

#[tokio::test]
async fn a_contained_panic_is_counted_and_harms_nobody() {
    let tasks = group(&[("a", Does::WaitsForStop)]);
    tasks.spawn_contained("connection", async { panic!("bad peer") });
    tasks.spawn_contained("connection", async {});
    while tasks.running() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(tasks.contained_panics(), 1);
    assert!(!tasks.stop_token().is_cancelled());
    tasks.stop_token().cancel();
    assert_eq!(told(tasks.join(GRACE).await), "ok");
}

#[tokio::test]
async fn ended_tasks_leave_nothing_behind() {
    let tasks = group(&[("a", Does::WaitsForStop)]);
    for _ in 0..1_000 {
        tasks.spawn_contained("connection", tokio::task::yield_now());
    }
    assert_eq!(tasks.running(), 1_001);
    while tasks.running() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(tasks.group.registry.lock().running_names(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn stuck_tasks_are_aborted_and_drop_what_they_hold() {
    let tasks = group(&[]);
    let (held, released) = oneshot::channel::<()>();
    tasks.spawn_contained("connection", async move {
        let _held = held;
        pending::<()>().await;
    });
    tokio::task::yield_now().await;
    tasks.stop_token().cancel();
    assert_eq!(told(tasks.join(GRACE).await), "still running 30s after the stop: connection");
    assert!(released.await.is_err(), "the sender was dropped, not used");
}

#[tokio::test]
async fn no_task_outlives_its_group() {
    let tasks = group(&[]);
    let (held, released) = oneshot::channel::<()>();
    tasks.spawn_contained("connection", async move {
        let _held = held;
        pending::<()>().await;
    });
    drop(tasks);
    assert!(released.await.is_err(), "the sender was dropped, not used");
}

#[test]
fn a_runtime_may_shut_down_under_a_group() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let handle = runtime.handle().clone();
    let _inside = handle.enter();
    let tasks = group(&[("a", Does::NeverEnds)]);
    drop(runtime);
    tasks.spawn_contained("connection", pending());
    assert_eq!(tasks.running(), 0);
}
