//! `demo`: the whole way in one process, to be tried with curl.
//!
//! The three roles are the real ones, started from configuration files like a user's, on loopback, in a temporary folder.

use std::io::{self, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rf_agent::agent::Agent;
use rf_core::lifecycle::Tasks;
use rf_relay::run::Listeners;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::journey::Journeys;
use super::{complain, ended};
use crate::cli::{DemoArgs, Role};
use crate::config_file::{self, Checked};
use crate::logging;
use crate::logging::settings::{LEVEL_VARIABLES, Settings};
use crate::running::{Control, Exit, prepare_process, run_role};

mod journey;
mod target;

/// Ports that are tried first, so that the printed line is the same each time.
const USUAL_PORTS: Ports = Ports { proxy: 8080, relay: 8081, target: 8082 };
/// The token of the demo's bucket; nobody outside this machine can reach it.
const TOKEN: &str = "demo";
const GRACE: Duration = Duration::from_secs(10);

struct Ports {
    proxy: u16,
    relay: u16,
    target: u16,
}

pub(super) fn run(args: &DemoArgs) -> Exit {
    let settings = Settings::read(
        |name| config_file::environment(name).or_else(|| quiet(name)),
        LEVEL_VARIABLES,
        None,
    );
    if let Err(error) = logging::init(&settings) {
        complain(&format!("logging cannot be set up: {error}"));
        return Exit::Failed;
    }
    prepare_process();
    ended(start(args.dir.clone()))
}

/// The demo's own lines are what is to be seen.
fn quiet(name: &str) -> Option<String> {
    LEVEL_VARIABLES.contains(&name).then(|| "warn".to_owned())
}

fn start(dir: Option<PathBuf>) -> anyhow::Result<()> {
    let temporary =
        if dir.is_none() { Some(tempfile::tempdir().context("temporary folder")?) } else { None };
    let folder =
        dir.or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned())).unwrap_or_default();
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let ports = Ports {
        proxy: free_port(USUAL_PORTS.proxy)?,
        relay: free_port(USUAL_PORTS.relay)?,
        target: free_port(USUAL_PORTS.target)?,
    };
    run_role(|control| demo(folder, ports, control))
}

/// The usual port, or any other when it is taken.
fn free_port(usual: u16) -> anyhow::Result<u16> {
    let found = TcpListener::bind(("127.0.0.1", usual))
        .or_else(|_taken| TcpListener::bind(("127.0.0.1", 0)));
    Ok(found.context("no free port on 127.0.0.1")?.local_addr()?.port())
}

async fn demo(folder: PathBuf, ports: Ports, control: Control) -> anyhow::Result<()> {
    let journeys = Arc::new(Journeys::default());
    let tasks = Tasks::new(control.stop.child_token());

    let files =
        [relay_file(&folder, &ports), player_file(&folder, &ports), proxy_file(&folder, &ports)];
    let [relay, player, proxy] = &files;
    let Checked::Relay(relay) = checked(&folder, "relay", Role::Relay, relay)? else {
        anyhow::bail!("no relay")
    };
    let listeners = Listeners::bind(&relay)?;
    let listener = rf_net::listen::listen("127.0.0.1", ports.target)?;
    let mut player = agent(&folder, "player", Role::Player, player).await?;
    let mut proxy = agent(&folder, "proxy", Role::Proxy, proxy).await?;
    // Not before the stores are ours: the files may be those of a demo that runs.
    for (name, file) in ["relay", "player", "proxy"].into_iter().zip(&files) {
        let path = path_of(&folder, name);
        std::fs::write(&path, format!("{file:#}")).with_context(|| path.display().to_string())?;
    }
    let seen = Arc::clone(&journeys);
    proxy.observe(Arc::new(move |_, event| seen.relayed(event)));
    let seen = Arc::clone(&journeys);
    player.observe(Arc::new(move |_, event| say(&seen.replayed(event))));

    // Stopped one after the other, along the way of the events, so that what is captured still arrives.
    let (player_stop, relay_stop, target_stop) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    tasks.spawn("target", target::run(listener, target_stop.clone()));
    let running = relay_stop.clone();
    tasks.spawn("relay", async move { rf_relay::run::run(*relay, listeners, running).await });
    let (running, reload) = (player_stop.clone(), control.reload.clone());
    tasks.spawn("player", async move { player.run(running, reload, GRACE).await });

    say(&welcome(&folder, &ports));
    let ended = proxy.run(tasks.stop_token().clone(), control.reload, GRACE).await;
    journeys.settle().await;
    for next in [player_stop, relay_stop, target_stop] {
        next.cancel();
    }
    tasks.stop_token().cancel();
    let joined = tasks.join(GRACE).await;
    say(&journeys.summary());
    ended?;
    Ok(joined?)
}

fn path_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.json"))
}

/// Reads what is to be in a file, as a role does.
fn checked(folder: &Path, name: &str, role: Role, file: &Value) -> anyhow::Result<Checked> {
    let path = path_of(folder, name).display().to_string();
    let outcome = config_file::read_text(&path, &format!("{file:#}"), role);
    outcome.checked.ok_or_else(|| anyhow::anyhow!("{}", outcome.problems))
}

async fn agent(folder: &Path, name: &str, role: Role, file: &Value) -> anyhow::Result<Agent> {
    let Checked::Agent(plan) = checked(folder, name, role, file)? else {
        anyhow::bail!("{name} is not an agent")
    };
    Ok(Agent::start(*plan).await?)
}

fn relay_file(folder: &Path, ports: &Ports) -> Value {
    json!({
        "port": ports.relay,
        "listenAddress": "127.0.0.1",
        "dataDir": folder.join("relay"),
        "buckets": { "demo": { "auth": TOKEN, "dbMaxSizeKb": 10240 } },
    })
}

fn proxy_file(folder: &Path, ports: &Ports) -> Value {
    json!({
        "dataDir": folder.join("proxy"),
        "sources": [{ "id": "requests", "type": "http", "params": { "listenPort": ports.proxy, "listenAddress": "127.0.0.1" }, "targetSink": "relay" }],
        "sinks": [{ "id": "relay", "type": "http", "url": format!("http://127.0.0.1:{}/", ports.relay), "authBearer": TOKEN, "buckets": ["demo"] }],
    })
}

fn player_file(folder: &Path, ports: &Ports) -> Value {
    json!({
        "relayUrl": format!("http://127.0.0.1:{}/", ports.relay),
        "dataDir": folder.join("player"),
        "sources": [{ "name": "demo", "relayAuthenticationBearer": TOKEN, "sinks": ["target"] }],
        "sinks": [{ "name": "target", "type": "http", "params": { "targetHost": format!("http://127.0.0.1:{}", ports.target) } }],
    })
}

fn welcome(folder: &Path, ports: &Ports) -> String {
    format!(
        "A proxy (port {}), a relay ({}), a player and a small target ({}) are running; their files are in {}\n\n\
         Send a request, here or from another terminal:\n\n    curl -d 'hello' 'http://127.0.0.1:{}/orders?id=1'\n\n\
         Each request shows up below when it has been replayed. Ctrl-C ends the demo.\n",
        ports.proxy,
        ports.relay,
        ports.target,
        folder.display(),
        ports.proxy
    )
}

/// A terminal that has gone must not stop the demo's way down.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}
