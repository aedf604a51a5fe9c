//! What `kv_set` remembers is what is stored, whatever becomes of the events.

use super::*;

/// The script that would lose an event if a refusal left its mark: the repeat would be taken for a duplicate.
const ONCE: &str = "function Process(content, emit)
    if kv_get(content:sub(1, 9)) then drop('seen') return end
    kv_set(content:sub(1, 9), true)
    emit('a', content)
end";

#[tokio::test]
async fn a_refused_commit_takes_back_what_the_script_remembered() {
    let rig = Rig::new(ONCE).await;
    let mut sent = 0;
    let refused = loop {
        let event = format!("{sent:09}{}", "x".repeat(50_000));
        match rig.send(&[&event]).await {
            Ok(()) => sent += 1,
            Err(Rejected::Full { sink, .. }) => {
                assert_eq!(sink, "a");
                break event;
            }
            Err(other) => panic!("{other}"),
        }
    };
    rig.empty("a").await;
    rig.send(&[&refused]).await.unwrap();
    assert_eq!(rig.queued("a").await, std::slice::from_ref(&refused));
    rig.send(&[&refused]).await.unwrap();
    assert_eq!(rig.queued("a").await.len(), 1, "now it is a duplicate");
}

#[tokio::test]
async fn a_refused_batch_takes_back_what_each_of_its_events_remembered() {
    // A script that takes what is not above the last number for a repeat.
    let rig = Rig::new(
        "function Process(content, emit)
            local number = tonumber(content:sub(1, 9))
            if number <= (kv_get('last') or 0) then drop('seen') return end
            kv_set('last', number)
            emit('a', content)
        end",
    )
    .await;
    let mut sent = 0;
    let refused = loop {
        let events = [1, 2, 3].map(|next: u32| format!("{:09}{}", sent + next, "x".repeat(50_000)));
        match rig.send(&events.each_ref().map(String::as_str)).await {
            Ok(()) => sent += 3,
            Err(Rejected::Full { .. }) => break events,
            Err(other) => panic!("{other}"),
        }
    };
    rig.empty("a").await;
    rig.send(&refused.each_ref().map(String::as_str)).await.unwrap();
    assert_eq!(rig.queued("a").await, refused);
}

/// Counts its events, and emits the number with all that are not `small`.
const COUNT: &str = "function Process(content, emit)
    local count = (kv_get('count') or 0) + 1
    kv_set('count', count)
    if content ~= 'small' then emit('a', count .. ' ' .. content) end
end";

#[tokio::test]
async fn calls_that_have_seen_each_other_and_are_all_refused_are_all_taken_back() {
    let rig = Rig::new(COUNT).await;
    rig.fill("a").await;
    let large = "x".repeat(50_000);
    let events = [large.as_str()];
    // All are with the script's thread before one of them is told.
    let refused = tokio::join!(rig.send(&events), rig.send(&events), rig.send(&events));
    assert!(refused.0.is_err() && refused.1.is_err() && refused.2.is_err(), "{refused:?}");
    rig.empty("a").await;
    rig.send(&["next"]).await.unwrap();
    assert_eq!(rig.queued("a").await, ["1 next"]);
}

#[tokio::test]
async fn a_commit_that_had_to_wait_does_not_store_what_is_out_of_date() {
    let rig = Rig::made(COUNT, Made { when_full: WhenFull::Block, ..USUAL }).await;
    rig.fill("a").await;
    let large = "x".repeat(50_000);
    let events = [large.as_str()];
    let meanwhile = async {
        // When this is stored, the one before has been refused.
        rig.send(&["small"]).await.unwrap();
        rig.empty("a").await;
    };
    let (waited, ()) = tokio::join!(biased; rig.send(&events), meanwhile);
    waited.unwrap();
    let rig = rig.restart().await;
    rig.send(&["next"]).await.unwrap();
    assert_eq!(rig.queued("a").await.last().unwrap(), "3 next");
}

#[tokio::test]
async fn a_commit_that_had_to_wait_stores_its_values_although_a_later_one_waits_still() {
    let script = "function Process(content, emit)
        if content == 'none' then return end
        kv_set('count', (kv_get('count') or 0) + 1)
        emit('a', kv_get('count') .. ' ' .. content)
    end";
    let rig = Rig::made(script, Made { when_full: WhenFull::Block, ..USUAL }).await;
    rig.fill("a").await;
    let [small, large] = [50_000, 200_000].map(|bytes| "x".repeat(bytes));
    let (small, large) = ([small.as_str()], [large.as_str()]);
    let room = async {
        // When this is stored, the small one has been refused. The room is too little for the large one.
        rig.send(&["none"]).await.unwrap();
        rig.remove("a", 2).await;
    };
    tokio::select! {
        biased;
        (stored, ()) = async { tokio::join!(biased; rig.send(&small), room) } => stored.unwrap(),
        sent = rig.send(&large) => panic!("{sent:?}"),
    }
    let rig = rig.restart().await;
    rig.send(&["next"]).await.unwrap();
    assert_eq!(rig.queued("a").await.last().unwrap(), "2 next");
}

/// Hands an event to the script's thread, and does not wait for more.
async fn begin(sending: &mut (impl Future<Output = Result<(), Rejected>> + Unpin)) {
    std::future::poll_fn(|cx| {
        drop(std::pin::Pin::new(&mut *sending).poll(cx));
        std::task::Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn who_leaves_takes_back_no_equal_value_that_a_later_call_has_stored() {
    let script = "function Process(content, emit)
        if content == 'tell' then emit('b', tostring(kv_get('state'))) return end
        kv_set('state', 'up')
        if content ~= 'small' then emit('a', content) end
    end";
    let rig = Rig::made(script, Made { when_full: WhenFull::Block, ..USUAL }).await;
    rig.fill("a").await;
    let large = "x".repeat(50_000);
    let events = [large.as_str()];
    let mut leaving = Box::pin(rig.send(&events));
    begin(&mut leaving).await;
    rig.send(&["small"]).await.unwrap();
    drop(leaving);
    rig.send(&["tell"]).await.unwrap();
    assert_eq!(rig.queued("b").await, ["up"]);
}

#[tokio::test]
async fn a_commit_that_had_to_wait_never_stores_its_values_over_newer_ones_that_nobody_was_told_of()
{
    let rig = Rig::made(COUNT, Made { when_full: WhenFull::Block, ..USUAL }).await;
    rig.fill("a").await;
    let (large, small) = ("x".repeat(50_000), ["small"]);
    let events = [large.as_str()];
    let mut waiting = Box::pin(rig.send(&events));
    begin(&mut waiting).await;
    let mut later = Box::pin(rig.send(&small));
    begin(&mut later).await;
    let two = [&b"i"[..], &2_i64.to_le_bytes()].concat();
    let stored = async || rig.store.checkpoint("kv:3:web:count").await.unwrap();
    let later_is_stored = async {
        while stored().await.as_ref() != Some(&two) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, later_is_stored).await.expect("stored in time");
    rig.empty("a").await;
    tokio::time::timeout(PATIENCE, waiting).await.expect("room was made").unwrap();
    assert_eq!(stored().await, Some(two), "what a kill would leave now");
    later.await.unwrap();
}

/// The second one is refused for good, and with the third one stored, the first one still waits.
#[tokio::test]
async fn a_commit_that_had_to_wait_stores_nothing_over_the_values_of_any_later_one() {
    let rig = Rig::made(COUNT, Made { when_full: WhenFull::Block, ..USUAL }).await;
    rig.fill("a").await;
    let (large, huge) = ("x".repeat(50_000), "x".repeat(600_000));
    let (large, huge, small) = ([large.as_str()], [huge.as_str()], ["small"]);
    let mut waiting = Box::pin(rig.send(&large));
    let mut refused = Box::pin(rig.send(&huge));
    let mut later = Box::pin(rig.send(&small));
    begin(&mut waiting).await;
    begin(&mut refused).await;
    begin(&mut later).await;
    let three = [&b"i"[..], &3_i64.to_le_bytes()].concat();
    let stored = async || rig.store.checkpoint("kv:3:web:count").await.unwrap();
    let later_is_stored = async {
        while stored().await.as_ref() != Some(&three) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, later_is_stored).await.expect("stored in time");
    rig.empty("a").await;
    tokio::time::timeout(PATIENCE, waiting).await.expect("room was made").unwrap();
    assert_eq!(stored().await, Some(three), "what a kill would leave now");
    drop(refused);
    later.await.unwrap();
}

/// What `init` of a newer VM sets again, as it has found it, stands and falls with the call that it is of.
#[tokio::test]
async fn a_value_of_a_call_that_is_taken_back_does_not_stay_since_init_has_set_it_again() {
    let script = "function init() kv_set('last', kv_get('last') or 0) end
        function Process(content, emit)
            if content == 'loop' then while true do end end
            if content == 'tell' then emit('b', kv_get('last')) return end
            local number = tonumber(content:sub(1, 9))
            if number <= kv_get('last') then drop('seen') return end
            kv_set('last', number)
            emit('a', content)
        end";
    let rig = Rig::made(script, Made { when_full: WhenFull::Block, ..USUAL }).await;
    rig.fill("a").await;
    let large = format!("{:09}{}", 7, "x".repeat(50_000));
    let events = [large.as_str()];
    let mut leaving = Box::pin(rig.send(&events));
    begin(&mut leaving).await;
    // The second one gets a new VM.
    rig.send(&["loop", "tell"]).await.unwrap();
    drop(leaving);
    rig.empty("a").await;
    rig.send(&events).await.unwrap();
    assert_eq!(rig.queued("a").await, [large.as_str()]);
    let rig = rig.restart().await;
    rig.send(&["tell"]).await.unwrap();
    assert_eq!(rig.queued("b").await, ["7", "7"]);
}

#[tokio::test]
async fn a_tick_that_is_lost_leaves_no_values_behind() {
    let script = "local tick = 0
        function Process(content, emit) emit('b', tostring(kv_get('ticked'))) end
        function TimerHandler(emit)
            tick = tick + 1
            if tick == 1 then kv_set('ticked', true) emit('a', ('x'):rep(6000000)) end
            if tick == 2 then emit('a', 'second') end
        end";
    let rig = Rig::new(script).await;
    let stop = CancellationToken::new();
    let (timer, token) = (Arc::clone(&rig.script), stop.clone());
    let second = async {
        rig.wait_queued("a", 1).await;
        stop.cancel();
    };
    tokio::join!(second, timer.tick(token));
    rig.send(&["tell"]).await.unwrap();
    assert_eq!(rig.queued("b").await, ["nil"]);
}

#[tokio::test]
async fn what_a_script_remembers_keeps_the_store_within_its_limit() {
    let rig =
        Rig::new("function Process(content, emit) kv_set(content, ('x'):rep(60000)) end").await;
    let refused = async {
        let mut number = 0;
        loop {
            if let Err(refused) = rig.send(&[&format!("{number}")]).await {
                return refused;
            }
            number += 1;
            assert!(number < 100, "the store has 4 MiB");
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("in time");
    assert!(matches!(&refused, Rejected::Full { sink, .. } if sink == "script:web"), "{refused}");
    rig.send(&["0"]).await.expect("what is there already may be set again");
}

#[tokio::test]
async fn who_leaves_while_a_queue_blocks_leaves_no_trace() {
    let rig = Rig::made(ONCE, Made { when_full: WhenFull::Block, ..USUAL }).await;
    let known = format!("{:09}", 0);
    rig.send(&[&known]).await.unwrap();
    rig.fill("a").await;
    let left = format!("{:09}{}", 1, "x".repeat(50_000));
    let events = [left.as_str()];
    let waits = async {
        // It goes to no queue. When it is answered, the event before has been refused; when it is once more, that has been
        // tried again, and waits for room.
        for _ in 0..2 {
            rig.send(&[&known]).await.unwrap();
        }
    };
    tokio::select! {
        biased;
        sent = rig.send(&events) => panic!("there is no room: {sent:?}"),
        // The future is dropped, as when a client closes its connection.
        () = waits => {}
    }
    rig.empty("a").await;
    rig.send(&[&left]).await.unwrap();
    assert_eq!(rig.queued("a").await, std::slice::from_ref(&left));
    rig.send(&[&left]).await.unwrap();
    assert_eq!(rig.queued("a").await.len(), 1, "now it is a duplicate");
}

#[tokio::test]
async fn who_leaves_at_once_is_remembered_only_if_the_event_is_stored() {
    let rig = Rig::new(ONCE).await;
    let leave = async |event: &str| {
        let events = [event];
        let mut sending = Box::pin(rig.send(&events));
        begin(&mut sending).await;
    };
    leave("event 001").await;
    assert_eq!(rig.wait_queued("a", 1).await, ["event 001"]);
    rig.send(&["event 001"]).await.unwrap();
    assert_eq!(rig.queued("a").await.len(), 1, "it was stored, so it is known");
    let large = |n: u32| format!("{n:09}{}", "x".repeat(50_000));
    let mut number = 0;
    while rig.send(&[&large(number)]).await.is_ok() {
        number += 1;
    }
    leave(&large(number)).await;
    // It counts what was stored, with or without somebody who waits, and nothing else.
    let counters = rig.script.counters();
    rig.empty("a").await;
    rig.send(&[&large(number)]).await.unwrap();
    assert_eq!(rig.queued("a").await, [large(number)], "it was refused, so it is not known");
    let emitted = counters.emitted.load(Ordering::Relaxed);
    assert_eq!(emitted, u64::from(number) + 2);
}

#[tokio::test]
async fn what_a_script_remembers_survives_a_restart() {
    let script = "function init() kv_set('starts', (kv_get('starts') or 0) + 1) end
        function Process(content, emit)
            kv_set('events', (kv_get('events') or 0) + 1)
            emit('a', kv_get('starts') .. ' ' .. kv_get('events'))
        end";
    let mut rig = Rig::new(script).await;
    rig.send(&["x", "x"]).await.unwrap();
    rig = rig.restart().await;
    rig.send(&["x"]).await.unwrap();
    assert_eq!(rig.queued("a").await, ["1 1", "1 2", "2 3"]);
}

#[tokio::test]
async fn what_init_remembered_stays_when_the_first_event_is_refused() {
    let script = "function init() kv_set('count', kv_get('count') or 0) end
        function Process(content, emit)
            kv_set('count', kv_get('count') + 1)
            emit('a', kv_get('count') .. ' ' .. content)
        end";
    let rig = Rig::new(script).await;
    rig.fill("a").await;
    rig.send(&[&"x".repeat(50_000)]).await.unwrap_err();
    rig.empty("a").await;
    rig.send(&["next"]).await.unwrap();
    assert_eq!(rig.letters(), []);
    assert_eq!(rig.queued("a").await, ["1 next"]);
}
