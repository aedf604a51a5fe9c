//! `notify test`: one notification to every service of a player's or a relay's file, past all queues.

use std::path::Path;

use rf_agent::player;
use rf_core::config::{Document, Problems, load};
use rf_notify::{Message, Sent, Target};
use rf_relay::config as relay;
use tokio::time::Instant;

use super::{complain, fail, print};
use crate::cli::{NotifyAction, NotifyTestArgs, Role};
use crate::config_file::{environment, owner};
use crate::running::{Exit, run_once};

/// What the services of a relay go by, which has no sinks.
const ALERTS: &str = "alerts";

pub(super) fn run(action: &NotifyAction) -> Exit {
    let NotifyAction::Test(args) = action;
    let sinks = match targets(&args.config, args) {
        Ok(sinks) => sinks,
        Err(reason) => {
            complain(&reason);
            return Exit::Config;
        }
    };
    let mut failed = 0;
    let sent = run_once(async {
        for (sink, targets) in &sinks {
            for target in targets {
                failed += usize::from(!test(sink, target).await);
            }
        }
        Ok(())
    });
    match sent {
        Ok(()) if failed == 0 => Exit::Ok,
        Ok(()) => Exit::Failed,
        Err(error) => fail(&error),
    }
}

/// The services to try, or what is wrong with the file.
fn targets(path: &Path, args: &NotifyTestArgs) -> Result<Vec<(String, Vec<Target>)>, String> {
    let mut problems = Problems::new();
    let document = load(path, &environment, &mut problems);
    let owner = document.as_ref().and_then(owner);
    if owner == Some(Role::Proxy) {
        let path = path.display();
        return Err(format!(
            "{path}: this looks like a proxy's file, which sends no notifications: expected that of a player or a relay"
        ));
    }
    let of = |document: &Document| match owner {
        Some(Role::Relay) => services_of_relay(document, &mut problems),
        _ => player::notification_targets(document, &mut problems),
    };
    let mut sinks = document.as_ref().map(of).unwrap_or_default();
    if problems.has_errors() {
        return Err(problems.to_string());
    }
    let known: Vec<String> = sinks.iter().map(|(name, _)| name.clone()).collect();
    if let Some(wanted) = &args.sink {
        sinks.retain(|(name, _)| name == wanted);
    }
    if !sinks.is_empty() {
        return Ok(sinks);
    }
    let path = path.display();
    Err(match &args.sink {
        Some(wanted) if !known.is_empty() => {
            format!(
                "{path}: no sink of type notification is named `{wanted}`; known: {}",
                known.join(", ")
            )
        }
        _ if owner == Some(Role::Relay) => format!("{path}: alerts.notify names no service"),
        _ => format!("{path}: there is no sink of type notification"),
    })
}

fn services_of_relay(document: &Document, problems: &mut Problems) -> Vec<(String, Vec<Target>)> {
    let services = relay::notification_targets(document, problems);
    if services.is_empty() { Vec::new() } else { vec![(ALERTS.to_owned(), services)] }
}

/// Sends one, and tells at once what came back: the next service may take its time.
async fn test(sink: &str, target: &Target) -> bool {
    let message = Message {
        subject: "ReplayForge test".to_owned(),
        text: format!("A test of {sink}: notifications arrive here."),
    };
    let id = format!("test-{}", uuid::Uuid::now_v7());
    let begun = Instant::now();
    let outcome = target.send(&message, &id).await;
    let millis = begun.elapsed().as_millis();
    let name = target.name();
    let line = match &outcome {
        Ok(Sent { answer, missed: None }) => format!("{sink}/{name}: {answer} ({millis} ms)\n"),
        Ok(Sent { answer, missed: Some(missed) }) => {
            format!("{sink}/{name}: {answer}, but not to {missed} ({millis} ms)\n")
        }
        Err(error) => format!("{sink}/{name}: not sent: {error} ({millis} ms)\n"),
    };
    let reached_all = outcome.is_ok_and(|sent| sent.missed.is_none());
    print(line.as_bytes()) == Exit::Ok && reached_all
}
