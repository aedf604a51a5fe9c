//! The relay's metrics, as Prometheus sees them: Debian's packages `prometheus`, which `test.sh` installs.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::ports::free_port;
use crate::support::program::Program;
use crate::support::wait::{SOON, eventually_some};
use crate::support::wire::call;

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

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed: see test.sh");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.trim().is_empty(), "{said}");
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
    let server = Prometheus::start(folder.path(), status);
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

/// A Prometheus that scrapes one relay each second. Dropped, it is gone.
struct Prometheus {
    child: Child,
    port: u16,
}

impl Prometheus {
    fn start(folder: &Path, status: u16) -> Prometheus {
        let port = free_port();
        let config = format!(
            "global: {{ scrape_interval: 1s }}\n\
             scrape_configs:\n  - job_name: r\n    static_configs: [{{ targets: ['127.0.0.1:{status}'] }}]\n"
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
