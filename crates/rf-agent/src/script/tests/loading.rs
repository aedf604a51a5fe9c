//! How a script is loaded: at the start, and again when its file has changed.

use std::path::Path;

use tokio::sync::watch;

use super::*;
use crate::script::config::Hook;
use crate::script::reload::tried;

#[tokio::test]
async fn a_changed_script_takes_over_and_a_broken_one_does_not() {
    let version = |n: u32| format!("function Process(content, emit) emit('a', content .. {n}) end");
    let rig = Rig::new(&version(1)).await;
    let (ask, asked) = watch::channel(0);
    let stop = CancellationToken::new();
    let (script, token) = (Arc::clone(&rig.script), stop.clone());
    let changing = async {
        rig.write("web.lua", "function Process(");
        ask.send_modify(|asked| *asked += 1);
        rig.send(&["x"]).await.unwrap();
        let failing = r#"{"tests": [{"name": "two", "steps": [{"input": "x", "emits": [{"sink": "a", "content": "x2"}]}]}]}"#;
        rig.write("web.test.json", failing);
        rig.write("web.lua", &version(3));
        ask.send_modify(|asked| *asked += 1);
        rig.send(&["x"]).await.unwrap();
        rig.write("web.lua", &version(2));
        let reached = async {
            while !rig.queued("a").await.iter().any(|event| event == "x2") {
                rig.send(&["x"]).await.unwrap();
                ask.send_modify(|asked| *asked += 1);
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("taken over");
        stop.cancel();
    };
    tokio::join!(changing, script.reload(asked, token));
    let queued = rig.queued("a").await;
    assert!(queued.iter().all(|event| event == "x1" || event == "x2"), "{queued:?}");
    assert!(is_sorted(&queued), "no event by the old one after the new one: {queued:?}");
}

fn is_sorted(events: &[String]) -> bool {
    events.windows(2).all(|pair| pair[0] <= pair[1])
}

#[tokio::test]
async fn a_script_without_the_function_that_is_called_does_not_take_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.lua");
    for (hook, script, lacking) in [
        (Hook::Process, "function Process() end", None),
        (Hook::Process, "function TransformBatch() end", Some("Process(content, emit)")),
        (Hook::TransformBatch, "function TransformBatch() end", None),
        (Hook::TransformBatch, "x = 1", Some("TransformBatch(messages, request)")),
    ] {
        std::fs::write(&path, script).unwrap();
        let options = Arc::new(ScriptOptions::new(path.clone(), Vec::new()));
        let refused = tried(options, hook).await.err().unwrap_or_default();
        let expected = lacking.map(|name| format!("web.lua: the script has no function {name}"));
        assert!(refused.contains(&expected.clone().unwrap_or_default()), "{script}: {refused}");
        assert_eq!(refused.is_empty(), expected.is_none(), "{script}: {refused}");
    }
}

#[tokio::test]
async fn a_script_that_cannot_be_loaded_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let error = start_error(folder.path(), "function Process(").await;
    assert!(error.contains("source `web`") && error.contains("web.lua:1"), "{error}");
}

#[tokio::test]
async fn a_script_whose_values_cannot_be_read_now_starts_and_goes_on_from_them_later() {
    let script = "function Process(content, emit)
        kv_set('count', (kv_get('count') or 0) + 1)
        emit('a', kv_get('count'))
    end";
    let rig = Rig::new(script).await;
    rig.send(&["x"]).await.unwrap();
    let Rig { folder, store, script, out } = rig;
    drop(out);
    script.close().await;
    let database = rusqlite::Connection::open(folder.path().join("store.sqlite3")).unwrap();
    let rename = |from: &str, to: &str| {
        database.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
    };
    rename("checkpoints", "away");
    let (plan, routes) = (script.plan.clone(), vec![store.queue("a").unwrap()]);
    let started = ScriptHandle::start("web", plan, &routes, store.clone(), <_>::default()).await;
    let out = Output::new(store.clone(), routes).through(Some(started.expect("a start")));
    let refused = out.send(batch(&["x"])).await.unwrap_err();
    assert!(matches!(refused, Rejected::Failed(_)), "{refused}");
    rename("away", "checkpoints");
    let sent = async {
        while let Err(refused) = out.send(batch(&["x"])).await {
            assert!(matches!(refused, Rejected::Failed(_)), "{refused}");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, sent).await.expect("loaded in time");
    let budget = Budget { events: 10, bytes: usize::MAX };
    let queued = store.read(store.queue("a").unwrap(), 0, budget).await.unwrap();
    let queued: Vec<&[u8]> = queued.iter().map(|event| &event.content[..]).collect();
    assert_eq!(queued, [b"1", b"2"]);
}

async fn start_error(folder: &Path, script: &str) -> String {
    std::fs::write(folder.join("web.lua"), script).unwrap();
    let queues = vec![QueueOptions::new("a"), QueueOptions::new(letters_queue("web"))];
    let options = StoreOptions::new(folder.join("store.sqlite3"), 4 << 20, queues);
    let store = Store::open(options).unwrap().store;
    let options = ScriptOptions::new(folder.join("web.lua"), vec!["a".to_owned()]);
    let plan = ScriptPlan { options: Arc::new(options), timer: USUAL.timer };
    let started = ScriptHandle::start("web", plan, &[], store, <_>::default()).await;
    started.err().map(|error| error.to_string()).unwrap_or_default()
}
