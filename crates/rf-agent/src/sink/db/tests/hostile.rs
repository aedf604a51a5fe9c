//! Requests and events that mean harm: no request is answered with a 500, none changes or shows what it must not; no event
//! costs another one.

use proptest::prelude::ProptestConfig;
use proptest::proptest;
use serde_json::json;

use super::{PARAMS, event, rig};
use crate::sink::table::hostile::{HOSTILE, check, dump, encode_bytes, fuzz, row_requests};
use crate::sink::table::hostile_events::{Kind, check_events};
use crate::sink::table::rig::Rig;

async fn people() -> Rig {
    let mut rig = rig().await;
    rig.write(&[
        event("POST", "/people", r#"{"id":"a","name":"Ann","age":3}"#),
        event("POST", "/people", r#"{"id":"b","name":"Bob","age":4}"#),
    ])
    .await;
    rig
}

#[tokio::test]
async fn injected_sql_is_a_value_or_an_unknown_name() {
    let rig = people().await;
    let path = rig.folder.path().join("db.sqlite3");
    let before = dump(&path);
    for text in HOSTILE {
        check(&rig, &row_requests(text)).await;
    }
    assert_eq!(dump(&path), before);
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

#[tokio::test]
async fn hostile_paths_and_keys_cost_no_other_event() {
    let kind = Kind::of_rows(crate::sink::db::build, PARAMS);
    check_events(&kind).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn fuzzed_requests_are_answered((text, bytes) in fuzz()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let rig = people().await;
            let path = rig.folder.path().join("db.sqlite3");
            let before = dump(&path);
            check(&rig, &row_requests(&text)).await;
            let raw = encode_bytes(&bytes);
            let uris = ["/rpf-db/people?{}", "/rpf-db/people?name={}", "/rpf-db/{}x"];
            check(&rig, &uris.map(|uri| uri.replace("{}", &raw))).await;
            assert_eq!(dump(&path), before);
        });
    }
}
