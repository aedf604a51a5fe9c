//! What a player's file may leave out, and what is told of it.

use rf_core::config::{Problems, parse};

use super::{check, notification_targets};

/// A file with a source for the sinks of these names, and this sink.
fn file_of(names: &str, sink: &str) -> String {
    format!(
        "{{ relayUrl: 'http://127.0.0.1:1/', dataDir: '/nowhere', sources: [{{ name: 'b', relayAuthenticationBearer: 't', sinks: [{names}], hookInterval: '' }}], sinks: [{sink}] }}"
    )
}

/// What is told of a file with this sink.
fn told_of(sink: &str) -> String {
    let text = file_of("'l'", sink);
    let mut problems = Problems::new();
    let document = parse("player.json", &text, &|_| None, &mut problems).expect("JSON5");
    let plan = check(&document, &mut problems);
    assert_eq!(plan.is_none(), problems.has_errors(), "{sink}");
    problems.to_string()
}

#[test]
fn a_sink_that_a_source_names_twice_gets_each_event_once() {
    let text = file_of("'l', 'l'", "{ name: 'l', type: 'log' }");
    let mut problems = Problems::new();
    let document = parse("player.json", &text, &|_| None, &mut problems).expect("JSON5");
    let plan = check(&document, &mut problems).expect("it is no error");
    assert_eq!(plan.sources[0].routes, ["l"]);
    assert_eq!(plan.sources[0].feeds, ["l"]);
    let expected = "sources[0].sinks[1]: `l` is named twice, and gets each event once";
    assert!(problems.to_string().contains(expected), "{problems}");
}

#[test]
fn missing_params_are_empty_ones() {
    for params in ["", ", params: null", ", params: {}"] {
        assert_eq!(told_of(&format!("{{ name: 'l', type: 'log'{params} }}")), "", "{params}");
        let told = told_of(&format!("{{ name: 'l', type: 'db'{params} }}"));
        let expected = "sinks[0].params.database: missing, expected a string";
        assert!(told.contains(expected), "{params}: {told}");
        let told = told_of(&format!("{{ name: 'l', type: 'notification'{params} }}"));
        let expected = "sinks[0].params.webhooks: missing, expected an object";
        assert!(told.contains(expected), "{params}: {told}");
    }
}

#[test]
fn services_of_a_sink_without_params_are_told_at_its_place() {
    let text = "{ relayUrl: 'http://127.0.0.1:1/', sinks: [{ name: 'n', type: 'notification' }] }";
    let mut problems = Problems::new();
    let document = parse("player.json", text, &|_| None, &mut problems).expect("JSON5");
    assert!(notification_targets(&document, &mut problems).is_empty());
    let expected = "sinks[0].params.webhooks: missing";
    assert!(problems.to_string().contains(expected), "{problems}");
}
