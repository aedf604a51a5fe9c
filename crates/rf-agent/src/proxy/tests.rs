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
