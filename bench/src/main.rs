//! The tools behind `bench/run`: the bare counterparts that our roles are measured against, the drivers that wrk
//! cannot be, and the report that turns their results into a table.
//!
//! Every subcommand prints one line of JSON with its figures; the script appends them to a file, and `report` reads
//! that file. A subcommand fails when something went wrong on the way, so that a figure is never the figure of half
//! a run. It must not know the code that it measures: it speaks HTTP and SQL as a stranger would, hence no crate of ours
//! among its dependencies.
//!
//! Reading order: [`bare_server`] and [`open_loop`] for the capture, [`sample`], [`relay_load`] and [`relay_drain`]
//! beside [`bare_insert`] and [`bare_drain`] for the relay, [`bare_lua`] for scripts, [`sink_sample`], [`sink_drain`],
//! [`bare_rows`], [`bare_file`] and [`memory`] for the sinks, [`fleet`] and [`flood`] for the status, [`rows`] for the
//! goals, [`report`] for the table.

mod await_count;
mod bare_db;
mod bare_drain;
mod bare_file;
mod bare_insert;
mod bare_lua;
mod bare_rows;
mod bare_server;
mod bare_tail;
mod body;
mod client;
mod fleet;
mod flood;
mod free_ports;
mod idle_latency;
mod log_lines;
mod memory;
mod open_loop;
mod out;
mod query_latency;
mod relay_drain;
mod relay_load;
mod report;
mod rows;
mod sample;
mod sink_drain;
mod sink_load;
mod sink_sample;
mod startup;
mod stats;
mod tail_drain;
mod tail_pipe;

use clap::{Parser, Subcommand};

/// Bare counterparts and drivers for `bench/run`. Each prints its figures as one line of JSON.
#[derive(Debug, Parser)]
#[command(name = "rf-bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    AwaitCount(await_count::Args),
    AwaitQueue(tail_drain::AwaitArgs),
    BareDrain(bare_drain::Args),
    BareFile(bare_file::Args),
    BareInsert(bare_insert::Args),
    BareLua(bare_lua::Args),
    BareRows(bare_rows::Args),
    BareServer(bare_server::Args),
    BareTail(bare_tail::Args),
    Fleet(fleet::Args),
    Flood(flood::Args),
    FreePorts(free_ports::Args),
    IdleLatency(idle_latency::Args),
    LogWrite(log_lines::Args),
    OpenLoop(open_loop::Args),
    QueryLatency(query_latency::Args),
    RelayDrain(relay_drain::Args),
    RelayLoad(relay_load::Args),
    Report(report::Args),
    SinkDrain(sink_drain::Args),
    SinkLoad(sink_load::Args),
    Startup(startup::Args),
    TailDrain(tail_drain::Args),
    TailPipe(tail_pipe::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::AwaitCount(args) => await_count::run(args).await,
        Command::AwaitQueue(args) => tail_drain::wait(args).await,
        Command::BareDrain(args) => bare_drain::run(&args),
        Command::BareFile(args) => bare_file::run(&args),
        Command::BareInsert(args) => bare_insert::run(&args),
        Command::BareLua(args) => bare_lua::run(&args),
        Command::BareRows(args) => bare_rows::run(&args),
        Command::BareServer(args) => bare_server::run(args).await,
        Command::BareTail(args) => bare_tail::run(&args),
        Command::Fleet(args) => fleet::run(args).await,
        Command::Flood(args) => flood::run(args).await,
        Command::FreePorts(args) => free_ports::run(&args),
        Command::IdleLatency(args) => idle_latency::run(args).await,
        Command::LogWrite(args) => log_lines::run(args).await,
        Command::OpenLoop(args) => open_loop::run(args).await,
        Command::QueryLatency(args) => query_latency::run(args).await,
        Command::RelayDrain(args) => relay_drain::run(args).await,
        Command::RelayLoad(args) => relay_load::run(args).await,
        Command::Report(args) => report::run(&args),
        Command::SinkDrain(args) => sink_drain::run(args).await,
        Command::SinkLoad(args) => sink_load::run(args).await,
        Command::Startup(args) => startup::run(args).await,
        Command::TailDrain(args) => tail_drain::run(args).await,
        Command::TailPipe(args) => tail_pipe::run(args).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Result<(), clap::error::ErrorKind>) {
        let found = Cli::try_parse_from(line.split(' ')).map(drop).map_err(|error| error.kind());
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn the_command_lines_of_the_script_are_understood() {
        use clap::error::ErrorKind;
        check(
            "rf-bench open-loop --rate 5000 --connections 64 --seconds 8 http://127.0.0.1:1",
            Ok(()),
        );
        check("rf-bench open-loop --rate 0 http://127.0.0.1:1", Err(ErrorKind::ValueValidation));
        check(
            "rf-bench await-count http://127.0.0.1:1 --accepted 9 --by keys --since-ms 1",
            Ok(()),
        );
        check("rf-bench sink-drain --queue q --db d --kind rows --batches 9", Ok(()));
        check("rf-bench sink-drain --queue q --file f --kind rows --batches 9", Ok(()));
        check(
            "rf-bench sink-drain --queue q --kind rows --batches 9",
            Err(ErrorKind::MissingRequiredArgument),
        );
        check("rf-bench log-write --file f --lines 5 --line-bytes 240", Ok(()));
        check("rf-bench log-write --file f --lines 5 --rate 0", Err(ErrorKind::ValueValidation));
        check("rf-bench tail-drain --queue q --lines 5 --from f --to g", Ok(()));
        check("rf-bench startup --connect 127.0.0.1:1 -- program -c file", Ok(()));
        check("rf-bench startup --accept 127.0.0.1:1 -- program", Ok(()));
        check("rf-bench startup -- program", Err(ErrorKind::MissingRequiredArgument));
        check(
            "rf-bench startup --connect 127.0.0.1:1 --accept 127.0.0.1:1 -- program",
            Err(ErrorKind::ArgumentConflict),
        );
    }
}
