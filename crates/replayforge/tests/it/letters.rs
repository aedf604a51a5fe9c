//! Dead letters: what cannot be delivered is kept, listed, mended, sent again, or thrown away by a person.

use serde_json::{Value, json};

use crate::support::ports::{Ports, free_port};
use crate::support::program::{Finished, Program, write_config};
use crate::support::server::Answer;
use crate::support::stack::{Configs, Stack};
use crate::support::wait::{SOON, eventually};
use crate::support::wire::{call, post};

/// A player that gives up after two tries, and a target that refuses `/bad...`.
fn stack_that_gives_up() -> Stack {
    let mut stack =
        Stack::with(|configs| configs.player["sinks"][0]["params"]["maxAttempts"] = json!(2));
    stack.player.expect_error("event moved to the dead letters");
    stack.target.answer(|request, _| {
        Answer::status(if request.target().starts_with("/bad") { 500 } else { 200 })
    });
    stack
}

fn letters(stack: &Stack, args: &[&str]) -> Finished {
    let config = stack.folder().join("player.json").display().to_string();
    let (action, rest) = args.split_first().unwrap();
    Program::run(stack.folder(), &[&["dead-letters", action, "-c", &config], rest].concat(), &[])
}

/// What a successful call prints.
fn print(stack: &Stack, args: &[&str]) -> String {
    let finished = letters(stack, args);
    assert_eq!((finished.code, finished.log.as_str()), (Some(0), ""), "{args:?}: {finished:?}");
    finished.output
}

fn listed(stack: &Stack) -> Vec<Value> {
    print(stack, &["list", "--json"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn wait_for_letters(stack: &Stack, count: usize) -> Vec<Value> {
    eventually(&format!("{count} dead letters"), SOON, || listed(stack).len() == count);
    listed(stack)
}

#[test]
fn a_store_that_is_not_there_is_told_once_and_where_it_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Configs::new(folder.path(), Ports::free()).player;
    config["dataDir"] = json!("data");
    let file = write_config(folder.path(), "player", &config);
    let finished = Program::run(folder.path(), &["dead-letters", "list", "-c", &file], &[]);
    assert_eq!(finished.code, Some(1));
    let working = format!("in the working directory, {})", folder.path().display());
    assert!(finished.log.contains(&working), "{finished:?}");
    assert_eq!(finished.log.matches("No such file or directory").count(), 1, "{finished:?}");
}

#[test]
fn letters_are_listed_mended_retried_and_purged_while_the_player_runs() {
    let stack = stack_that_gives_up();
    for target in ["/good/1", "/bad/1", "/bad/2", "/bad/3", "/good/2"] {
        post(stack.ports.proxy, target, target.as_bytes());
    }
    let found = wait_for_letters(&stack, 3);
    // Each bad one twice, and what stood behind them went on.
    assert_eq!(stack.target.wait_for(8)[7].target(), "/good/2");
    check_list(&stack, &found);
    let id = |index: usize| found[index]["id"].to_string();

    // Mended: the first one goes to another path.
    let text = print(&stack, &["show", &id(0)]);
    let mut event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&event["path"], &event["body"]), (&json!("/bad/1"), &json!("/bad/1")));
    event["path"] = json!("/mended");
    let file = stack.folder().join("mended.json");
    std::fs::write(&file, event.to_string()).unwrap();
    let told = print(&stack, &["edit", &id(0), "--file", &file.display().to_string()]);
    let config = stack.folder().join("player.json");
    let retry = format!("`replayforge dead-letters retry -c {} {}`", config.display(), id(0));
    assert!(told.contains(&retry), "{told}");
    assert_eq!(print(&stack, &["show", &id(0)]), format!("{event}\n"));
    print(&stack, &["retry", &id(0)]);
    let mended = &stack.target.wait_for(9)[8];
    assert_eq!((mended.target(), mended.text().as_str()), ("/mended", "/bad/1"));
    assert_eq!(mended.header("Idempotency-Key"), event["eventId"].as_str().map(str::to_owned));
    wait_for_letters(&stack, 2);

    // Not mended: it fails again and is a letter again.
    print(&stack, &["retry", &id(1)]);
    stack.target.wait_for(11);
    let found = wait_for_letters(&stack, 2);
    assert!(found.iter().all(|letter| letter["retry"] == false), "{found:?}");

    let bad_3 =
        found.iter().find(|letter| letter["content"].as_str().unwrap().contains("/bad/3")).unwrap();
    print(&stack, &["purge", &bad_3["id"].to_string()]);
    assert_eq!(listed(&stack).len(), 1);
    print(&stack, &["purge", "--all"]);
    assert_eq!(print(&stack, &["list"]), "no dead letters\n");
}

fn check_list(stack: &Stack, found: &[Value]) {
    for (letter, target) in found.iter().zip(["/bad/1", "/bad/2", "/bad/3"]) {
        assert_eq!(
            (&letter["sink"], &letter["attempts"], &letter["retry"]),
            (&json!("target"), &json!(2), &json!(false))
        );
        let reason = letter["reason"].as_str().unwrap();
        assert!(reason.contains("2 attempts") && reason.contains("500"), "{reason}");
        assert!(letter["content"].as_str().unwrap().contains(target), "{letter}");
        assert!(letter["deadAtMs"].as_u64() >= letter["storedAtMs"].as_u64(), "{letter}");
    }
    let table = print(stack, &["list"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(
        table.lines().skip(1).all(|line| line.contains("target") && line.contains("500")),
        "{table}"
    );
    let first = print(stack, &["list", "--limit", "1"]);
    let more = format!("there are more: go on with `--after {}`", found[0]["id"]);
    assert_eq!((first.lines().count(), first.lines().next_back()), (3, Some(more.as_str())));
    assert_eq!(print(stack, &["list", "--limit", "1", "--json"]).lines().count(), 1);
    assert_eq!(print(stack, &["list", "--limit", "3"]), table);
    let after = found[1]["id"].to_string();
    assert_eq!(print(stack, &["list", "--json", "--after", &after]).lines().count(), 1);
    assert_eq!(print(stack, &["list", "--sink", "target"]).lines().count(), 4);
}

#[test]
fn a_retry_of_a_stopped_player_is_done_at_its_start() {
    let mut stack = stack_that_gives_up();
    post(stack.ports.proxy, "/bad/1", b"1");
    wait_for_letters(&stack, 1);
    assert!(stack.player.stop().success());
    stack.target.answer(|_, _| Answer::status(200));
    print(&stack, &["retry", "--all"]);
    assert_eq!(stack.target.count(), 2);
    stack.player.restart();
    let received = stack.target.wait_for(3);
    assert_eq!(received[2].header("Idempotency-Key"), received[0].header("Idempotency-Key"));
    wait_for_letters(&stack, 0);
}

#[test]
fn what_is_no_request_is_a_letter_and_its_neighbours_go_on() {
    let mut stack = Stack::start();
    stack.player.expect_error("event moved to the dead letters");
    let record = r#"["{\"method\":\"POST\",\"path\":\"/1\"}", "no JSON", "{\"method\":\"B A D\"}", "{\"method\":\"POST\",\"path\":\"/2\"}"]"#;
    let headers = [("RF-BUCKETS", &b"b"[..]), ("Authorization", b"Bearer token-of-b")];
    let answer = call(stack.ports.relay, "POST", "/record-batch", &headers, record.as_bytes());
    assert_eq!(answer.status(), 200);
    let received = stack.target.wait_for(2);
    assert_eq!((received[0].target(), received[1].target()), ("/1", "/2"));
    let found = wait_for_letters(&stack, 2);
    let contents: Vec<&str> =
        found.iter().map(|letter| letter["content"].as_str().unwrap()).collect();
    assert_eq!(contents, ["no JSON", r#"{"method":"B A D"}"#]);
    assert!(
        found.iter().all(|letter| letter["attempts"] == 1),
        "a try that can never work is not repeated: {found:?}"
    );
}

#[test]
fn what_is_there_is_done_and_what_is_not_is_named() {
    let stack = stack_that_gives_up();
    post(stack.ports.proxy, "/bad/1", b"1");
    let id = wait_for_letters(&stack, 1)[0]["id"].to_string();
    let finished = letters(&stack, &["purge", &id, "999"]);
    assert_eq!((finished.code, finished.output.as_str()), (Some(1), "1 removed\n"));
    assert_eq!(finished.log, "there is no dead letter 999\n");
    let finished = letters(&stack, &["retry", &id]);
    assert_eq!((finished.code, finished.output.as_str()), (Some(1), "0 marked\n"));
    assert_eq!(print(&stack, &["retry", "--sink", "target"]), "0 marked\n");
}

#[test]
fn an_empty_text_replaces_no_letter() {
    let stack = stack_that_gives_up();
    post(stack.ports.proxy, "/bad/1", b"1");
    let id = wait_for_letters(&stack, 1)[0]["id"].to_string();
    let before = print(&stack, &["show", &id]);
    let blank = stack.folder().join("blank.json");
    std::fs::write(&blank, " \n").unwrap();
    for file in ["/dev/null", &blank.display().to_string()] {
        let finished = letters(&stack, &["edit", &id, "--file", file]);
        assert_eq!((finished.code, finished.output.as_str()), (Some(1), ""), "{finished:?}");
        let expected = format!("the text is empty: dead letter {id} is as it was");
        assert!(finished.log.starts_with(&expected), "{finished:?}");
    }
    assert_eq!(print(&stack, &["show", &id]), before);
}

#[test]
fn each_sink_tells_of_its_own_letters() {
    let status = free_port();
    let mut stack = Stack::with(|configs| {
        let player = &mut configs.player;
        player["portStatusZ"] = json!(status);
        player["sinks"][0]["params"]["maxAttempts"] = json!(1);
        let mut other = player["sinks"][0].clone();
        other["name"] = json!("other");
        player["sinks"].as_array_mut().unwrap().push(other);
        player["sources"][0]["sinks"] = json!(["target", "other"]);
    });
    stack.player.expect_error("event moved to the dead letters");
    stack.target.answer(|_, _| Answer::status(500));
    post(stack.ports.proxy, "/one", b"1");
    wait_for_letters(&stack, 2);
    let told = || {
        let info = call(status, "GET", "/node-info", &[], b"").json();
        ["target", "other"].map(|sink| info["sinks"][sink]["deadLetters"].clone())
    };
    eventually("each has one", SOON, || told() == [json!(1), json!(1)]);
    print(&stack, &["purge", "--sink", "other"]);
    eventually("the purge is seen", SOON, || told() == [json!(1), json!(0)]);
}

#[test]
fn wrong_calls_are_told_apart() {
    let stack = stack_that_gives_up();
    let check = |args: &[&str], code: i32, text: &str| {
        let finished = letters(&stack, args);
        assert_eq!(finished.code, Some(code), "{args:?}: {finished:?}");
        assert!(finished.log.contains(text), "{args:?}: {}", finished.log);
    };
    check(&["show", "1"], 1, "there is no dead letter 1");
    check(&["edit", "1", "--file", "/dev/null"], 1, "there is no dead letter 1");
    check(&["purge", "7", "8", "7"], 1, "there are no dead letters 7, 8");
    for action in ["list", "retry", "purge"] {
        let text = "the store has no sink `nope`; it has: `target`";
        check(&[action, "--sink", "nope"], 1, text);
    }
    check(&["list", "--limit", "0"], 2, "0 is not in 1..");
    check(&["retry"], 2, "required");
    check(&["purge", "1", "--all"], 2, "cannot be used with");
    let relay = stack.folder().join("relay.json").display().to_string();
    let finished = Program::run(stack.folder(), &["dead-letters", "list", "-c", &relay], &[]);
    assert_eq!(finished.code, Some(78));
    assert!(finished.log.contains("a relay has no dead letters"), "{}", finished.log);
}
