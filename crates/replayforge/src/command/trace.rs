//! `trace`: one event's way, from what each program remembers and what lies in its store.

mod text;

use std::path::{Path, PathBuf};

use anyhow::Context;
use rf_core::config::Secret;
use rf_core::trace::TraceReport;
use serde_json::json;
use uuid::Uuid;

use super::status_port::{StatusPort, TOKEN_VARIABLE, token};
use super::{complain, fail, no_store, print, told};
use crate::cli::TraceArgs;
use crate::config_file::{self, Checked};
use crate::running::{Exit, run_once};

/// Asked when no program is named.
const DEFAULT_RELAY: &str = "http://127.0.0.1:8090";

pub(super) fn run(args: &TraceArgs) -> Exit {
    let programs = match programs(args) {
        Ok(programs) => programs,
        Err(exit) => return exit,
    };
    let mut is_known = false;
    let asked = run_once(async {
        let mut reports = Vec::new();
        for program in &programs {
            match program.ask(args.id).await {
                Ok(report) => reports.push((program.name.clone(), report)),
                Err(error) => complain(&program.failed(&error)),
            }
        }
        is_known = reports.iter().any(|(_, report)| report.is_known());
        if args.json {
            print(format!("{}\n", as_json(args.id, &reports)).as_bytes());
        } else if is_known {
            print(text::way(args.id, &reports).as_bytes());
        }
        if !is_known {
            complain(&text::unknown(args.id, &reports));
        }
        Ok(())
    });
    match asked {
        Ok(()) if is_known => Exit::Ok,
        Ok(()) => Exit::Failed,
        Err(error) => fail(&error),
    }
}

fn as_json(id: Uuid, reports: &[(String, TraceReport)]) -> String {
    let program =
        |(name, report): &(String, TraceReport)| json!({"program": name, "report": report});
    let captured_at_ms = text::captured_at_us(id).map(|at_us| at_us / 1000);
    let programs: Vec<_> = reports.iter().map(program).collect();
    format!(
        "{:#}",
        json!({"id": id.to_string(), "capturedAtMs": captured_at_ms, "programs": programs})
    )
}

/// Somebody who may know the event.
struct Program {
    /// The URL or file that names it.
    name: String,
    port: Option<StatusPort>,
    /// Where its events lie, if that can be looked at without it.
    store: Option<PathBuf>,
}

impl Program {
    async fn ask(&self, id: Uuid) -> anyhow::Result<TraceReport> {
        let answer = match &self.port {
            Some(port) => ask_port(port, id).await,
            None => Err(anyhow::anyhow!("the file has no status port (portStatusZ)")),
        };
        let (Err(error), Some(store)) = (&answer, &self.store) else { return answer };
        complain(&format!("{}: {}; only its store was looked at", self.name, told(error)));
        let path = store.clone();
        let looking =
            tokio::task::spawn_blocking(move || rf_agent::trace::report_of_store(&path, id));
        looking.await?.with_context(|| no_store(store))
    }

    /// What to say of it, with its name once.
    fn failed(&self, error: &anyhow::Error) -> String {
        let told = told(error);
        if told.starts_with(&self.name) { told } else { format!("{}: {told}", self.name) }
    }
}

async fn ask_port(port: &StatusPort, id: Uuid) -> anyhow::Result<TraceReport> {
    let body = port.get(&format!("/trace/{id}")).await?;
    serde_json::from_slice(&body).map_err(|_other| match body.trim_ascii() {
        // Whatever it does not know, an older program answers with `ok`.
        b"ok" => anyhow::anyhow!("the program is too old to be asked: update it"),
        _ => anyhow::anyhow!("it answers, but not as a status port (portStatusZ)"),
    })
}

fn programs(args: &TraceArgs) -> Result<Vec<Program>, Exit> {
    let token = token(TOKEN_VARIABLE, args.token_file.as_ref()).map_err(|error| fail(&error))?;
    let mut programs = Vec::new();
    for file in &args.config {
        programs.push(of_file(file)?);
    }
    let is_alone = programs.is_empty() && args.proxy.is_empty() && args.player.is_empty();
    let default = Some(DEFAULT_RELAY.to_owned()).filter(|_| is_alone && args.relay.is_empty());
    let relays = args.relay.iter().chain(&default).map(|url| (url, token.as_deref()));
    // The relay's token is nobody else's business.
    let agents = args.proxy.iter().chain(&args.player).map(|url| (url, None));
    for (url, token) in relays.chain(agents) {
        let port = StatusPort::new(url, token).map_err(|error| fail(&error))?;
        programs.push(Program { name: url.clone(), port: Some(port), store: None });
    }
    Ok(programs)
}

fn of_file(file: &Path) -> Result<Program, Exit> {
    let outcome = config_file::read(file, None);
    let Some(checked) = outcome.checked else {
        complain(&outcome.problems.to_string());
        return Err(Exit::Config);
    };
    let (address, token, store) = match &checked {
        Checked::Agent(plan) => (plan.stats.status(), None, Some(plan.store.path.clone())),
        Checked::Relay(config) => {
            let status = config.status.as_ref();
            let address = status.map(|status| (status.address.as_str(), status.port));
            (address, config.status_auth.as_ref(), None)
        }
    };
    let port = address.map(|(address, port)| {
        StatusPort::new(&reachable(address, port), token.map(Secret::expose))
    });
    let port = port.transpose().map_err(|error| {
        complain(&format!("{}: {}", file.display(), told(&error)));
        Exit::Failed
    })?;
    Ok(Program { name: file.display().to_string(), port, store })
}

/// The URL of a port that is listened on at `address`, for somebody on the same machine.
fn reachable(address: &str, port: u16) -> String {
    match address {
        "0.0.0.0" => format!("http://127.0.0.1:{port}"),
        "::" | "[::]" => format!("http://[::1]:{port}"),
        v6 if v6.contains(':') && !v6.starts_with('[') => format!("http://[{v6}]:{port}"),
        other => format!("http://{other}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn a_port_is_asked_where_it_can_be_reached() {
        for (address, expected) in [
            ("127.0.0.1", "http://127.0.0.1:1"),
            ("0.0.0.0", "http://127.0.0.1:1"),
            ("::", "http://[::1]:1"),
            ("::1", "http://[::1]:1"),
            ("[fd00::1]", "http://[fd00::1]:1"),
            ("localhost", "http://localhost:1"),
        ] {
            assert_eq!(reachable(address, 1), expected);
        }
    }
}
