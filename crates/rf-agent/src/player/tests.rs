//! What a player's file may leave out, and what is told of it.

use rf_core::config::{Problems, parse};

use super::{check, notification_targets};

/// What is told of a file with this sink.
fn told_of(sink: &str) -> String {
    let text = format!(
        "{{ relayUrl: 'http://127.0.0.1:1/', dataDir: '/nowhere', sources: [{{ name: 'b', relayAuthenticationBearer: 't', sinks: ['l'], hookInterval: '' }}], sinks: [{sink}] }}"
    );
    let mut problems = Problems::new();
    let document = parse("player.json", &text, &|_| None, &mut problems).expect("JSON5");
    let plan = check(&document, &mut problems);
    assert_eq!(plan.is_none(), problems.has_errors(), "{sink}");
    problems.to_string()
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
