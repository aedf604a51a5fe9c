//! The command line as a user meets it: what it says, and what it ends with.

use std::net::TcpStream;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::ports::Ports;
use crate::support::program::{Finished, Program, write_config};
use crate::support::stack::{Configs, Stack, TOKEN};
use crate::support::wait::{SOON, eventually};
use crate::support::wire::post;

fn run(folder: &Path, args: &[&str]) -> Finished {
    Program::run(folder, args, &[])
}

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Several mistakes of several kinds, and a secret that must not be shown.
const WRONG: &str = r#"{
  // JSON5 is fine.
  "sources": [
    { "id": "in", "type": "htpp", "params": { "listenPort": 70000 }, "targetSink": "out" },
    { "id": "in", "type": "http", "params": { "listenPort": "x" }, "targetSnk": "out" },
  ],
  "sinks": [{ "id": "out", "type": "http", "url": "ftp://x/", "authBearer": "hunter2-secret", "buckets": [] }],
  "durabilty": "commit",
}"#;

#[test]
fn check_tells_every_problem_with_its_place_and_start_up_says_the_same() {
    let folder = temp();
    std::fs::write(folder.path().join("proxy.json5"), WRONG).unwrap();
    let checked = run(folder.path(), &["check", "-c", "proxy.json5", "--role", "proxy"]);
    assert_eq!((checked.code, checked.output.as_str()), (Some(78), ""), "{checked:?}");
    for text in [
        "proxy.json5:4:27: error: sources[0].type: ",
        "proxy.json5:5:",
        "sources[1].params.listenPort: expected a whole number",
        "`in` is used twice",
        "`targetSnk`; did you mean `targetSink`?",
        "proxy.json5:7:51: error: sinks[0].url: expected a URL such as https://relay.example.com/",
        "proxy.json5:8:3: warning: durabilty: unknown key `durabilty`; did you mean `durability`?",
        "has no buckets",
    ] {
        assert!(checked.log.contains(text), "{text} in:\n{}", checked.log);
    }
    let started = run(folder.path(), &["proxy", "-c", "proxy.json5"]);
    assert_eq!((started.code, started.log), (Some(78), checked.log.clone()));
    assert!(!checked.log.contains("hunter2"), "{}", checked.log);
    let guessed = run(folder.path(), &["check", "-c", "proxy.json5"]);
    assert_eq!(
        (guessed.code, guessed.log),
        (Some(78), checked.log),
        "the role is told by the keys"
    );
    assert!(std::fs::read_dir(folder.path()).unwrap().count() == 1, "nothing is written");
}

#[test]
fn check_prints_what_getting_started_shows() {
    let folder = temp();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| std::fs::read_to_string(repository.join(path)).unwrap();
    let file = read("examples/http-replay/proxy.json");
    let file = file.replace("targetSink: \"relay\"", "targetSink: \"relai\"");
    std::fs::write(folder.path().join("proxy.json"), file).unwrap();
    let checked = run(folder.path(), &["check", "-c", "proxy.json"]);
    let sample = format!("```text\n{}```\n", checked.log);
    assert!(read("docs/getting-started.md").contains(&sample), "{}", checked.log);
}

#[test]
fn a_log_level_that_is_none_is_a_warning_of_check_and_of_a_start() {
    let folder = temp();
    let mut config = Configs::new(folder.path(), Ports::free()).proxy;
    for (level, shown) in [(json!("banana"), "\"banana\""), (json!(2), "2"), (json!(true), "true")]
    {
        config["verbosityLevel"] = level;
        let file = write_config(folder.path(), "proxy", &config);
        let checked = run(folder.path(), &["check", "-c", &file]);
        let told = format!(
            "verbosityLevel: expected one of trace, debug, info, warn, error, found {shown}: the default is used"
        );
        assert_eq!(checked.code, Some(78), "{checked:?}");
        assert!(checked.log.contains("warning: ") && checked.log.contains(&told), "{checked:?}");
        let proxy = Program::role(folder.path(), "proxy", &config);
        let line = proxy.wait_for("verbosityLevel: expected one of trace");
        assert!(line.contains(" WARN "), "{line}");
    }
    for level in [json!("Debug"), json!(""), json!(null)] {
        config["verbosityLevel"] = level;
        let file = write_config(folder.path(), "proxy", &config);
        let checked = run(folder.path(), &["check", "-c", &file]);
        assert_eq!((checked.code, checked.log.as_str()), (Some(0), ""), "{checked:?}");
    }
}

#[test]
fn check_accepts_what_start_up_accepts() {
    let folder = temp();
    let configs = Configs::new(folder.path(), Ports::free());
    for (role, config) in
        [("proxy", &configs.proxy), ("relay", &configs.relay), ("player", &configs.player)]
    {
        let file = write_config(folder.path(), role, config);
        for args in [vec!["check", "-c", &file], vec!["check", "-c", &file, "--role", role]] {
            let finished = run(folder.path(), &args);
            assert_eq!((finished.code, finished.log.as_str()), (Some(0), ""), "{args:?}");
            assert_eq!(finished.output, format!("{file}: ok\n"));
        }
        for other in ["proxy", "relay", "player"].into_iter().filter(|other| *other != role) {
            let told = format!(
                "error: this looks like a {role}'s file: start it with `replayforge {role}`"
            );
            for args in [vec!["check", "-c", &file, "--role", other], vec![other, "-c", &file]] {
                let refused = run(folder.path(), &args);
                assert_eq!(refused.code, Some(78), "{args:?}");
                assert!(refused.log.contains(&told), "{args:?}: {}", refused.log);
            }
        }
        assert!(!folder.path().join(role).exists(), "check touches no database");
    }
}

#[test]
fn an_unknown_key_is_an_error_in_check_and_a_warning_at_the_start() {
    let folder = temp();
    let mut config = Configs::new(folder.path(), Ports::free()).proxy;
    config["hostNme"] = json!("web-1");
    let file = write_config(folder.path(), "proxy", &config);
    let checked = run(folder.path(), &["check", "-c", &file]);
    assert_eq!(checked.code, Some(78));
    assert!(
        checked.log.contains("warning: hostNme: unknown key `hostNme`; did you mean `hostName`?"),
        "{}",
        checked.log
    );
    let proxy = Program::role(folder.path(), "proxy", &config);
    let line = proxy.wait_for("did you mean `hostName`?");
    assert!(line.contains(" WARN "), "{line}");
}

#[test]
fn what_is_not_there_is_refused_with_that_reason() {
    let folder = temp();
    let check = |role: &str, change: &dyn Fn(&mut Configs), text: &str| {
        let mut configs = Configs::new(folder.path(), Ports::free());
        change(&mut configs);
        let config = match role {
            "proxy" => configs.proxy,
            "relay" => configs.relay,
            _ => configs.player,
        };
        let file = write_config(folder.path(), role, &config);
        let finished = run(folder.path(), &[role, "-c", &file]);
        assert_eq!(finished.code, Some(78), "{finished:?}");
        assert!(finished.log.contains(text), "{text} in: {}", finished.log);
    };
    check("relay", &|configs| configs.relay["useTailnet"] = json!(true), "tailnet");
    check(
        "proxy",
        &|configs| configs.proxy["sources"][0]["type"] = json!("cassette"),
        "there is no source type `cassette`; known: http",
    );
    check(
        "player",
        &|configs| configs.player["sinks"][0]["type"] = json!("timeseries"),
        "there is no sink type `timeseries`; did you mean \"time_series\"?; known: http",
    );
}

#[test]
fn a_script_that_cannot_be_used_is_a_problem_of_the_file() {
    let folder = temp();
    for (script, role, list, told) in [
        ("function Process(", "proxy", "sources", "a.lua:1: "),
        ("x = 1", "proxy", "sources", "the script has no function Process(content, emit)"),
        ("function Process() end", "proxy", "sinks", "the script has no function TransformBatch"),
        ("function init() lua_error('no') end", "player", "sources", "a.lua:1: no"),
        ("while true do end", "player", "sources", "longer than its limit"),
    ] {
        std::fs::write(folder.path().join("a.lua"), script).unwrap();
        let configs = Configs::new(folder.path(), Ports::free());
        let mut config = if role == "proxy" { configs.proxy } else { configs.player };
        config[list][0]["transformScript"] = json!("a.lua");
        let file = write_config(folder.path(), role, &config);
        let (checked, started) =
            (run(folder.path(), &["check", "-c", &file]), run(folder.path(), &[role, "-c", &file]));
        assert_eq!((checked.code, started.code), (Some(78), Some(78)), "{started:?}");
        assert_eq!(checked.log, started.log);
        let place = format!("error: {list}[0].transformScript: ");
        assert!(checked.log.contains(&place) && checked.log.contains(told), "{}", checked.log);
    }
}

#[test]
fn a_script_that_names_what_is_not_there_is_refused_by_check_and_starts_with_a_warning() {
    let folder = temp();
    let script = "local files = {io = 1}\nfunction Process(content, emit)\n  -- io.read\n  io.open(files.io)\n  os.exit()\nend";
    std::fs::write(folder.path().join("a.lua"), script).unwrap();
    let mut config = Configs::new(folder.path(), Ports::free()).proxy;
    config["sources"][0]["transformScript"] = json!("a.lua");
    let check = |config: &Value| {
        let file = write_config(folder.path(), "proxy", config);
        let checked = run(folder.path(), &["check", "-c", &file]);
        let lines = checked.log.lines().filter_map(|line| line.split_once("transformScript: "));
        let told: Vec<String> = lines.map(|(_, told)| told.to_owned()).collect();
        (checked.code, told)
    };
    let of_files = "a.lua:4: `io.open` is not available, calling it fails: set \"unsafeScripts\": true if you trust this script as you would a program";
    let of_exit = "a.lua:5: `os.exit` is not available, calling it fails: no script can use it";
    assert_eq!(check(&config), (Some(78), vec![of_files.to_owned(), of_exit.to_owned()]));
    let proxy = Program::role(folder.path(), "proxy", &config);
    let line = proxy.wait_for("a.lua:4: `io.open` is not available");
    assert!(line.contains(" WARN "), "{line}");
    drop(proxy);
    config["sources"][0]["unsafeScripts"] = json!(true);
    assert_eq!(check(&config), (Some(78), vec![of_exit.to_owned()]));
    std::fs::write(folder.path().join("a.lua"), script.replace("os.exit()", "")).unwrap();
    assert_eq!(check(&config), (Some(0), vec![]));
}

#[test]
fn usage_errors_end_with_2_and_a_hint() {
    let folder = temp();
    for args in [
        &[][..],
        &["fly"],
        &["proxy"],
        &["relay", "-p", "70000", "-c", "x"],
        &["schema", "cook"],
        &["proxy", "-c", "x", "--grace", "soon"],
    ] {
        let finished = run(folder.path(), args);
        assert_eq!(finished.code, Some(2), "{args:?}: {finished:?}");
        assert!(
            finished.log.contains("Usage:") || finished.log.contains("--help"),
            "{args:?}: {}",
            finished.log
        );
    }
    let missing = run(folder.path(), &["proxy", "-c", "none.json"]);
    assert_eq!(missing.code, Some(78));
    assert!(
        missing.log.contains("none.json: error: cannot be read: No such file"),
        "{}",
        missing.log
    );
}

#[test]
fn the_help_teaches_and_the_version_is_told() {
    let folder = temp();
    let version = run(folder.path(), &["-V"]);
    assert_eq!(
        (version.code, version.output.as_str()),
        (Some(0), concat!("replayforge ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    let top = run(folder.path(), &["top", "--help"]).output;
    assert!(top.starts_with("Show what a relay sees"), "it stands by itself: {top}");
    let test = run(folder.path(), &["script", "test", "--help"]).output;
    let (example, stray) = ("\n{\"tests\": [{\"name\": \"drops pings\", ", "\n`emits`,\n");
    assert!(test.contains(example) && !test.contains(stray), "{test}");
    let help = run(folder.path(), &["--help"]);
    assert_eq!(help.code, Some(0));
    for command in
        ["proxy", "relay", "player", "demo", "check", "schema", "dead-letters", "completions"]
    {
        assert!(help.output.contains(command), "{command} in {}", help.output);
        let own = run(folder.path(), &[command, "--help"]);
        assert!(
            own.code == Some(0) && own.output.contains("Usage: replayforge"),
            "{command}: {}",
            own.output
        );
    }
}

#[test]
fn schemas_are_json_and_know_every_key_of_the_files() {
    let folder = temp();
    let configs = Configs::new(folder.path(), Ports::free());
    for (role, config) in
        [("proxy", &configs.proxy), ("relay", &configs.relay), ("player", &configs.player)]
    {
        let finished = run(folder.path(), &["schema", role]);
        assert_eq!((finished.code, finished.log.as_str()), (Some(0), ""));
        let schema: Value = serde_json::from_str(&finished.output).unwrap();
        assert!(schema["$schema"].is_string(), "{role}");
        for key in config.as_object().unwrap().keys() {
            assert!(
                schema["properties"][key]["description"].is_string(),
                "{role}: {key} in {}",
                schema["properties"]
            );
        }
    }
    let proxy = run(folder.path(), &["schema", "proxy"]).output;
    for key in [
        "listenPort",
        "maxBodyBytes",
        "dropHeaders",
        "targetSink",
        "authBearer",
        "batchGoalBytes",
        "whenFull",
        "maxMessagesPerMinute",
    ] {
        assert!(proxy.contains(&format!("\"{key}\"")), "{key}");
    }
}

#[test]
fn completions_are_a_script_of_the_shell() {
    let folder = temp();
    for (shell, text) in [
        ("bash", "complete -F _replayforge"),
        ("zsh", "#compdef replayforge"),
        ("fish", "complete -c replayforge"),
    ] {
        let finished = run(folder.path(), &["completions", shell]);
        assert_eq!((finished.code, finished.log.as_str()), (Some(0), ""));
        assert!(
            finished.output.contains(text) && finished.output.contains("dead-letters"),
            "{shell}"
        );
    }
}

#[test]
fn a_port_of_zero_takes_any_and_tells_which() {
    let folder = temp();
    let mut configs = Configs::new(folder.path(), Ports::free());
    let file = write_config(folder.path(), "relay", &configs.relay);
    // In the file a zero is what a missing key is, as for the original.
    let relay = Program::start(folder.path(), &["relay", "-c", &file, "-p", "0"], &[]);
    relay.wait_until_ready();
    let port = relay.port_in_log("relay started");
    configs.proxy["sinks"][0]["url"] = json!(format!("http://127.0.0.1:{port}"));
    configs.proxy["sources"][0]["params"]["listenPort"] = json!(0);
    let proxy = Program::role(folder.path(), "proxy", &configs.proxy);
    post(proxy.port_in_log("listening source=in"), "/", b"");
}

#[test]
fn secrets_and_payloads_are_in_no_log_however_loud() {
    let folder = temp();
    let ports = Ports::free();
    let configs = Configs::new(folder.path(), ports);
    let env = [("LOG_LEVEL", "trace")];
    let start = |role: &str, config: &Value| {
        let file = write_config(folder.path(), role, config);
        let program = Program::start(folder.path(), &[role, "-c", &file], &env);
        program.wait_for(&match role {
            "relay" => "relay started".to_owned(),
            agent => format!("started role={agent}"),
        });
        program
    };
    let relay = start("relay", &configs.relay);
    let player = start("player", &configs.player);
    let proxy = start("proxy", &configs.proxy);
    let target = crate::support::server::Server::start(ports.target, |_| {
        crate::support::server::Answer::status(500)
    });
    let headers = [("Authorization", &b"Basic header-secret"[..])];
    let answer = crate::support::wire::call(
        ports.proxy,
        "POST",
        "/x?token=query-secret",
        &headers,
        b"body-secret",
    );
    assert_eq!(answer.status(), 200);
    player.wait_for("delivery failed");
    for program in [&proxy, &player, &relay] {
        let log = program.log();
        assert!(log.contains("DEBUG") || log.contains("TRACE"), "the log is loud: {log}");
        for secret in [TOKEN, "header-secret", "query-secret", "body-secret"] {
            assert!(!log.contains(secret), "{secret} in {log}");
        }
    }
    drop((proxy, player, relay, target));
}

#[test]
fn at_debug_each_batch_is_a_line_of_every_program() {
    let stack = Stack::start();
    for program in [&stack.proxy, &stack.relay, &stack.player] {
        program.signal(Signal::USR1);
        program.wait_for("the log level was changed by a signal level=debug");
    }
    // More than are shown of lines that are the same.
    for sent in 1..=5 {
        post(stack.ports.proxy, "/", b"x");
        stack.target.wait_for(sent);
    }
    for (program, line) in [
        (&stack.proxy, " DEBUG batch delivered sink=out "),
        (&stack.relay, " DEBUG batch recorded "),
        (&stack.player, " DEBUG batch pulled source=b "),
        (&stack.player, " DEBUG batch delivered sink="),
    ] {
        eventually(line, SOON, || program.log().matches(line).count() >= 5);
    }
}

#[test]
fn logs_are_json_on_request() {
    let folder = temp();
    let file =
        write_config(folder.path(), "relay", &Configs::new(folder.path(), Ports::free()).relay);
    let mut relay = Program::start(
        folder.path(),
        &["relay", "-c", &file],
        &[("LOG_FORMAT", "json"), ("LOG_LEVEL", "info")],
    );
    relay.wait_for("relay started");
    assert!(relay.stop().success());
    let lines: Vec<Value> =
        relay.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let started = lines.iter().find(|line| line["message"] == "relay started").unwrap();
    assert_eq!((&started["level"], &started["fields"]["buckets"]), (&json!("info"), &json!(1)));
    assert_eq!(lines.last().unwrap()["message"], "stopped");
}

#[test]
fn the_log_level_of_a_program_that_runs_is_changed_by_signals() {
    let stack = Stack::start();
    post(stack.ports.proxy, "/before", b"x");
    stack.target.wait_for(1);
    assert!(!stack.relay.log().contains(" DEBUG "), "{}", stack.relay.log());
    stack.relay.signal(Signal::USR1);
    stack.relay.wait_for("the log level was changed by a signal level=debug");
    post(stack.ports.proxy, "/debug", b"x");
    stack.relay.wait_for(" DEBUG batch recorded");
    stack.relay.signal(Signal::USR2);
    stack.relay.wait_for("the log level was changed by a signal level=info");
    let debug = || stack.relay.log().matches(" DEBUG ").count();
    stack.target.wait_for(2);
    let before = debug();
    post(stack.ports.proxy, "/after", b"x");
    stack.target.wait_for(3);
    assert_eq!(debug(), before, "{}", stack.relay.log());
}

#[test]
fn a_change_of_the_log_level_is_shown_also_where_only_errors_are() {
    let (folder, ports) = (temp(), Ports::free());
    let file = write_config(folder.path(), "relay", &Configs::new(folder.path(), ports).relay);
    let env = [("LOG_LEVEL", "error")];
    let relay = Program::start(folder.path(), &["relay", "-c", &file], &env);
    // Signals are heard before that.
    eventually("it listens", SOON, || TcpStream::connect(("127.0.0.1", ports.relay)).is_ok());
    relay.signal(Signal::USR1);
    relay.wait_for("the log level was changed by a signal level=warn");
    relay.signal(Signal::USR2);
    relay.wait_for("the log level was changed by a signal level=error");
    assert!(!relay.log().contains("relay started"), "{}", relay.log());
}
