//! Dead letters that are retried go through the script again.

use rf_queue::Which;

use super::*;

#[tokio::test]
async fn a_retried_letter_of_which_too_much_is_made_is_counted_as_one_again() {
    let rig = Rig::new("function Process(content, emit) emit('a', content:rep(3000000)) end").await;
    let letters = rig.store.queue(&letters_queue("web")).unwrap();
    rig.store.commit(Commit::append(letters, vec![Bytes::from("ab")])).await.unwrap();
    let stop = CancellationToken::new();
    let (script, token) = (Arc::clone(&rig.script), stop.clone());
    let buried = async {
        while rig.counted() == (0, 0) {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let both = async { tokio::join!(buried, script.redo(token)) };
    tokio::time::timeout(PATIENCE, both).await.expect("counted in time");
    assert_eq!((rig.counted(), rig.letters().len()), ((1, 0), 1));
}

#[tokio::test]
async fn a_retried_letter_goes_through_the_script_again() {
    let rig = Rig::new(
        "function Process(content, emit)
            if content == 'bad' then lua_error('no') end
            emit('b', content)
        end",
    )
    .await;
    rig.send(&["bad", "worse"]).await.unwrap();
    let path = rig.folder.path().join("store.sqlite3");
    let letter = DeadLetters::open(&path).unwrap().list(None, 0, 1).unwrap()[0].id;
    let stop = CancellationToken::new();
    let (script, token) = (Arc::clone(&rig.script), stop.clone());
    let mended = async {
        let letters = DeadLetters::open(&path).unwrap();
        assert!(letters.edit(letter, b"mended").unwrap());
        letters.retry(&Which::Ids(vec![letter])).unwrap();
        rig.store.poke().await.unwrap();
        let queued = rig.wait_queued("b", 2).await;
        stop.cancel();
        queued
    };
    let (queued, ()) = tokio::join!(mended, script.redo(token));
    assert_eq!(queued, ["worse", "mended"]);
    assert_eq!(rig.letters(), []);
    assert_eq!(rig.queued(&letters_queue("web")).await, <[String; 0]>::default());
}

#[tokio::test]
async fn a_retried_letter_that_could_not_be_read_once_goes_through_the_script_all_the_same() {
    let rig = Rig::new("function Process(content, emit) emit('b', content) end").await;
    let letters = rig.store.queue(&letters_queue("web")).unwrap();
    rig.store.commit(Commit::append(letters, vec![Bytes::from("letter")])).await.unwrap();
    let database = rusqlite::Connection::open(rig.folder.path().join("store.sqlite3")).unwrap();
    let find = "SELECT 'q_' || id FROM queues WHERE name = ?1";
    let table: String = database.query_row(find, [letters_queue("web")], |row| row.get(0)).unwrap();
    let rename = |from: &str, to: &str| {
        database.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
    };
    rename(&table, "away");
    let stop = CancellationToken::new();
    let mended = async {
        // The store answers in turn: when this is refused, the first look of the other one was.
        let budget = Budget { events: 1, bytes: usize::MAX };
        assert!(rig.store.read(letters, 0, budget).await.is_err(), "its table is away");
        rename("away", &table);
        let queued = rig.wait_queued("b", 1).await;
        stop.cancel();
        queued
    };
    let ((), queued) = tokio::join!(biased; rig.script.redo(stop.clone()), mended);
    assert_eq!(queued, ["letter"]);
    assert_eq!(rig.queued(&letters_queue("web")).await, <[String; 0]>::default());
}

#[tokio::test]
async fn a_retried_letter_that_waits_for_room_does_not_hold_up_a_stop() {
    let script = "function Process(content, emit) emit('a', content) end";
    let rig = Rig::made(script, Made { when_full: WhenFull::Block, ..USUAL }).await;
    rig.fill("a").await;
    let (letters, letter) = (rig.store.queue(&letters_queue("web")).unwrap(), "x".repeat(50_000));
    rig.store.commit(Commit::append(letters, vec![Bytes::from(letter.clone())])).await.unwrap();
    let stop = CancellationToken::new();
    let stopping = async { stop.cancel() };
    let both = async { tokio::join!(biased; rig.script.redo(stop.clone()), stopping) };
    tokio::time::timeout(PATIENCE, both).await.expect("stopped in time");
    assert_eq!(rig.queued(&letters_queue("web")).await, [letter]);
}

/// More than what a store of this size removes in one transaction.
#[tokio::test]
async fn retried_letters_that_are_refused_are_still_there() {
    let rig = Rig::new("function Process(content, emit) emit('a', content) end").await;
    rig.fill("a").await;
    let letters = rig.store.queue(&letters_queue("web")).unwrap();
    // None of them fits into what is left.
    let events = vec![Bytes::from("x".repeat(25_000)); 40];
    rig.store.commit(Commit::append(letters, events)).await.unwrap();
    let stop = CancellationToken::new();
    let refused = async {
        // The store and the script answer in turn: when this is refused, so are the letters.
        rig.queued(&letters_queue("web")).await;
        rig.send(&[&"x".repeat(50_000)]).await.unwrap_err();
        stop.cancel();
    };
    tokio::join!(biased; rig.script.redo(stop.clone()), refused);
    assert_eq!(rig.queued(&letters_queue("web")).await.len(), 40);
    assert_eq!(rig.store.usage(letters).events, 40);
}

#[tokio::test]
async fn retried_letters_go_one_by_one_where_there_is_no_room_for_all_of_them() {
    let rig = Rig::new("function Process(content, emit) emit('a', content) end").await;
    rig.fill("a").await;
    rig.remove("a", 1).await;
    let letters = rig.store.queue(&letters_queue("web")).unwrap();
    let events = vec![Bytes::from("x".repeat(40_000)); 3];
    rig.store.commit(Commit::append(letters, events)).await.unwrap();
    let stop = CancellationToken::new();
    let stored = async {
        while rig.store.usage(letters).events == 3 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let both = async { tokio::join!(rig.script.redo(stop.clone()), stored) };
    tokio::time::timeout(PATIENCE, both).await.expect("stored in time");
    assert_eq!(rig.store.usage(letters).events, 2);
}
