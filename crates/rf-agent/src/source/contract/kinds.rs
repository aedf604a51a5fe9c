//! Which kinds of source are held to the contract, by which tests.

use super::tests::http_keeps_the_contract;
use crate::contract_table::{Contract, check_table};
use crate::source::logfile::tests::contract as logfile;
use crate::source::postgres::tests as postgres;
use crate::source::{SOURCES, command, exec, relay, repeatfile, stdin, syslog};

/// The source of a player, which no proxy's file names.
const RELAY: &str = "relay";

const KINDS: &[(&str, Contract)] = &[
    (
        RELAY,
        Contract::Tests(&[
            relay::contract::a_relay_with_leases_keeps_the_contract,
            relay::contract::a_relay_of_the_original_keeps_the_contract,
        ]),
    ),
    ("http", Contract::Tests(&[http_keeps_the_contract])),
    (
        "command",
        Contract::Tests(&[
            command::contract::lines_of_runs_keep_the_contract,
            command::contract::a_stream_keeps_the_contract,
        ]),
    ),
    (
        "pgcall",
        Contract::Exempt(
            "a round asks for what is there now: one that was not stored before a kill cannot be asked again",
        ),
    ),
    (
        "listen",
        Contract::Tests(&[
            postgres::notifications_keep_the_contract,
            postgres::rows_behind_a_cursor_keep_the_contract,
        ]),
    ),
    (
        "exec",
        Contract::Tests(&[
            exec::tests::the_contract_of_sources_holds_with_the_example_in_shell,
            exec::tests::the_contract_of_sources_holds_with_the_example_in_python,
        ]),
    ),
    (
        "logfile",
        Contract::Tests(&[
            logfile::the_contract_holds_for_a_file_that_grows,
            logfile::the_contract_holds_for_lines_that_come_in_pieces,
            logfile::the_contract_holds_for_renames,
            logfile::the_contract_holds_for_copies,
            logfile::the_contract_holds_for_compression,
        ]),
    ),
    ("repeatfile", Contract::Tests(&[repeatfile::tests::the_contract_of_sources_holds])),
    ("stdin", Contract::Tests(&[stdin::contract::a_pipe_keeps_the_contract])),
    ("syslog", Contract::Tests(&[syslog::contract::a_connection_keeps_the_contract])),
    (
        "system-stats",
        Contract::Exempt(
            "a sample is of the moment in which it is taken: one that was not stored is nowhere else",
        ),
    ),
];

#[test]
fn every_source_is_held_to_the_contract_or_says_why_not() {
    let of_a_proxy = SOURCES.iter().map(|kind| kind.name);
    let kinds: Vec<&str> = of_a_proxy.chain([RELAY]).collect();
    check_table(&kinds, KINDS);
}
