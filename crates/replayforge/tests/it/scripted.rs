//! Scripts in the way of events: proxy, player and the sink that posts batches run them, and nothing of the promises is lost.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::http::{Message, request};
use crate::support::ports::{Ports, free_port};
use crate::support::program::Program;
use crate::support::server::{Answer, Server};
use crate::support::stack::{Configs, Stack};
use crate::support::wait::{SOON, eventually};
use crate::support::wire::{Wire, call, post};

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    // As editors do: whoever looks sees a whole file.
    std::fs::write(folder.join("part"), text).unwrap();
    std::fs::rename(folder.join("part"), &path).unwrap();
    path.display().to_string()
}

/// The three roles with a script in the proxy's source.
fn stack_with(script: &str, change: impl FnOnce(&mut Configs)) -> (Stack, tempfile::TempDir) {
    let scripts = tempfile::tempdir().unwrap();
    let path = write(scripts.path(), "web.lua", script);
    let stack = Stack::with(|configs| {
        let source = configs.proxy["sources"][0].as_object_mut().unwrap();
        source.remove("targetSink");
        source.insert("transformScript".to_owned(), json!(path));
        change(configs);
    });
    (stack, scripts)
}

#[test]
fn a_proxy_and_a_player_transform_filter_and_route() {
    let player = tempfile::tempdir().unwrap();
    let path = write(
        player.path(),
        "player.lua",
        "function Process(content, emit)
            local event = json_decode(content)
            event.path = '/replayed' .. event.path
            emit('target', event)
        end",
    );
    let (stack, _scripts) = stack_with(
        "function Process(content, emit)
            local event = json_decode(content)
            if event.path == '/health' then drop('health check') return end
            event.headers['X-Seen-By'] = 'proxy'
            emit('out', json_encode(event))
        end",
        |configs| {
            let source = configs.player["sources"][0].as_object_mut().unwrap();
            source.remove("sinks");
            source.insert("transformScript".to_owned(), json!(path));
        },
    );
    for target in ["/health", "/orders?id=1&id=2", "/health", "/last"] {
        post(stack.ports.proxy, target, b"\xff\x00body");
    }
    let received = stack.target.wait_for(2);
    assert_eq!(received[0].target(), "/replayed/orders?id=1&id=2");
    assert_eq!(received[0].header("x-seen-by").as_deref(), Some("proxy"));
    assert_eq!(
        received[0].body, b"\xff\x00body",
        "a script that leaves the body alone keeps its bytes"
    );
    assert_eq!(received[1].target(), "/replayed/last");
}

/// A proxy whose sink posts batches to an API, with a `TransformBatch` script; what the API got.
fn api_with(script: &str) -> (Program, Server, Arc<Mutex<Vec<Message>>>, Ports, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let received = Arc::new(Mutex::new(Vec::new()));
    let got = Arc::clone(&received);
    let api = Server::start(0, move |request| {
        got.lock().push(request.clone());
        Answer::status(200)
    });
    let ports = Ports::free();
    let path = write(folder.path(), "batch.lua", script);
    let mut config = Configs::new(folder.path(), ports).proxy;
    config["sinks"][0] = json!({
        "id": "out",
        "type": "http",
        "url": format!("http://127.0.0.1:{}", api.port),
        "notRelay": true,
        "config": { "batchTimeoutSecs": "1ms" },
        "transformScript": path,
    });
    let proxy = Program::role(folder.path(), "proxy", &config);
    (proxy, api, received, ports, folder)
}

#[test]
fn transform_batch_steers_the_request() {
    let (_proxy, _api, received, ports, _folder) = api_with(
        "function TransformBatch(messages, request)
            local out = {}
            for i, message in ipairs(messages) do
                local event = json_decode(message)
                if event.path ~= '/skip' then table.insert(out, json_encode({ path = event.path })) end
            end
            request.path = '/api/v2/logs'
            request.headers['DD-API-KEY'] = 'key'
            return out, request
        end",
    );
    post(ports.proxy, "/skip", b"");
    post(ports.proxy, "/a", b"");
    eventually("a batch at the API", SOON, || !received.lock().is_empty());
    let request = received.lock()[0].clone();
    assert_eq!((request.method(), request.target()), ("POST", "/api/v2/logs"));
    assert_eq!(request.header("dd-api-key").as_deref(), Some("key"));
    assert_eq!(request.json(), json!([r#"{"path":"/a"}"#]));
}

#[test]
fn a_batch_that_a_script_fails_over_loses_one_event_to_the_dead_letters() {
    let (mut proxy, _api, received, ports, folder) = api_with(
        "function TransformBatch(messages, request)
            for _, message in ipairs(messages) do
                if json_decode(message).path == '/bad' then lua_error('cannot do this') end
            end
            return messages, request
        end",
    );
    proxy.expect_error("event moved to the dead letters");
    for target in ["/1", "/bad", "/2"] {
        post(ports.proxy, target, b"");
    }
    let paths = || {
        let received = received.lock();
        let events = received.iter().flat_map(|request| request.json().as_array().unwrap().clone());
        let path = |event: Value| {
            let event: Value = serde_json::from_str(event.as_str().unwrap()).unwrap();
            event["path"].as_str().unwrap().to_owned()
        };
        events.map(path).collect::<Vec<_>>()
    };
    eventually("both good ones at the API", SOON, || paths() == ["/1", "/2"]);
    let list = ["dead-letters", "list", "-c", "proxy.json"];
    eventually("the letter with its reason", SOON, || {
        let listed = Program::run(folder.path(), &list, &[]).output;
        listed.contains("batch.lua:3: cannot do this")
    });
}

#[test]
fn what_scripts_drop_and_bury_is_counted_as_that_and_alike_on_all_pages() {
    let (status, scripts) = (free_port(), tempfile::tempdir().unwrap());
    let of_sink = "function TransformBatch() return {} end";
    let of_sink = write(scripts.path(), "batch.lua", of_sink);
    let (mut stack, _scripts) = stack_with(
        "function Process(content, emit)
            local path = json_decode(content).path
            if path == '/nothing' then return end
            if path == '/drop' then drop('not wanted') return end
            if path == '/dead' then dead('too odd') return end
            if path == '/fails' then lua_error('cannot do this') end
            if path == '/large' then content = content:rep(20000) end
            emit('out', content)
        end",
        |configs| {
            configs.proxy["portStatusZ"] = json!(status);
            configs.proxy["sources"][0]["onError"] = json!("drop");
            configs.proxy["sinks"][0]["buffer"] = json!({ "maxBytes": "1MiB" });
            configs.proxy["sinks"][0]["transformScript"] = json!(of_sink);
        },
    );
    stack.proxy.expect_error("event moved to the dead letters");
    for target in ["/nothing", "/drop", "/dead", "/fails", "/large", "/good"] {
        post(stack.ports.proxy, target, b"");
    }
    let page = |path: &str| call(status, "GET", path, &[], b"").json();
    for path in ["/statusz", "/node-info"] {
        eventually(path, SOON, || {
            let source = &page(path)["sources"]["in"];
            source["deadLettered"] == 2
                && source["dropped"] == json!({ "script": 2, "scriptError": 1 })
        });
    }
    // They are kept, under the script's own queue.
    eventually("the kept ones are counted", SOON, || {
        page("/node-info")["sources"]["in"]["deadLetters"] == 2
    });
    eventually("the good one is dropped by the sink", SOON, || {
        page("/node-info")["sinks"]["out"]["dropped"] == json!({ "script": 1 })
    });
    let sink = &page("/node-info")["sinks"]["out"];
    let counts = ["shipped", "deadLettered"].map(|key| &sink[key]);
    assert_eq!(counts, [&json!(0), &json!(0)], "{sink}");
    let sink = &page("/statusz")["sinks"]["out"];
    let counts = ["messageSinceStart", "dropped"].map(|key| &sink[key]);
    assert_eq!(counts, [&json!(0), &json!({ "script": 1 })], "{sink}");
}

#[test]
fn a_script_is_loaded_anew_when_it_changes_and_at_a_sighup() {
    let version = |n: u32| {
        format!(
            "local h = require('h')\nfunction Process(c, emit) local e = json_decode(c) e.path = '/{n}' .. h emit('out', e) end"
        )
    };
    let scripts = tempfile::tempdir().unwrap();
    write(scripts.path(), "h.lua", "return 'a'");
    let path = write(scripts.path(), "web.lua", &version(1));
    let mut stack = Stack::with(|configs| {
        configs.proxy["sources"][0]["transformScript"] = json!(path);
    });
    stack.proxy.expect_error("script not reloaded, its previous version stays in use");
    let arrives = |stack: &Stack, path: &str| {
        let count = stack.target.count();
        post(stack.ports.proxy, "/", b"");
        eventually("one more replay", SOON, || stack.target.count() > count);
        stack.target.requests().last().is_some_and(|request| request.target() == path)
    };
    assert!(arrives(&stack, "/1a"));
    write(scripts.path(), "web.lua", &version(2));
    eventually("the changed script is running", SOON, || arrives(&stack, "/2a"));
    // What it requires is read again at a SIGHUP only.
    write(scripts.path(), "h.lua", "return 'b'");
    stack.proxy.signal(Signal::HUP);
    eventually("what it requires is read again", SOON, || arrives(&stack, "/2b"));
    write(scripts.path(), "web.lua", "function Process(");
    stack.proxy.wait_for("web.lua:1: ");
    write(scripts.path(), "web.lua", "x = 1");
    stack.proxy.wait_for("web.lua: the script has no function Process(content, emit)");
    assert!(arrives(&stack, "/2b"), "the old one goes on");
    write(scripts.path(), "web.lua", &version(3));
    eventually("the mended script is running", SOON, || arrives(&stack, "/3b"));
    // Whoever changes a script waits to be told, however often that is.
    let told = |stack: &Stack| stack.proxy.log().matches(" INFO script reloaded source=in").count();
    eventually("each time is told", SOON, || told(&stack) >= 3);
}

#[test]
fn an_event_that_a_script_fails_over_is_listed_mended_and_goes_through_the_script_again() {
    let (mut stack, _scripts) = stack_with(
        "function Process(content, emit)
            local event = json_decode(content)
            if event.path == '/bad' then lua_error('cannot do this') end
            event.headers['X-Script'] = 'yes'
            emit('out', event)
        end",
        |_| (),
    );
    stack.proxy.expect_error("script failed, event moved to the dead letters");
    for target in ["/1", "/bad", "/2"] {
        post(stack.ports.proxy, target, b"");
    }
    stack.target.wait_for(2);
    let letters = |args: &[&str]| {
        let config = stack.folder().join("proxy.json").display().to_string();
        let (action, rest) = args.split_first().unwrap();
        let all = [&["dead-letters", action, "-c", &config], rest].concat();
        Program::run(stack.folder(), &all, &[])
    };
    let listed: Value = serde_json::from_str(&letters(&["list", "--json"]).output).unwrap();
    assert_eq!(listed["sink"], "script:in", "{listed}");
    let id = listed["id"].to_string();
    let mended = letters(&["show", &id]).output.replace("/bad", "/mended");
    std::fs::write(stack.folder().join("mended.json"), mended.trim_end()).unwrap();
    assert_eq!(letters(&["edit", &id, "--file", "mended.json"]).code, Some(0));
    assert_eq!(letters(&["retry", &id]).code, Some(0));
    let received = stack.target.wait_for(3);
    assert_eq!(received[2].target(), "/mended");
    assert_eq!(received[2].header("x-script").as_deref(), Some("yes"));
}

#[test]
fn a_script_that_hangs_holds_back_its_own_source_only() {
    let second = free_port();
    let (mut stack, _scripts) = stack_with(
        "function Process(content, emit) while json_decode(content).path == '/hang' do end emit('out', content) end",
        |configs| {
            configs.proxy["sources"][0]["scriptLimits"] = json!({ "callTimeMs": 60_000 });
            let other = json!({
                "id": "other",
                "type": "http",
                "params": { "listenPort": second, "listenAddress": "127.0.0.1" },
                "targetSink": "out",
            });
            configs.proxy["sources"].as_array_mut().unwrap().push(other);
        },
    );
    let mut hanging = Wire::connect(stack.ports.proxy);
    hanging.send(&request("POST", "/hang", &[], b""));
    post(second, "/other", b"");
    assert_eq!(stack.target.wait_for(1)[0].target(), "/other");
    assert!(hanging.answer_within(Duration::from_millis(1)).is_none(), "it hangs still");
    // It would hang for a minute; nothing of it was acknowledged, so nothing is lost by a kill.
    stack.proxy.kill();
}

#[test]
fn a_client_that_leaves_while_the_queue_blocks_may_come_again() {
    let (mut stack, _scripts) = stack_with(
        "function Process(content, emit)
            local event = json_decode(content)
            if kv_get(event.path) then drop('seen') return end
            kv_set(event.path, true)
            emit('out', event)
        end",
        |configs| {
            configs.proxy["sinks"][0]["buffer"] =
                json!({ "maxBytes": "1MiB", "whenFull": "block" });
        },
    );
    assert!(stack.relay.stop().success());
    let body = vec![b'x'; 60_000];
    let mut sent = 0;
    loop {
        let mut wire = Wire::connect(stack.ports.proxy);
        wire.send(&request("POST", &format!("/{sent}"), &[], &body));
        match wire.answer_within(Duration::from_secs(1)) {
            Some(answer) => assert_eq!(answer.status(), 200),
            // With the connection the client is gone.
            None => break,
        }
        sent += 1;
    }
    stack.relay.restart();
    for _ in 0..2 {
        post(stack.ports.proxy, &format!("/{sent}"), &body);
    }
    post(stack.ports.proxy, "/last", b"");
    let received = stack.target.wait_for(sent + 2);
    let last: Vec<&str> = received[sent..].iter().map(Message::target).collect();
    assert_eq!(last, [format!("/{sent}").as_str(), "/last"], "once, and not taken for a repeat");
}

/// Bodies that try to stall or to crash the process; their names are in front of them.
const HOSTILE: &str = include_str!("../../../rf-script/tests/hostile/bodies.lua");

#[test]
fn hostile_scripts_cost_their_own_events_and_the_neighbours_get_through() {
    let (mut stack, _scripts) = stack_with(
        "function Process(content, emit)
            local event = json_decode(content)
            if event.path == '/hostile' then load(event.body)() end
            emit('out', event)
        end",
        |configs| {
            configs.proxy["sources"][0]["scriptLimits"] =
                json!({ "callTimeMs": 10, "memoryBytes": 8 << 20 });
        },
    );
    stack.proxy.expect_error("");
    let bodies: Vec<&str> = HOSTILE.split("\n\n-- ").skip(1).collect();
    let body = |entry: &str| entry.split_once('\n').expect("a name, then a body").1.to_owned();
    for (number, entry) in bodies.iter().enumerate() {
        post(stack.ports.proxy, "/hostile", body(entry).as_bytes());
        post(stack.ports.proxy, &format!("/good/{number}"), b"");
    }
    let arrived = |path: &str| {
        let requests = stack.target.requests();
        let found = requests.iter().filter(|request| request.target().starts_with(path));
        found.map(|request| request.target().to_owned()).collect::<Vec<_>>()
    };
    eventually("the last neighbour", SOON, || arrived("/good/").len() >= bodies.len());
    let expected: Vec<String> = (0..bodies.len()).map(|n| format!("/good/{n}")).collect();
    assert_eq!(arrived("/good/"), expected);
    let config = stack.folder().join("proxy.json").display().to_string();
    let list = ["dead-letters", "list", "-c", &config, "--limit", "1000", "--json"];
    let letters = Program::run(stack.folder(), &list, &[]).output.lines().count();
    let passed = arrived("/hostile").len();
    // One is dropped by its own wish; every other one fails, or ends by itself in time.
    assert_eq!((letters + passed, letters > passed), (bodies.len() - 1, true), "{letters} failed");
}

#[test]
fn the_originals_debug_flags_show_what_a_script_emits() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.lua", "function Process(c, emit) emit('out', c:upper()) end");
    write(folder.path(), "in.txt", "one\ntwo\n");
    let args = ["proxy", "-dbg", "a.lua", "-dbg-file", "in.txt"];
    let run = Program::run(folder.path(), &args, &[]);
    assert_eq!((run.code, run.output.as_str()), (Some(0), "out\tONE\nout\tTWO\n"), "{run:?}");
}
