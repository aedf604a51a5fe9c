//! `free-ports`: ports for the processes of one benchmark.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context;

use crate::out;

/// Prints ports on loopback that are free now, on one line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many
    #[arg(default_value_t = 1)]
    count: usize,
}

/// Prints them.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // All are held until all are known, so that no port is named twice.
    let held = (0..args.count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<Vec<_>, _>>()
        .context("no free port")?;
    let ports = held.iter().map(|listener| Ok(listener.local_addr()?.port().to_string()));
    out::line(&ports.collect::<anyhow::Result<Vec<_>>>()?.join(" "))
}
