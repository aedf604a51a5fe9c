//! Every type becomes the JSON that PostgreSQL itself would make of it.

use serde_json::{Value, json};

use super::{params, printing, wait_for};
use crate::support::postgres::Postgres;

/// Types of a user's own.
const SET_UP: &str = r#"
CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN price AS numeric(10,2);
CREATE DOMAIN prices AS price[];
CREATE EXTENSION hstore;
"#;

/// Expressions whose JSON is that of `to_json`.
const AS_TO_JSON: &[&str] = &[
    "true",
    "false",
    "NULL::int",
    "'-32768'::int2",
    "2147483647",
    "9223372036854775807",
    "'-9007199254740993'::int8",
    "12.50::numeric",
    "'NaN'::numeric",
    "'-Infinity'::float8",
    "1e300::float8",
    "0.1::float4",
    "'x'::\"char\"",
    "'bl'::char(5)",
    "'ä\"\\ü'::varchar",
    "''::text",
    "'name'::name",
    "'2026-01-31'::date",
    "'12:34:56.789'::time",
    "'12:34:56+02'::timetz",
    "'2026-01-31 12:00:00.123456'::timestamp",
    "'2026-01-31 12:00:00+02'::timestamptz",
    "'infinity'::timestamptz",
    "'-infinity'::timestamp",
    "'infinity'::date",
    "'1 year 2 days 03:04:05.5'::interval",
    "'{\"a\": [1, null, \"x\"]}'::json",
    "'{\"b\":2,\"a\":1.50}'::jsonb",
    "'null'::jsonb",
    "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid",
    "'\\x00ff10'::bytea",
    "''::bytea",
    "'192.168.0.1/24'::inet",
    "'::1'::inet",
    "'10.0.0.0/8'::cidr",
    "'08:00:2b:01:02:03'::macaddr",
    "'08:00:2b:01:02:03:04:05'::macaddr8",
    "'$1,234.50'::money",
    "B'1010'::bit(4)",
    "B'101'::varbit",
    "'(1,2)'::point",
    "'((0,0),(1,1))'::box",
    "'<(0,0),1>'::circle",
    "'[(0,0),(1,1)]'::path",
    "'<a>b</a>'::xml",
    "'fat & rat'::tsquery",
    "'a fat cat'::tsvector",
    "'16/B374D848'::pg_lsn",
    "'[1,10)'::int4range",
    "'{[1,2),[3,4)}'::int4multirange",
    "'happy'::mood",
    "1.5::price",
    "'{1.50,2.00}'::prices",
    "'pg_class'::regclass",
    "1234::oid",
    "ARRAY[1,NULL,3]",
    "'{}'::int[]",
    "ARRAY[[1,2],[3,4]]",
    "'[0:1]={1,2}'::int[]",
    "ARRAY['a','NULL',NULL,'b, \"c\" \\ {d}','']",
    "ARRAY[true,false]",
    "ARRAY['sad','so so']::mood[]",
    "ARRAY['2026-01-31 12:00:00+02'::timestamptz]",
    "ARRAY['{\"a\":1}'::jsonb]",
    "ARRAY['\\x01'::bytea]",
    "ARRAY['(1,1),(0,0)'::box,'(2,2),(1,1)']",
    "ARRAY['NaN'::float8, 1.5]",
    "ARRAY[12345678901234567890.5::numeric]",
];

#[test]
fn every_type_is_as_the_database_would_write_it() {
    let postgres = Postgres::start();
    postgres.sql(SET_UP);
    let folder = tempfile::tempdir().unwrap();
    let calls: Vec<Value> = AS_TO_JSON
        .iter()
        .enumerate()
        .map(|(index, sql)| {
            json!({ "name": format!("c{index}"), "sql": format!("SELECT {sql} AS v, to_json({sql})::text AS j") })
        })
        .collect();
    let program = printing(folder.path(), "pgcall", &params(&postgres, &json!({ "calls": calls })));
    let body = wait_for(&program, "a round", |body| Some(body.clone()));
    for (index, sql) in AS_TO_JSON.iter().enumerate() {
        let call = &body[format!("c{index}")];
        assert_eq!(call["success"], true, "{sql}: {call}");
        let row = &call["data"][0];
        let expected = row["j"].as_str().map(|text| serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(row["v"], expected.unwrap_or_default(), "{sql}");
    }
}

#[test]
fn digits_are_exact_and_what_json_cannot_say_is_text() {
    let postgres = Postgres::start();
    postgres.sql(SET_UP);
    let folder = tempfile::tempdir().unwrap();
    let sql = "SELECT 9223372036854775807 AS big, 12345678901234567890.12345678900 AS exact, \
        ROW(1, 'a b')::pair AS pair, 'a=>1'::hstore AS pairs, '0044-03-15 12:00:00+00 BC'::timestamptz AS ides, \
        '\"\\ud800\"'::json AS half, 1 AS same, 2 AS same, 3";
    let calls = json!([
        { "name": "zone", "sql": "SET TIME ZONE 'UTC'" },
        { "name": "c", "sql": sql },
        { "name": "none", "sql": "SELECT 1 AS a WHERE false" },
        { "name": "show", "sql": "SHOW server_encoding" },
        { "name": "write", "sql": "CREATE TABLE t (id bigserial, at timestamptz DEFAULT now())" },
        { "name": "returning", "sql": "INSERT INTO t DEFAULT VALUES RETURNING id" },
    ]);
    let params = params(&postgres, &json!({ "calls": calls }));
    let program = printing(folder.path(), "pgcall", &params);
    let body = wait_for(&program, "a round", |body| Some(body.clone()));
    let text = program.output().replace("\\\"", "\"");
    for expected in [
        r#""big":9223372036854775807,"exact":12345678901234567890.12345678900,"pair":"(1,\\"a b\\")","pairs":"\\"a\\"=>\\"1\\"""#,
        r#""ides":"0044-03-15 12:00:00+00 BC""#,
        r#""same":1,"same_2":2,"?column?":3"#,
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert_eq!(body["c"]["data"][0]["half"], "\"\\ud800\"");
    assert_eq!(body["none"]["data"], json!([]));
    assert_eq!(body["show"]["data"], json!([{ "server_encoding": "UTF8" }]));
    assert_eq!(body["write"]["data"], json!([]));
    assert_eq!(body["returning"]["data"], json!([{ "id": 1 }]));
}
