//! Which kinds of sink are held to the contract, by which tests.

use crate::contract_table::{Contract, check_table};
use crate::sink::{SINKS, alert, db, exec, file, http, log, notification, relay, time_series};

/// What ships to a relay. No player's file names it: the sinks of a proxy are of this kind, or the next.
const RELAY: &str = "relay";
/// What a proxy has in its place for a URL that says so.
const STDOUT: &str = "stdout";

const KINDS: &[(&str, Contract)] = &[
    (RELAY, Contract::Tests(&[relay::contract::a_bucket_gets_everything_once])),
    (
        STDOUT,
        Contract::Exempt(
            "a look at what would be sent; a test cannot read its own standard output",
        ),
    ),
    (
        "http",
        Contract::Tests(&[
            http::contract::a_host_gets_everything_in_order,
            http::contract::a_host_gets_everything_of_many_at_a_time,
        ]),
    ),
    ("db", Contract::Tests(&[db::tests::db_keeps_the_contract_of_sinks])),
    (
        "time_series",
        Contract::Tests(&[time_series::tests::time_series_keeps_the_contract_of_sinks]),
    ),
    ("alert", Contract::Tests(&[alert::tests::alert_keeps_the_contract_of_sinks])),
    (
        "file",
        Contract::Tests(&[
            file::tests::one_file_keeps_the_contract,
            file::tests::small_compressed_files_keep_the_contract,
            file::tests::a_file_for_each_path_keeps_the_contract,
            file::tests::an_archive_keeps_the_contract,
        ]),
    ),
    ("exec", Contract::Tests(&[exec::tests::a_program_keeps_the_contract])),
    (
        "log",
        Contract::Tests(&[
            log::contract::a_file_of_its_own_keeps_the_contract,
            log::contract::the_log_of_the_program_keeps_the_contract,
        ]),
    ),
    ("notification", Contract::Tests(&[notification::contract::a_service_is_told_everything])),
];

#[test]
fn every_sink_is_held_to_the_contract_or_says_why_not() {
    let of_a_player = SINKS.iter().map(|kind| kind.name);
    let kinds: Vec<&str> = of_a_player.chain([RELAY, STDOUT]).collect();
    check_table(&kinds, KINDS);
}
