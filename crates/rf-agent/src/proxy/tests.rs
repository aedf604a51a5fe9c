//! What a proxy's file may leave out, and what is told of it.

use std::time::Duration;

use rf_core::config::{Problems, parse};

use super::check;
use crate::agent::Plan;

/// Checks a file with this source and a sink that prints; gives what is told, too.
fn checked(source: &str) -> (Option<Plan>, String) {
    let text = format!(
        "{{ sources: [{source}], sinks: [{{ id: 'a', type: 'http', url: ':dbg>stdout:' }}], dataDir: '/nowhere' }}"
    );
    let mut problems = Problems::new();
    let document = parse("proxy.json", &text, &|_| None, &mut problems).expect("JSON5");
    (check(&document, &mut problems), problems.to_string())
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
    let expected = "unknown key `listenPort`; the keys of a type stand in `params`; known here: ";
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
        assert_eq!(plan.sinks[0].sink.shape().linger, expected, "{keys}");
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
