//! Requests and events that mean harm: no request is answered with a 500, none changes or shows what it must not; no event
//! costs another one.

use proptest::prelude::ProptestConfig;
use proptest::proptest;
use serde_json::json;

use super::{PARAMS, api, event};
use crate::sink::table::hostile::{HOSTILE, check, dump, encode, encode_bytes, fuzz, row_requests};
use crate::sink::table::hostile_events::{Kind, check_events};
use crate::sink::table::identifier::Identifier;
use crate::sink::table::rig::Rig;

async fn people() -> Rig {
    let mut rig = Rig::start(crate::sink::alert::build, PARAMS).await;
    let bodies = [r#"{"id":"a","name":"Ann","age":3}"#, r#"{"id":"b","name":"Bob","age":4}"#];
    rig.write(&bodies.map(|body| event("POST", "/people", body))).await;
    rig
}

#[tokio::test]
async fn injected_sql_is_a_value_or_an_unknown_name() {
    let rig = people().await;
    let path = rig.folder.path().join("alert.sqlite3");
    let before = dump(&path);
    for text in HOSTILE {
        check(&rig, &row_requests(text)).await;
        let parameters = ["/status?{}={}", "/silences?{}={}"];
        check(&rig, &parameters.map(|uri| uri.replace("{}", &encode(text)))).await;
        let (status, _) = api(&rig, "DELETE", &format!("/silences/{}", encode(text)), "").await;
        assert!([400, 404, 405].contains(&status), "{text}: {status}");
        let mut bodies = vec![
            json!({ "table": "people", "for": text }),
            json!({ "table": "people", "until": text }),
        ];
        // `-1` and `0x10` can name a table.
        if Identifier::table(text).is_err() {
            bodies.push(json!({ "table": text, "for": "1h" }));
        }
        for body in bodies {
            let (status, answer) = api(&rig, "POST", "/silences", &body.to_string()).await;
            assert_eq!(status, 400, "{body}: {answer}");
        }
    }
    assert_eq!(dump(&path), before);
}

#[tokio::test]
async fn injected_sql_in_events_and_reasons_is_a_value_or_refused() {
    let mut rig = people().await;
    for text in HOSTILE {
        let body = json!({ "status": text, "name": text, text: text }).to_string();
        rig.write(&[event("POST", "/people", &body)]).await;
        assert!(rig.try_write(&[event("POST", &format!("/{text} t"), "{}")]).await.is_err());
        let silence = json!({ "table": "people", "for": "1h", "reason": text }).to_string();
        assert_eq!(api(&rig, "POST", "/silences", &silence).await.0, 204, "{text}");
        assert_eq!(rig.json("/silences").await[0]["reason"], json!(text));
    }
    let statuses = rig.json("/distinct-values/people/status").await;
    assert_eq!(statuses.as_array().map(Vec::len), Some(HOSTILE.len() + 1), "{statuses}");
    assert_eq!(rig.json("/list").await, json!(["people"]));
}

#[tokio::test]
async fn hostile_paths_and_keys_cost_no_other_event() {
    let kind = Kind::of_rows(crate::sink::alert::build, PARAMS);
    check_events(&kind).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn fuzzed_requests_are_answered((text, bytes) in fuzz()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let rig = people().await;
            let path = rig.folder.path().join("alert.sqlite3");
            let before = dump(&path);
            check(&rig, &row_requests(&text)).await;
            let (status, answer) = api(&rig, "POST", "/silences", &text).await;
            assert_eq!(status, 400, "{text}: {answer}");
            for encoded in [encode(&text), encode_bytes(&bytes)] {
                let (status, _) = api(&rig, "DELETE", &format!("/silences/{encoded}"), "").await;
                assert!([400, 404, 405].contains(&status), "{encoded}: {status}");
            }
            assert_eq!(dump(&path), before);
        });
    }
}
