//! `proxy`, `relay`, `player`: read the file, set up logging, run until the stop.

use std::time::Duration;

use anyhow::Context;
use rf_agent::agent::{Agent, Plan};
use rf_relay::config::RelayConfig;
use rf_relay::run::Listeners;
use tokio_util::sync::CancellationToken;

use super::{complain, told};
use crate::cli::{Role, RoleArgs};
use crate::config_file::{self, Checked, environment};
use crate::logging::settings::{LEVEL_VARIABLES, PROXY_LEVEL_VARIABLES, Settings};
use crate::logging::{self, Logging};
use crate::running::{Control, Exit, prepare_process, run_logging_role};

pub(super) fn run(role: Role, args: &RoleArgs, port: Option<u16>) -> Exit {
    let outcome = config_file::read_on(&args.config, Some(role), port);
    let Some(checked) = outcome.checked else {
        complain(&outcome.problems.to_string());
        return Exit::Config;
    };
    let variables = if role == Role::Proxy { PROXY_LEVEL_VARIABLES } else { LEVEL_VARIABLES };
    let flag = args.verbosity.clone();
    let environment = |name: &str| {
        flag.clone().filter(|_| variables.contains(&name)).or_else(|| environment(name))
    };
    let settings = Settings::read(environment, variables, outcome.verbosity.as_deref());
    let Logging { recent, level } = match logging::init(&settings) {
        Ok(logging) => logging,
        Err(error) => {
            complain(&format!("logging cannot be set up: {error}"));
            return Exit::Failed;
        }
    };
    for problem in outcome.problems.warnings() {
        tracing::warn!("{problem}");
    }
    prepare_process();
    let grace = args.grace;
    let ended = match checked {
        Checked::Agent(mut plan) => {
            plan.stats.logs = recent;
            run_logging_role(level, |control| run_agent(*plan, control, grace))
        }
        Checked::Relay(mut config) => {
            config.server.drain = config.server.drain.min(grace);
            run_logging_role(level, |control| run_relay(*config, control.stop))
        }
    };
    match ended {
        Ok(()) => {
            tracing::info!("stopped");
            Exit::Ok
        }
        Err(error) => {
            tracing::error!("{}", told(&error));
            Exit::Failed
        }
    }
}

async fn run_agent(plan: Plan, control: Control, grace: Duration) -> anyhow::Result<()> {
    let role = plan.stats.role.as_str();
    let agent = Agent::start(plan).await?;
    tracing::info!(role, version = env!("CARGO_PKG_VERSION"), "started");
    agent.run(control.stop, control.reload, grace).await.context("the agent ended")
}

async fn run_relay(config: RelayConfig, stop: CancellationToken) -> anyhow::Result<()> {
    let listeners = Listeners::bind(&config)?;
    rf_relay::run::run(config, listeners, stop).await.context("the relay ended")
}
