//! What a proxy's file may leave out, and what is told of it.

use std::time::Duration;

use rf_core::config::{Problems, parse};

use super::check;
use crate::agent::Plan;
use crate::settings::host_name;
use crate::sink::{RateLimits, Writes};

const RELAY: &str = r#"url: "http://127.0.0.1:1", authBearer: "t", buckets: ["b"]"#;

/// Checks a file with this source and a sink that prints; gives what is told, too.
fn checked(source: &str) -> (Option<Plan>, String) {
    let text = format!(
        "{{ sources: [{source}], sinks: [{{ id: 'a', type: 'http', url: ':dbg>stdout:' }}], dataDir: '/nowhere' }}"
    );
    let mut problems = Problems::new();
    let document = parse("proxy.json", &text, &|_| None, &mut problems).expect("JSON5");
    (check(&document, &mut problems), problems.to_string())
}

/// What is said of a proxy's file with these sources, one that feeds the sink `out`, and these further keys.
fn told_of(sources: &str, keys: &str) -> String {
    told_with(sources, RELAY, keys)
}

/// The same with these keys of the sink `out`.
fn told_with(sources: &str, sink: &str, keys: &str) -> String {
    let sinks = format!(r#"[{{ id: "out", type: "http", {sink} }}]"#);
    let text = format!("{{ sources: [{sources}], sinks: {sinks}, {keys} }}");
    let mut problems = Problems::new();
    let document = parse("proxy.json", &text, &|_| None, &mut problems).expect("JSON5");
    let plan = check(&document, &mut problems);
    assert_eq!(plan.is_none(), problems.has_errors(), "{problems}");
    problems.to_string()
}

/// A source of this type with these params.
fn source(id: &str, kind: &str, params: &str) -> String {
    format!("{{ id: \"{id}\", type: \"{kind}\", targetSink: \"out\", params: {{ {params} }} }}")
}

#[test]
fn missing_params_are_empty_ones() {
    for params in ["", ", params: null", ", params: {}"] {
        let stats = format!("{{ id: 's', type: 'system-stats', targetSink: 'a'{params} }}");
        let (plan, told) = checked(&stats);
        assert!(plan.is_some() && told.is_empty(), "{params}: {told}");

        let http = format!("{{ id: 's', type: 'http', targetSink: 'a'{params} }}");
        let (plan, told) = checked(&http);
        let expected = "sources[0].params.listenPort: missing, expected a whole number";
        assert!(plan.is_none() && told.contains(expected), "{params}: {told}");
    }
}

#[test]
fn a_key_of_a_type_is_told_to_stand_in_params() {
    let (_, told) = checked("{ id: 's', type: 'http', targetSink: 'a', listenPort: 8080 }");
    let expected = "unknown key `listenPort`; the keys of a type belong in `params`; known here: ";
    assert!(told.contains(expected), "{told}");
}

#[test]
fn an_empty_hook_interval_is_none() {
    for interval in ["", ", hookInterval: ''", ", hookInterval: null", ", hookInterval: 0"] {
        let stdin = format!("{{ id: 's', type: 'stdin', targetSink: 'a'{interval} }}");
        let (plan, told) = checked(&stdin);
        assert!(plan.is_some() && told.is_empty(), "{interval}: {told}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("s.lua");
    std::fs::write(&script, "function Process(content, emit) end").expect("written");
    let scripted = format!(
        "{{ id: 's', type: 'stdin', transformScript: '{}', hookInterval: 0 }}",
        script.display()
    );
    let (plan, told) = checked(&scripted);
    let plan = plan.unwrap_or_else(|| panic!("{told}"));
    let timer = plan.sources[0].script.as_ref().map(|script| script.timer);
    assert_eq!(timer, Some(Duration::from_secs(1)));
}

#[test]
fn events_wait_for_company_where_an_api_is_posted_to() {
    let check = |keys: &str, expected: Duration| {
        let text =
            format!("{{ sinks: [{{ id: 'a', type: 'http', {keys} }}], dataDir: '/nowhere' }}");
        let mut problems = Problems::new();
        let document = parse("proxy.json", &text, &|_| None, &mut problems).expect("JSON5");
        let plan = check(&document, &mut problems).unwrap_or_else(|| panic!("{problems}"));
        let Writes::Batches(batching) = &plan.sinks[0].sink.shape().writes else {
            panic!("a proxy ships batches");
        };
        assert_eq!(batching.linger, expected, "{keys}");
    };
    let api = "url: 'http://api.example/', notRelay: true";
    let relay = "url: 'http://relay.example/', buckets: ['b'], authBearer: 't'";
    check(api, Duration::from_secs(5));
    check(&format!("{api}, config: {{ batchTimeoutSecs: 0 }}"), Duration::from_secs(5));
    check(&format!("{api}, config: {{ batchTimeoutSecs: '1ms' }}"), Duration::from_millis(1));
    check(relay, Duration::ZERO);
    check(&format!("{relay}, config: {{ batchTimeoutSecs: 5 }}"), Duration::from_secs(5));
    check("url: ':dbg>stdout:', notRelay: true", Duration::ZERO);
}

/// Of old files most leave these out, and some have a zero there.
#[test]
fn what_a_sink_leaves_out_is_as_in_the_original() {
    let zeros = "maxMessagesPerMinute: 0, config: { maxPayloadBytes: 0, batchGoalBytes: 0, batchMaxEvents: 0 }";
    for keys in ["", "maxMessagesPerMinute: null, config: null, buffer: null", zeros] {
        let text = format!(
            "{{ sinks: [{{ id: 'a', type: 'http', {RELAY}, {keys} }}], dataDir: '/nowhere' }}"
        );
        let mut problems = Problems::new();
        let document = parse("proxy.json", &text, &|_| None, &mut problems).expect("JSON5");
        let plan = check(&document, &mut problems).unwrap_or_else(|| panic!("{problems}"));
        let sink = &plan.sinks[0];
        assert_eq!(sink.queue.max_bytes, Some(10 * 1024 * 1024), "{keys}");
        let shape = sink.sink.shape();
        let Writes::Batches(batching) = &shape.writes else { panic!("a proxy ships batches") };
        assert_eq!((batching.max_events, batching.goal_bytes), (1000, 4_456_448), "{keys}");
        let limit = batching.event_limit.map(|limit| limit.bytes);
        assert_eq!(limit, Some(5_242_880), "{keys}");
        let rate = RateLimits { writes_per_minute: Some(600.0), ..RateLimits::default() };
        assert_eq!(shape.rate, rate, "{keys}");
        let pauses = (Duration::from_millis(100), Duration::from_secs(300));
        assert_eq!((shape.backoff, shape.max_attempts), (pauses, None), "{keys}");
    }
}

#[test]
fn a_status_page_without_a_port_is_where_the_original_has_it() {
    let check = |keys: &str, expected: Option<u16>| {
        let text = format!("{{ sources: [], sinks: [], dataDir: '/nowhere', {keys} }}");
        let mut problems = Problems::new();
        let document = parse("proxy.json", &text, &|_| None, &mut problems).expect("JSON5");
        let plan = check(&document, &mut problems).unwrap_or_else(|| panic!("{problems}"));
        assert_eq!(plan.stats.status().map(|(_, port)| port), expected, "{keys}");
    };
    check("", None);
    check("portStatusZ: 0", None);
    check("enableStatusZ: true", Some(5253));
    check("enableStatusZ: true, portStatusZ: 0", Some(5253));
    check("portStatusZ: 8090", Some(8090));
}

#[test]
fn a_relay_is_told_the_machine_s_name_unless_the_file_has_another() {
    let uname = rustix::system::uname();
    let machine = uname.nodename().to_str().expect("a name in ASCII");
    for (keys, expected) in [
        ("", machine),
        ("hostName: ''", machine),
        ("hostName: null", machine),
        ("hostName: 'web-1'", "web-1"),
    ] {
        let text = format!("{{ sources: [], sinks: [], dataDir: '/nowhere', {keys} }}");
        let mut problems = Problems::new();
        let document = parse("proxy.json", &text, &|_| None, &mut problems).expect("JSON5");
        let plan = check(&document, &mut problems).unwrap_or_else(|| panic!("{problems}"));
        assert_eq!(plan.stats.host_name, expected, "{keys}");
    }
}

#[test]
fn more_buckets_than_a_relay_takes_are_refused() {
    let told = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("'b{n}'")).collect();
        let text = format!(
            "{{ sources: [], sinks: [{{ id: 'a', type: 'http', url: 'http://relay/', authBearer: 't', buckets: [{}] }}], dataDir: '/nowhere' }}",
            names.join(",")
        );
        let mut problems = Problems::new();
        let document = parse("proxy.json", &text, &|_| None, &mut problems).expect("JSON5");
        check(&document, &mut problems);
        problems.to_string()
    };
    let expected = "sinks[0].buckets: expected at most 1000 names";
    assert!(!told(1000).contains(expected), "{}", told(1000));
    assert!(told(1001).contains(expected), "{}", told(1001));
}

#[test]
fn a_port_is_listened_on_once() {
    let told = |one: &str, other: &str, expected: &str| {
        let problems = told_of(&format!("{one}, {other}"), "portStatusZ: 8090");
        assert!(problems.ends_with(expected), "{problems}");
        assert_eq!(problems.is_empty(), expected.is_empty(), "{problems}");
    };
    let web = source("web", "http", "listenPort: 8080");
    let logs = |params: &str| source("logs", "syslog", params);
    let taken = "error: sources[1].params.listenPort: source `web` listens there already";
    told(&web, &source("more", "http", "listenPort: 8080, listenAddress: \"127.0.0.1\""), taken);
    told(&web, &logs("listenPort: 8080"), taken);
    told(&web, &logs("listenPort: 8080, protocol: \"udp\""), "");
    told(&web, &logs("listenPort: 8081"), "");
    told(&source("web", "http", "listenPort: 0"), &logs("listenPort: 0"), "");
    let status = "error: portStatusZ: source `logs` listens there already";
    told(&web, &logs("listenPort: 8090"), status);
    told(&web, &logs("listenPort: 8090, protocol: \"udp\""), "");
}

#[test]
fn an_address_that_can_be_none_is_told() {
    let expected = "error: sources[0].params.listenAddress: expected an IP address or a name, found \"999.1.1.1\"";
    for kind in ["http", "syslog"] {
        let web = source("web", kind, "listenPort: 8080, listenAddress: \"999.1.1.1\"");
        let problems = told_of(&web, "");
        assert!(problems.ends_with(expected), "{problems}");
    }
}

#[test]
fn a_source_does_not_forward_to_itself() {
    let told = |params: &str, is_refused: bool| {
        let problems = told_of(&source("web", "http", params), "");
        let expected =
            "error: sources[0].params.forwardTo: this is where the source itself listens";
        assert_eq!(problems.contains(expected), is_refused, "{params}: {problems}");
        assert_eq!(problems.is_empty(), !is_refused, "{params}: {problems}");
    };
    told("listenPort: 8080, forwardTo: \"http://127.0.0.1:8080\"", true);
    told("listenPort: 8080, forwardTo: \"http://localhost:8080/below\"", true);
    told("listenPort: 80, forwardTo: \"http://[::1]\", listenAddress: \"::\"", true);
    told("listenPort: 443, forwardTo: \"https://127.0.0.1\"", true);
    let own = host_name("");
    told(&format!("listenPort: 8080, forwardTo: \"http://{own}:8080\""), true);
    told("listenPort: 8080, forwardTo: \"http://127.0.0.1:8081\"", false);
    told("listenPort: 0, forwardTo: \"http://127.0.0.1:8080\"", false);
    // Another address of this machine may be another program's.
    told(
        "listenPort: 8080, listenAddress: \"192.0.2.1\", forwardTo: \"http://127.0.0.1:8080\"",
        false,
    );
}

#[test]
fn a_part_of_a_url_that_is_not_forwarded_to_is_told() {
    for (url, part) in [
        ("http://me:secret@127.0.0.1:8081", "name and password: requests are sent on with"),
        ("http://127.0.0.1:8081?key=secret", "a query: each request has its own"),
        ("http://127.0.0.1:8081#secret", "`#`: what follows it is never sent"),
    ] {
        let params = format!("listenPort: 8080, forwardTo: \"{url}\"");
        let problems = told_of(&source("web", "http", &params), "");
        let expected = format!("sources[0].params.forwardTo: expected a URL without {part}");
        assert!(problems.contains(&expected), "{url}: {problems}");
        assert!(!problems.contains("secret"), "{url}: {problems}");
    }
}

#[test]
fn a_sink_does_not_send_to_its_own_proxy() {
    let web = source("web", "http", "listenPort: 8080");
    let told = |sink: &str, expected: &str| {
        let problems = told_with(&web, sink, "portStatusZ: 8090");
        assert!(problems.ends_with(expected), "{sink}: {problems}");
        assert_eq!(problems.is_empty(), expected.is_empty(), "{sink}: {problems}");
    };
    let relay = |url: &str| format!(r#"url: "{url}", authBearer: "t", buckets: ["b"]"#);
    let back =
        "error: sinks[0].url: this leads back to the proxy itself: source `web` listens there";
    told(&relay("http://127.0.0.1:8080/"), back);
    told(&relay("http://localhost:8080"), back);
    told(&relay(&format!("http://{}:8080", host_name(""))), back);
    told(r#"url: "http://127.0.0.1:8080/api", notRelay: true"#, back);
    let status =
        "error: sinks[0].url: this leads back to the proxy itself: the status page listens there";
    told(&relay("http://127.0.0.1:8090/"), status);
    told(&relay("http://127.0.0.1:8081/"), "");
    told(&relay("http://relay.example.com:8080/"), "");
    // What another source takes does not come back by itself.
    let other = source("other", "http", "listenPort: 8082");
    let chained = other.replace("targetSink: \"out\"", "targetSink: \"printed\"");
    let sinks = r#"url: "http://127.0.0.1:8082/", notRelay: true }, { id: "printed", type: "http", url: ":dbg>stdout:""#;
    assert_eq!(told_with(&format!("{web}, {chained}"), sinks, ""), "");
}

#[test]
fn what_cannot_work_in_a_proxy_is_told() {
    let told = |params: &str, keys: &str, expected: &str| {
        let problems = told_of(&source("web", "http", params), keys);
        assert!(problems.ends_with(expected), "{problems}");
    };
    let no_time = "error: sources[0].params.requestTimeout: expected a time above zero";
    told("listenPort: 8080, requestTimeout: 0", "", no_time);
    let every = "error: nodeInfoEvery: expected 1s to 1h";
    told("listenPort: 8080", "nodeInfoEvery: \"2h\"", every);
    let most = "more than 1048576 are of no use: 1048576 is used";
    told(
        "listenPort: 8080, maxConnections: 2000000",
        "",
        &format!("params.maxConnections: {most}"),
    );
    told(
        "listenPort: 8080",
        "traceSteps: 99999999999",
        "traceSteps: more than 10000000 are of no use: 10000000 is used",
    );
    told(
        "listenPort: 8080",
        "dataDir: \"/dev/null\"",
        "error: dataDir: expected a folder, /dev/null is a file",
    );
}

#[test]
fn a_sink_cannot_be_named_as_the_dead_letters_of_a_script() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("s.lua");
    std::fs::write(&script, "function Process(content, emit) end").expect("written");
    let told = |id: &str| {
        let script = script.display();
        let source = format!("{{ id: '{id}', type: 'stdin', transformScript: '{script}' }}");
        let sink = "{ id: 'script:s', type: 'http', url: ':dbg>stdout:' }";
        let text = format!("{{ sources: [{source}], sinks: [{sink}], dataDir: '/nowhere' }}");
        let mut problems = Problems::new();
        let document = parse("proxy.json", &text, &|_| None, &mut problems).expect("JSON5");
        let plan = check(&document, &mut problems);
        assert_eq!(plan.is_none(), problems.has_errors(), "{problems}");
        problems.to_string()
    };
    let expected = "error: sources[0].transformScript: a sink is named `script:s`";
    assert!(told("s").contains(expected), "{}", told("s"));
    assert_eq!(told("other"), "");
}

#[test]
fn a_sink_that_no_source_names_is_told_unless_a_source_names_none_that_is_there() {
    let told = |target: &str| {
        let source = format!("{{ id: 's', type: 'stdin', targetSink: '{target}' }}");
        let sink = |id: &str| format!("{{ id: '{id}', type: 'http', url: ':dbg>stdout:' }}");
        let (used, idle) = (sink("used"), sink("idle"));
        let text =
            format!("{{ sources: [{source}], sinks: [{used}, {idle}], dataDir: '/nowhere' }}");
        let mut problems = Problems::new();
        let document = parse("proxy.json", &text, &|_| None, &mut problems).expect("JSON5");
        check(&document, &mut problems);
        problems.to_string()
    };
    let unnamed = "no source names this sink";
    let idle = format!("warning: sinks[1].id: {unnamed}, so it gets no events");
    assert!(told("used").ends_with(&idle), "{}", told("used"));
    let unknown = "no sink has the id `usde`; known: used, idle";
    assert!(told("usde").ends_with(unknown), "{}", told("usde"));
    assert!(told("$NONE").ends_with("NONE is not set; an empty text is used"), "{}", told("$NONE"));
}

#[test]
fn a_token_whose_variable_is_not_set_is_told_once() {
    let told = |token: &str| {
        let relay = format!("url: 'http://127.0.0.1:1', buckets: ['b'], authBearer: '{token}'");
        told_with(&source("s", "stdin", ""), &relay, "")
    };
    let check = |token: &str, expected: &str| {
        let told = told(token);
        let (_, text) = told.split_once("warning: sinks[0].authBearer: ").expect("a warning");
        assert_eq!(text, expected, "{told}");
    };
    check("", "a relay accepts nothing without the token of the bucket: set authBearer");
    check("$NONE", "the environment variable NONE is not set; an empty text is used");
    check("${NONE:-}", "a relay accepts nothing without the token of the bucket: set authBearer");
}

#[test]
fn a_value_that_no_header_can_carry_is_told_with_its_key_and_why() {
    let sink = r#"url: "http://127.0.0.1:1", authBearer: "token\n", buckets: ["b"]"#;
    let expected = "error: sinks[0].authBearer: authBearer cannot be sent as a header: expected a text without line breaks";
    let told = told_with(&source("s", "stdin", ""), sink, "");
    assert!(told.ends_with(expected), "{told}");
}

#[test]
fn a_relay_s_url_that_ends_in_its_endpoint_is_told() {
    let check = |url: &str, keys: &str, expected: &str| {
        let sink = format!(r#"url: "{url}", authBearer: "t", buckets: ["b"], {keys}"#);
        let told = told_with(&source("s", "stdin", ""), &sink, "");
        assert!(told.ends_with(expected), "{url}: {told}");
        assert_eq!(told.is_empty(), expected.is_empty(), "{url}: {told}");
    };
    let warning =
        "warning: sinks[0].url: record-batch is added to the relay's URL: leave it out here";
    check("http://relay.example/record-batch", "", warning);
    check("http://relay.example/below/record-batch/", "", warning);
    check("http://relay.example/my-record-batch", "", "");
    let warning = "warning: sinks[0].url: calls are added to the relay's URL: expected one without `?` and `#`";
    check("http://relay.example/?key=1", "", warning);
    check("http://relay.example/#relay", "", warning);
    check("http://api.example/?key=1", "notRelay: true", "");
    check("http://relay.example/record-batch", "notRelay: true", "");
}
