//! `startup`: how long a program takes from its start until it works.
//!
//! A server works when its port takes a connection (`--connect`); a player, which listens nowhere, when it calls its
//! relay (`--accept`: we are that relay).

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::out;

/// A program that has not come up by then never will.
const GIVE_UP: Duration = Duration::from_secs(10);

/// Pause between two attempts to connect: the least that the timer can do, and the resolution of the figure.
const ATTEMPT: Duration = Duration::from_millis(1);

/// Starts a program, measures until it works, ends it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Works when this address takes a connection
    #[arg(long, required_unless_present = "accept")]
    connect: Option<SocketAddr>,
    /// Works when it connects to this address, where we listen
    #[arg(long, conflicts_with = "connect")]
    accept: Option<SocketAddr>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    program: Vec<String>,
}

/// Measures and prints milliseconds.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let listener = match args.accept {
        Some(address) => Some(TcpListener::bind(address).await?),
        None => None,
    };
    let start = Instant::now();
    let mut child = start_program(&args.program)?;
    let works = async {
        match (args.connect, &listener) {
            (Some(address), _) => connected(address).await,
            (None, Some(listener)) => listener.accept().await.map(drop).context("accept"),
            (None, None) => anyhow::bail!("neither --connect nor --accept"),
        }
    };
    let outcome = tokio::select! {
        outcome = timeout(GIVE_UP, works) => outcome.context("it did not come up")?,
        status = child.wait() => anyhow::bail!("{:?} ended with {} before it worked", args.program, status?),
    };
    let elapsed = start.elapsed();
    child.kill().await?;
    outcome?;
    out::figures(&serde_json::json!({ "startup_ms": out::rounded(elapsed.as_secs_f64() * 1000.0) }))
}

fn start_program(program: &[String]) -> anyhow::Result<Child> {
    let (name, arguments) = program.split_first().context("no program")?;
    Command::new(name)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| name.clone())
}

async fn connected(address: SocketAddr) -> anyhow::Result<()> {
    while TcpStream::connect(address).await.is_err() {
        sleep(ATTEMPT).await;
    }
    Ok(())
}
