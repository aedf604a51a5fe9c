//! What comes out, on the machine that runs the test.

use std::collections::BTreeMap;
use std::path::Path;

use rf_core::event::ReplayRequest;

use super::*;

fn source(include: &[&str], exclude: &[&str]) -> SystemStats {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    SystemStats {
        id: "s".to_owned(),
        path: "ts_gauge_systemstats_10s".to_owned(),
        interval: Duration::from_secs(10),
        env_name: "prod".to_owned(),
        host_name: "web1".to_owned(),
        include: owned(include),
        exclude: owned(exclude),
    }
}

#[test]
fn an_event_has_the_originals_keys_in_its_order() {
    let event = source(&["*"], &[]).event("load_1", 0.25, 1_764_000_000);
    let replay = ReplayRequest::parse(&event).expect("an event");
    let expected = r#"{"timestamp":1764000000,"envName":"prod","hostName":"web1","serieName":"load_1","value":0.25,"id":"load_11764000000"}"#;
    assert_eq!(String::from_utf8_lossy(&replay.body), expected);
    let event: Value = serde_json::from_slice(&event).expect("JSON");
    assert_eq!(event["path"], "ts_gauge_systemstats_10s");
}

/// Others name no table of a time series.
#[test]
fn a_path_has_a_whole_number_of_seconds() {
    for (millis, seconds) in [(10_000, 10), (1000, 1), (500, 1), (1, 1), (2500, 3)] {
        let path = path_of(Duration::from_millis(millis));
        assert_eq!(path, format!("ts_gauge_systemstats_{seconds}s"), "{millis} ms");
    }
}

#[test]
fn whole_numbers_are_written_as_such() {
    assert_eq!(number(16_384_000.0).to_string(), "16384000");
    assert_eq!(number(-1.5).to_string(), "-1.5");
    assert_eq!(number(1e300).to_string(), "1e+300");
}

#[tokio::test]
async fn every_series_of_the_original_is_there_and_sane() {
    let stats = source(&["*"], &[]);
    let sampler = Arc::new(Mutex::new(Sampler::default()));
    stats.sample(&sampler).await.expect("a first sample");
    // Some time must pass for the processors.
    let mut sampled = BTreeMap::new();
    while !sampled.contains_key("cpu_percent") {
        tokio::task::yield_now().await;
        for event in stats.sample(&sampler).await.expect("a sample") {
            let replay = ReplayRequest::parse(&event).expect("an event");
            let body: Value = serde_json::from_slice(&replay.body).expect("JSON");
            let name = body["serieName"].as_str().expect("a name").to_owned();
            sampled.insert(name, body["value"].as_f64().expect("a number"));
        }
    }
    let value =
        |name: &str| *sampled.get(name).unwrap_or_else(|| panic!("no {name} in {sampled:?}"));
    for name in ["memory_host", "disk"] {
        assert!(value(&format!("{name}_total")) >= value(&format!("{name}_free")));
        assert!((0.0..=100.0).contains(&value(&format!("{name}_used"))));
    }
    assert!((0.0..=100.0).contains(&value("cpu_percent")));
    assert!(
        value("memory_process") > 100_000.0 && value("memory_process") < value("memory_host_total")
    );
    for name in [
        "bytes_sent",
        "bytes_recv",
        "packets_sent",
        "packets_recv",
        "errin",
        "errout",
        "dropin",
        "dropout",
    ] {
        value(&format!("network_lo_{name}"));
    }
    for name in ["load_1", "load_5", "load_15", "swap_total", "swap_free", "swap_used"] {
        value(name);
    }
    assert!(value("process_count") >= 1.0 && value("open_files") >= 1.0);
    if Path::new("/proc/pressure/io").exists() {
        value("pressure_io_some_avg10");
    }
}

#[test]
fn series_are_chosen_by_name() {
    let stats = source(&["network_*", "load_1"], &["network_lo_*"]);
    let wanted = |name| stats.is_wanted(name);
    assert!(wanted("network_eth0_errin") && wanted("load_1"));
    assert!(!wanted("network_lo_errin") && !wanted("load_5"));
}

#[test]
fn an_interval_of_zero_is_the_default() {
    for (params, expected) in [
        ("{}", 60),
        ("{ intervalSeconds: 0 }", 60),
        ("{ intervalSeconds: null }", 60),
        ("{ intervalSeconds: 5 }", 5),
    ] {
        let mut problems = Problems::new();
        let document = rf_core::config::parse("proxy.json", params, &|_| None, &mut problems);
        let config =
            document.expect("JSON5").root().decode::<SystemStatsSourceConfig>(&mut problems);
        let interval = config.expect("no problem").interval_seconds;
        assert_eq!(interval, Interval::from_secs(expected), "{params}");
    }
}
