//! Metrics of relay, proxy and player, as Prometheus sees them: Debian's packages `prometheus`, which `test.sh` installs.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::ports::free_port;
use crate::support::program::Program;
use crate::support::stack::Stack;
use crate::support::wait::{SOON, eventually, eventually_some};
use crate::support::wire::{call, post};

const HOSTILE: &str = r#"web"1\{}"#;

/// A relay with two events in a bucket and a node that told of itself.
fn relay(folder: &Path, port: u16, status: u16) -> Program {
    let config = json!({
        "port": port, "listenAddress": "127.0.0.1", "portStatusZ": status, "dataDir": folder.join("data"),
        "expectedNodes": ["never-there"],
        "buckets": { "b": { "auth": "t" } },
    });
    let relay = Program::role(folder, "relay", &config);
    let send = |method: &str, path: &str, body: &Value| {
        let headers: [(&str, &[u8]); 3] = [
            ("Authorization", b"Bearer t"),
            ("RF-BUCKET", b"b"),
            ("RF-HOSTNAME", HOSTILE.as_bytes()),
        ];
        let answer = call(port, method, path, &headers, body.to_string().as_bytes());
        assert_eq!(answer.status(), 200, "{}", answer.text());
    };
    send("POST", "/record-batch", &json!(["one", "two"]));
    let mut latency = vec![0; 18];
    latency[3] = 7;
    let info = json!({
        "role": "proxy", "envName": "prod\nx", "cpuPercentHost": 12.5,
        "sources": { "in": { "type": "http", "received": 9, "dropped": { "script": 1, "": 4 } } },
        "sinks": { "out": {
            "type": "relay", "shipped": 7, "dropped": { "full": 2, "age": 1 }, "paused": "401",
            "queue": { "events": 3, "bytes": 50, "maxBytes": 100 }, "latency": { "counts": latency, "sumMs": 50 },
        } },
    });
    send("POST", "/node-info", &info);
    relay
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/prometheus-grafana")
}

#[test]
fn promtool_has_nothing_to_say_against_the_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let (port, status) = (free_port(), free_port());
    let _relay = relay(folder.path(), port, status);
    let answer = call(status, "GET", "/metrics", &[], b"");
    let kind = answer.header("content-type").unwrap();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text();
    let host = r#"node="web\"1\\{}/proxy",env="prod\nx",role="proxy""#;
    for line in [
        r#"replayforge_bucket_received_events_total{bucket="b"} 2"#.to_owned(),
        r#"replayforge_node_up{node="never-there",env="",role="unknown"} 0"#.to_owned(),
        format!("replayforge_node_cpu_ratio{{{host}}} 0.125"),
        format!(
            r#"replayforge_sink_dropped_events_total{{{host},sink="out",type="relay",reason="full"}} 2"#
        ),
        format!(
            r#"replayforge_sink_latency_seconds_bucket{{{host},sink="out",type="relay",le="0.01"}} 7"#
        ),
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    check_with_promtool(&text);
}

fn check_with_promtool(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed: see test.sh");
    let mut stdin = promtool.stdin.take().expect("piped");
    stdin.write_all(text.as_bytes()).expect("promtool reads");
    drop(stdin);
    let checked = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.trim().is_empty(), "{said}");
}

/// A stack whose proxy and player tell their metrics, with an event that has arrived; their status ports.
fn agents() -> (Stack, [u16; 2]) {
    let ports = [free_port(), free_port()];
    let stack = Stack::with(|configs| {
        configs.proxy["portStatusZ"] = json!(ports[0]);
        configs.proxy["hostName"] = json!(HOSTILE);
        configs.player["portStatusZ"] = json!(ports[1]);
        configs.player["hostName"] = json!("home");
    });
    post(stack.ports.proxy, "/a", b"x");
    stack.target.wait_for(1);
    for (port, counter) in ports.into_iter().zip(["shipped", "delivered"]) {
        eventually(counter, SOON, || {
            let text = call(port, "GET", "/metrics", &[], b"").text();
            let has = |name: &str, value: &str| {
                text.lines().any(|line| line.starts_with(name) && line.ends_with(value))
            };
            // It leaves the queue when it is counted already.
            has(&format!("replayforge_sink_{counter}_events_total{{"), " 1")
                && has("replayforge_sink_queue_events{", " 0")
        });
    }
    (stack, ports)
}

#[test]
fn proxy_and_player_tell_their_own_with_the_relay_s_names() {
    let (stack, [proxy, player]) = agents();
    let node = r#"node="web\"1\\{}/proxy",env="",role="proxy""#;
    let text = call(proxy, "GET", "/metrics", &[], b"").text();
    let component =
        |kind: &str, id: &str, of: &str| format!(r#"{{{node},{kind}="{id}",type="{of}"}}"#);
    let (source, sink) = (component("source", "in", "http"), component("sink", "out", "relay"));
    for line in [
        format!("replayforge_source_received_events_total{source} 1"),
        format!("replayforge_source_emitted_events_total{source} 1"),
        format!("replayforge_source_stored_events_total{source} 1"),
        format!("replayforge_source_dead_lettered_events_total{source} 0"),
        format!("replayforge_sink_shipped_events_total{sink} 1"),
        format!("replayforge_sink_delivered_events_total{sink} 0"),
        format!("replayforge_sink_retried_events_total{sink} 0"),
        format!("replayforge_sink_dead_lettered_events_total{sink} 0"),
        format!("replayforge_sink_queue_events{sink} 0"),
        format!("replayforge_sink_queue_ratio{sink} 0"),
        format!("replayforge_sink_oldest_event_age_seconds{sink} 0"),
        format!("replayforge_sink_latency_seconds_count{sink} 1"),
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    for started in [
        format!("replayforge_source_received_bytes_total{source} "),
        format!("replayforge_sink_sent_bytes_total{sink} "),
        format!("replayforge_sink_last_success_timestamp_seconds{sink} 1"),
        format!("replayforge_node_process_memory_bytes{{{node}}} "),
    ] {
        assert!(text.lines().any(|line| line.starts_with(&started)), "{started} is not in\n{text}");
    }
    assert!(!text.contains("last_error_timestamp_seconds{"), "nothing has failed:\n{text}");
    check_with_promtool(&text);
    check_with_promtool(&call(player, "GET", "/metrics", &[], b"").text());
    // What the relay has from them are the same series.
    let series = |text: &str, role: &str| -> BTreeSet<String> {
        let of_role = format!(r#"role="{role}""#);
        let lines = text.lines().filter(|line| {
            line.starts_with("replayforge_s")
                && line.contains(&of_role)
                && !line.contains("timestamp")
        });
        lines
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(series, _)| series.to_owned())
            .collect()
    };
    eventually("the relay knows the same of the proxy", SOON, || {
        let relay = call(stack.ports.status, "GET", "/metrics", &[], b"").text();
        let own = call(proxy, "GET", "/metrics", &[], b"").text();
        series(&relay, "proxy") == series(&own, "proxy")
    });
}

#[test]
fn prometheus_scrapes_proxy_and_player() {
    let (stack, [proxy, player]) = agents();
    let open: [(&str, &[u8]); 1] = [("Accept", b"application/openmetrics-text")];
    assert!(call(proxy, "GET", "/metrics", &open, b"").text().ends_with("\n# EOF\n"));
    let server = Prometheus::start(stack.folder(), &[proxy, player]);
    for (query, expected) in [
        ("count(replayforge_build_info)", "2"),
        ("replayforge_sink_shipped_events_total{role=\"proxy\"}", "1"),
        ("replayforge_sink_delivered_events_total{role=\"player\"}", "1"),
    ] {
        eventually(query, SOON, || server.query(query).as_deref() == Some(expected));
    }
}

#[test]
fn prometheus_scrapes_both_forms() {
    let folder = tempfile::tempdir().unwrap();
    let (port, status) = (free_port(), free_port());
    let _relay = relay(folder.path(), port, status);
    let open: [(&str, &[u8]); 1] = [("Accept", b"application/openmetrics-text")];
    let answer = call(status, "GET", "/metrics", &open, b"");
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(answer.text().ends_with("\n# EOF\n"));

    // Prometheus asks for OpenMetrics by itself; the other form is what promtool reads above.
    let server = Prometheus::start(folder.path(), &[status]);
    for (query, expected) in [
        ("replayforge_bucket_events{bucket=\"b\"}", "2"),
        ("sum(replayforge_sink_dropped_events_total)", "3"),
        ("replayforge_sink_paused", "1"),
        ("histogram_quantile(0.5, replayforge_sink_latency_seconds_bucket)", "0.0075"),
        ("count(replayforge_node_up == 0)", "1"),
    ] {
        let found = eventually_some(query, SOON, || server.query(query));
        assert_eq!(found, expected, "{query}");
    }
}

#[test]
fn the_example_has_good_rules_and_names_metrics_that_there_are() {
    let checked = Command::new("promtool")
        .args(["check", "config", "prometheus.yml"])
        .current_dir(examples())
        .output()
        .expect("promtool is installed: see test.sh");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));

    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md");
    let known: BTreeSet<String> = names(&std::fs::read_to_string(manual).unwrap());
    for file in ["replayforge.rules.yml", "grafana/dashboard.json"] {
        for name in names(&std::fs::read_to_string(examples().join(file)).unwrap()) {
            let family = name.strip_suffix("_bucket").unwrap_or(&name);
            assert!(known.contains(family), "{file}: {name}");
        }
    }
}

/// All names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let parts = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    parts.filter(|part| part.starts_with("replayforge_")).map(str::to_owned).collect()
}

/// A Prometheus that scrapes programs each second. Dropped, it is gone.
struct Prometheus {
    child: Child,
    port: u16,
}

impl Prometheus {
    fn start(folder: &Path, statuses: &[u16]) -> Prometheus {
        let port = free_port();
        let targets: Vec<String> =
            statuses.iter().map(|status| format!("'127.0.0.1:{status}'")).collect();
        let targets = targets.join(", ");
        let config = format!(
            "global: {{ scrape_interval: 1s }}\n\
             scrape_configs:\n  - job_name: r\n    static_configs: [{{ targets: [{targets}] }}]\n"
        );
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, config).expect("written");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is installed: see test.sh");
        Prometheus { child, port }
    }

    /// The one value of an instant query, once there is one.
    fn query(&self, query: &str) -> Option<String> {
        let encode = |byte: u8| format!("%{byte:02X}");
        let query: String = query.bytes().map(encode).collect();
        // Until it listens there is nobody to ask.
        std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let answer = call(self.port, "GET", &format!("/api/v1/query?query={query}"), &[], b"");
        if answer.status() != 200 {
            return None;
        }
        answer.json()["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().expect("an own process can be killed");
        self.child.wait().expect("it ends");
    }
}
