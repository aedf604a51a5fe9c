//! Requests that mean harm: none is answered with a 500, none changes or shows what it must not.

use proptest::prelude::{ProptestConfig, any};
use proptest::{prop_oneof, proptest};
use serde_json::json;

use super::{event, open, rig};
use crate::sink::table::rig::{HOSTILE, Rig, encode};

async fn people() -> Rig {
    let mut rig = rig().await;
    rig.write(&[
        event("POST", "/people", r#"{"id":"a","name":"Ann","age":3}"#),
        event("POST", "/people", r#"{"id":"b","name":"Bob","age":4}"#),
    ])
    .await;
    rig
}

/// Every place of a request that a text can stand in.
fn requests(text: &str) -> Vec<String> {
    let text = encode(text);
    let mut uris: Vec<String> = [
        "/rpf-db/{}",
        "/query-table/{}",
        "/find/{}/a",
        "/find/people/{}",
        "/columns/{}",
        "/distinct-values/{}/name",
        "/distinct-values/people/{}",
        "/distinct-values/people/name?limit={}",
        "/time-analytics/?table={}",
        "/time-analytics/?table=people&start_time={}",
        "/time-analytics/?table=people&stop_time={}",
        "/time-analytics/?table=people&range_time={}",
        "/{}",
        "/list?{}={}",
        "/all-columns/?{}",
    ]
    .map(|uri| uri.replace("{}", &text))
    .into();
    for parameter in [
        "{}=1",
        "{}",
        "name={}",
        "age={}",
        "name_contains={}",
        "age_gt={}",
        "age_lt={}",
        "age_gte={}",
        "age_lte={}",
        "age_ne={}",
        "age_in={}",
        "age_null={}",
        "order={}",
        "order={}:desc",
        "order=name:{}",
        "limit={}",
        "after={}",
        "order=name&after={}",
        "format={}",
        "{}_gt=1",
        "name_{}=1",
    ] {
        uris.push(format!("/rpf-db/people?{}", parameter.replace("{}", &text)));
    }
    uris
}

/// The whole database, but for what SQLite keeps for itself.
fn dump(rig: &Rig) -> Vec<String> {
    let conn = open(rig);
    let mut lines = Vec::new();
    for sql in [
        "SELECT coalesce(sql, '') FROM sqlite_schema",
        "SELECT id || name || age FROM people",
        "SELECT hex(key) FROM _rpf_events_0",
    ] {
        let mut statement = conn.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        lines.extend(rows.map(Result::unwrap));
    }
    lines
}

async fn check(rig: &Rig, text: &str) {
    for uri in requests(text) {
        let (status, body) = rig.get(&uri).await;
        assert!([200, 400, 404].contains(&status.as_u16()), "{uri}: {status} {body}");
        let shows_inside = body.contains("CREATE TABLE") || body.contains("_rpf_progress");
        assert!(!shows_inside, "{uri}: {body}");
    }
}

#[tokio::test]
async fn injected_sql_is_a_value_or_an_unknown_name() {
    let rig = people().await;
    let before = dump(&rig);
    for text in HOSTILE {
        check(&rig, text).await;
    }
    assert_eq!(dump(&rig), before);
    assert_eq!(rig.json("/rpf-db/people?name=%27%20OR%20%271%27=%271").await, json!([]));
}

#[tokio::test]
async fn injected_sql_in_events_is_a_value_or_refused() {
    let mut rig = people().await;
    for text in HOSTILE {
        let key = serde_json::to_string(text).unwrap();
        let body = format!("{{{key}:{key},\"id\":{key},\"name\":{key}}}");
        rig.write(&[event("POST", "/people", &body)]).await;
        assert!(rig.try_write(&[event("POST", &format!("/{text} t"), "{}")]).await.is_err());
        rig.write(&[event("DELETE", "/people", &format!("{{\"id\":{key}}}"))]).await;
    }
    let names = rig.json("/distinct-values/people/name").await;
    assert_eq!(names, json!(["Ann", "Bob"]));
    assert_eq!(rig.json("/list").await, json!(["people"]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn fuzzed_requests_are_answered(
        text in prop_oneof![
            ".{0,40}",
            "[a-z_]{0,12}(_gt|_in|_null|_contains)?",
            "[0-9a-zA-Z:,;'\"()%_-]{0,30}",
        ],
        more in any::<Vec<u8>>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let rig = people().await;
            let before = dump(&rig);
            check(&rig, &text).await;
            let raw: String = more.iter().take(40).map(|byte| format!("%{byte:02X}")).collect();
            for uri in [format!("/rpf-db/people?{raw}"), format!("/rpf-db/people?name={raw}"), format!("/rpf-db/{raw}x")] {
                let (status, body) = rig.get(&uri).await;
                assert!(status.as_u16() < 500, "{uri}: {status} {body}");
            }
            assert_eq!(dump(&rig), before);
        });
    }
}
