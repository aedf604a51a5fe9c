//! The contract, with programs of a few lines; and what a program may get wrong.

use rf_core::config::parse;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::sink::contract::{Promise, Subject, check_sink_contract};

fn build_sink(params: &Value) -> Result<Arc<dyn Sink>, String> {
    let mut problems = Problems::new();
    // In a file a plain dollar sign is written with a backslash.
    let text = params.to_string().replace('$', r"\\$");
    let document = parse("player.json", &text, &|_| None, &mut problems).unwrap();
    let folder = Path::new(".");
    let context = SinkContext { name: "subject", data_dir: folder, sinks: &["subject"] };
    build(&context, &document.root(), &mut problems).ok_or_else(|| problems.to_string())
}

/// A program that appends the bodies of events to a file, and rejects those of the method `BAD`.
struct Appender {
    folder: TempDir,
    concurrency: usize,
}

/// One `printf` is one write, and an answer comes after it.
const APPEND: &str = r#"
while read -r line; do
    rest=${line#*\"id\":\"}; id=${rest%%\"*}
    case $line in
        *BAD*) echo "reject $id it is bad" ;;
        *) rest=${line#*\"body\":\"}; printf '%s\n' "${rest%%\"*}" >>"$OUT"; echo "ok $id" ;;
    esac
done"#;

impl Subject for Appender {
    fn promise(&self) -> Promise {
        Promise::AtLeastOnce
    }

    fn build(&self) -> Arc<dyn Sink> {
        let out = self.folder.path().join("out");
        let params = json!({
            "command": APPEND, "shell": true, "env": { "OUT": out }, "concurrency": self.concurrency
        });
        build_sink(&params).unwrap()
    }

    fn event(&self, number: usize) -> String {
        json!({ "method": "POST", "body": number.to_string() }).to_string()
    }

    fn refused(&self) -> Option<String> {
        Some(json!({ "method": "BAD" }).to_string())
    }

    fn stored(&self) -> BoxFuture<'_, Vec<usize>> {
        let text = std::fs::read_to_string(self.folder.path().join("out")).unwrap_or_default();
        let numbers = text.lines().map(|line| line.parse().unwrap()).collect();
        Box::pin(std::future::ready(numbers))
    }
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn a_program_keeps_the_contract() {
    for concurrency in [1, 16] {
        let folder = tempfile::tempdir().unwrap();
        check_sink_contract(&Appender { folder, concurrency }).await;
    }
}

/// Writes one event with a program, which is stopped then; it has all the time that a busy machine may need.
async fn written_by(script: &str, content: &str) -> Result<(), SinkError> {
    written_within("60s", script, content).await
}

async fn written_within(timeout: &str, script: &str, content: &str) -> Result<(), SinkError> {
    let params = json!({ "command": script, "shell": true, "timeout": timeout });
    let sink = build_sink(&params).unwrap();
    let stop = CancellationToken::new();
    let running = Arc::clone(&sink).run(stop.clone());
    let writing = async {
        let event =
            StoredEvent { id: 7, at_ms: 0, content: content.to_owned().into(), attempts: 0 };
        let outcome = sink.write(&SinkBatch::new("7", [event])).await;
        stop.cancel();
        outcome
    };
    tokio::join!(running, writing).1
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_say_what_becomes_of_an_event() {
    let retry = |reason: &str| SinkError::Retry { reason: reason.to_owned(), after: None };
    let check = async |script: &str, expected: Result<(), SinkError>| {
        assert_eq!(written_by(script, "{}").await, expected, "{script}");
    };
    check("read -r l; echo ok 7; cat", Ok(())).await;
    check("read -r l; echo retry 7 the disk is full; cat", Err(retry("the disk is full"))).await;
    let rejected = Err(SinkError::Permanent("no such thing".to_owned()));
    check("read -r l; echo reject 7 no such thing; cat", rejected).await;
    check("read -r l; echo hello; echo ok 8; echo ok 7; cat", Ok(())).await;
    check("read -r l; echo ok 7; exit 3", Ok(())).await;
    check("read -r l; exit 3", Err(retry("the program ended before it answered"))).await;
    let hung = written_within("2s", "cat >/dev/null", "{}").await;
    assert_eq!(hung, Err(retry("the program gave no answer within 2s")));
}

fn batch(id: u64) -> SinkBatch {
    let event = StoredEvent { id, at_ms: 0, content: "{}".into(), attempts: 0 };
    SinkBatch::new(id.to_string(), [event])
}

/// Time passes only while nothing is to be done: the session always finds the hang before the own time of an event is up.
#[tokio::test(start_paused = true)]
async fn of_events_that_wait_together_a_hang_costs_the_first_one_an_attempt() {
    let params = json!({
        "command": "cat >/dev/null", "shell": true, "timeout": "1s", "concurrency": 2
    });
    let sink = build_sink(&params).unwrap();
    let stop = CancellationToken::new();
    let writing = async {
        let (first, second) = (batch(7), batch(8));
        let later = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            sink.write(&second).await
        };
        let outcomes = tokio::join!(sink.write(&first), later);
        stop.cancel();
        outcomes
    };
    let ((), outcomes) = tokio::join!(Arc::clone(&sink).run(stop.clone()), writing);
    let reason = || no_answer_within(Duration::from_secs(1));
    let first = Err(SinkError::Retry { reason: reason(), after: None });
    assert_eq!(outcomes, (first, Err(SinkError::Away(reason()))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_hangs_is_started_again_and_costs_the_events_behind_no_attempt() {
    let folder = tempfile::tempdir().unwrap();
    // It hangs in its first life, and takes its time to end.
    let script = "[ -e \"$HUNG\" ] || { touch \"$HUNG\"; trap '' TERM; read -r l; sleep 9; exit; }
        while read -r l; do echo ok 8; done";
    let env = json!({ "HUNG": folder.path().join("hung") });
    // In its second life it answers sooner than that, also on a busy machine.
    let params = json!({ "command": script, "shell": true, "timeout": "6s", "env": env });
    let sink = build_sink(&params).unwrap();
    let stop = CancellationToken::new();
    let writing = async {
        let hung = sink.write(&batch(7)).await;
        let reason = no_answer_within(Duration::from_secs(6));
        assert_eq!(hung, Err(SinkError::Retry { reason, after: None }));
        loop {
            match sink.write(&batch(8)).await {
                Ok(()) => break,
                Err(error) => assert!(matches!(error, SinkError::Away(_)), "{error:?}"),
            }
        }
        stop.cancel();
    };
    tokio::join!(Arc::clone(&sink).run(stop.clone()), writing);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_read_after_the_end_of_the_program_counts() {
    // The answer is there only once the end of the program was seen, as when both are seen at once.
    let script =
        "read -r l; { while kill -0 $$; do sleep 0.01; done; echo ok 7; } 2>/dev/null & exit 3";
    // What is left in the output is waited for only so long: on a busy machine the answer may come too late, but not always.
    for _ in 0..10 {
        if written_by(script, "{}").await.is_ok() {
            return;
        }
    }
    panic!("the answer never counts");
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_time_was_up_does_not_keep_the_program_after_the_stop() {
    let params = json!({ "command": ["sleep", "3600"], "timeout": "1s" });
    let sink = build_sink(&params).unwrap();
    let stop = CancellationToken::new();
    let writing = async {
        let event = StoredEvent { id: 7, at_ms: 0, content: "{}".into(), attempts: 0 };
        let outcome = sink.write(&SinkBatch::new("7", [event])).await;
        assert!(matches!(outcome, Err(SinkError::Retry { .. })), "{outcome:?}");
        stop.cancel();
        tokio::time::Instant::now()
    };
    let ((), stopped) = tokio::join!(Arc::clone(&sink).run(stop.clone()), writing);
    assert!(stopped.elapsed() < session::LAST_EVENTS, "{:?}", stopped.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_reads_one_line_of_json_whatever_the_event_is() {
    let check = async |content: &str, expected: &str| {
        let script = format!(
            "read -r l; [ \"$l\" = '{expected}' ] && echo ok 7 || echo reject 7 \"$l\"; cat"
        );
        assert_eq!(written_by(&script, content).await, Ok(()));
    };
    check("{\"a\":\n1}", r#"{"id":"7","event":{"a": 1}}"#).await;
    check("plain\ttext", r#"{"id":"7","content":"plain\ttext"}"#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_costs_no_attempt() {
    let outcome = written_by("exec /no/such/program", "{}").await;
    let is_told = matches!(outcome, Err(SinkError::Away(_) | SinkError::Retry { .. }));
    assert!(is_told, "{outcome:?}");
}

#[test]
fn a_type_of_its_own_is_a_program_beside_the_player() {
    let context = SinkContext { name: "a", data_dir: Path::new("."), sinks: &["a"] };
    let document = parse("player.json", "{}", &|_| None, &mut Problems::new()).unwrap();
    let params = document.root();
    let told = |kind: &str| of_type(kind, &context, &params, &mut Problems::new()).err().unwrap();
    assert!(told("influx").contains("no program ./influx_sink"));
    assert!(told("../x").contains("not the name of a program"));
}

#[test]
fn a_wrong_file_is_told_where() {
    let check = |params: Value, expected: &str| {
        let problems = build_sink(&params).err().unwrap();
        assert!(problems.contains(expected), "{problems}");
    };
    check(json!({ "command": "cat" }), "command: a text needs a shell");
    check(json!({ "command": [] }), "command: expected the name of a program");
}
