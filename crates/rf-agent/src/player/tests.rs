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

/// What is said of a player's file with these sources, sinks and further keys.
fn told_with(sources: &str, sinks: &str, keys: &str) -> String {
    let text = format!(
        "{{ relayUrl: \"http://127.0.0.1:1\", sources: [{sources}], sinks: [{sinks}], {keys} }}"
    );
    let mut problems = Problems::new();
    let document = parse("player.json", &text, &|_| None, &mut problems).expect("JSON5");
    let plan = check(&document, &mut problems);
    assert_eq!(plan.is_none(), problems.has_errors(), "{problems}");
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
fn a_relay_s_url_that_calls_cannot_be_added_to_is_told() {
    for (url, expected) in [
        ("http://relay.example/below", ""),
        (
            "http://relay.example/?key=1",
            "calls are added to the relay's URL: expected one without `?` and `#`",
        ),
        (
            "http://relay.example/first-batch/",
            "first-batch is added to the relay's URL: leave it out here",
        ),
    ] {
        let text = file_of("'l'", "{ name: 'l', type: 'log' }");
        let text = text.replace("http://127.0.0.1:1/", url);
        let mut problems = Problems::new();
        let document = parse("player.json", &text, &|_| None, &mut problems).expect("JSON5");
        assert!(check(&document, &mut problems).is_some(), "{url}: {problems}");
        let told = problems.to_string();
        assert!(told.ends_with(expected), "{url}: {told}");
        assert_eq!(told.is_empty(), expected.is_empty(), "{url}: {told}");
    }
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

#[test]
fn a_sink_that_nobody_names_is_told() {
    let out = r#"{ name: "out", type: "log", params: {} }"#;
    let idle = r#"{ name: "idle", type: "log", params: {} }"#;
    let chat = r#"{ name: "chat", type: "notification", params: { webhooks: { a: { url: "http://127.0.0.1:1" } } } }"#;
    let alert = r#"{ name: "alert", type: "alert", params: { database: "a.sqlite3", notification_sink: "chat" } }"#;
    let names = |names: &str| {
        format!("{{ name: \"b\", relayAuthenticationBearer: \"t\", sinks: [{names}] }}")
    };
    let told = |source: &str, sinks: &[&str], expected: &str| {
        let problems = told_with(source, &sinks.join(", "), "");
        assert!(problems.ends_with(expected), "{problems}");
        assert_eq!(problems.is_empty(), expected.is_empty(), "{problems}");
    };
    let expected = "warning: sinks[1].name: no source names this sink, so it gets no events";
    told(&names("\"out\""), &[out, idle], expected);
    told(&names("\"out\", \"idle\""), &[out, idle], "");
    told(&names("\"alert\""), &[alert, chat], "");
    told(&names("\"otu\""), &[out, idle], "no sink has the name `otu`; known: out, idle");
    told(&names("\"$NONE\""), &[out, idle], "NONE is not set; an empty text is used");
}

#[test]
fn the_ports_of_a_player_are_looked_at_together() {
    let source = r#"{ name: "b", relayAuthenticationBearer: "t", sinks: ["rows"] }"#;
    let rows = r#"{ name: "rows", type: "db", params: { database: "a.sqlite3", listen_port: "8090", listen_host: "127.0.0.1" } }"#;
    let told = |keys: &str, expected: &str| {
        let problems = told_with(source, rows, keys);
        assert!(problems.ends_with(expected), "{problems}");
        assert_eq!(problems.is_empty(), expected.is_empty(), "{problems}");
    };
    told("exposedPort: 8091, portStatusZ: 8092", "");
    told(
        "exposedPort: 8092, portStatusZ: 8092",
        "error: portStatusZ: the server listens there already",
    );
    let taken = "error: sinks[0].params.listen_port: the server listens there already";
    told("exposedPort: 8090", taken);
}

#[test]
fn a_player_does_not_send_to_itself() {
    let source = r#"{ name: "b", relayAuthenticationBearer: "t", sinks: ["out"] }"#;
    let told = |hosts: &str, expected: &str| {
        let out = format!(r#"{{ name: "out", type: "http", params: {{ {hosts} }} }}"#);
        let problems = told_with(source, &out, "exposedPort: 8090");
        assert!(problems.ends_with(expected), "{hosts}: {problems}");
        assert_eq!(problems.is_empty(), expected.is_empty(), "{hosts}: {problems}");
    };
    let back = "this leads back to the player itself: the server listens there";
    told(
        r#"targetHost: "http://localhost:8090""#,
        &format!("warning: sinks[0].params.targetHost: {back}"),
    );
    told(
        r#"targetHosts: ["http://127.0.0.1:1", "http://127.0.0.1:8090"]"#,
        &format!("warning: sinks[0].params.targetHosts[1]: {back}"),
    );
    told(r#"targetHost: "http://127.0.0.1:8091""#, "");
}

#[test]
fn a_buffer_is_within_what_a_database_can_be() {
    let (least, most) = (rf_queue::MIN_STORE_BYTES, rf_queue::MAX_STORE_BYTES);
    let told = |bytes: u64, expected: &str| {
        let source = r#"{ name: "b", relayAuthenticationBearer: "t", sinks: ["out"] }"#;
        let buffer = format!("{{ maxBytes: {bytes} }}");
        let out = format!("{{ name: \"out\", type: \"log\", params: {{}}, buffer: {buffer} }}");
        let problems = told_with(source, &out, "");
        assert!(problems.ends_with(expected), "{problems}");
        assert_eq!(problems.is_empty(), expected.is_empty(), "{problems}");
    };
    told(least, "");
    told(most, "");
    let place = "sinks[0].buffer.maxBytes";
    told(least - 1, &format!("error: {place}: expected at least {least} bytes"));
    let at_most = format!("a database holds at most {most} bytes: {most} is used");
    told(most + 1, &format!("warning: {place}: {at_most}"));
}

#[test]
fn a_relay_wants_a_token() {
    let out = r#"{ name: "out", type: "log", params: {} }"#;
    let problems = told_with(r#"{ name: "b", sinks: ["out"] }"#, out, "");
    assert!(
        problems.contains("warning: sources[0]: a relay hands out nothing without the token"),
        "{problems}"
    );
    let source = r#"{ name: "b", relayAuthenticationBearer: "$NONE", sinks: ["out"] }"#;
    let problems = told_with(source, out, "");
    let expected = "warning: sources[0].relayAuthenticationBearer: the environment variable NONE is not set; an empty text is used";
    assert!(problems.ends_with(expected) && problems.lines().count() == 1, "{problems}");
    let source = r#"{ name: "b", relayAuthenticationBearer: "secret\n1", sinks: ["out"] }"#;
    let problems = told_with(source, out, "");
    let expected = "error: sources[0].relayAuthenticationBearer: this cannot be sent as a header";
    assert!(problems.contains(expected) && !problems.contains("secret"), "{problems}");
}
