//! From a path to a checked plan, with every problem told at once.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use rf_agent::agent::Plan;
use rf_agent::{player, proxy};
use rf_core::config::{Document, Node, Problems, load};
use rf_relay::config::RelayConfig;

use crate::cli::Role;
use crate::logging::settings::{is_level, level_names};

/// A file that is checked.
pub enum Checked {
    /// Of a proxy or a player.
    Agent(Box<Plan>),
    /// Of a relay.
    Relay(Box<RelayConfig>),
}

/// What reading a file led to.
pub struct Outcome {
    /// `None` when there is an error.
    pub checked: Option<Checked>,
    /// Errors and warnings.
    pub problems: Problems,
    /// The log level that the file names.
    pub verbosity: Option<String>,
}

/// The process's environment, for `$NAME` in files.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads and checks a file; without a role it is told by the file's keys.
pub fn read(path: &Path, role: Option<Role>) -> Outcome {
    read_on(path, role, None)
}

/// The same for a relay that listens on this port, whatever the file says.
pub fn read_on(path: &Path, role: Option<Role>, port: Option<u16>) -> Outcome {
    let mut problems = Problems::new();
    let Some(document) = load(path, &environment, &mut problems) else {
        return Outcome { checked: None, problems, verbosity: None };
    };
    let verbosity = verbosity(&document, &mut problems);
    let role = role.unwrap_or_else(|| guess_role(&document));
    if let Some(other) = owner_instead(role, &document) {
        let name = name(other);
        let text = format!("this looks like a {name}'s file: start it with `replayforge {name}`");
        problems.error(&document.root(), text);
        return Outcome { checked: None, problems, verbosity };
    }
    let checked = match role {
        Role::Proxy => {
            proxy::check(&document, &mut problems).map(|plan| Checked::Agent(Box::new(plan)))
        }
        Role::Player => {
            player::check(&document, &mut problems).map(|plan| Checked::Agent(Box::new(plan)))
        }
        Role::Relay => RelayConfig::check_on(document.root(), port, &mut problems)
            .map(|config| Checked::Relay(Box::new(config))),
    };
    let checked = checked.filter(|_| !problems.has_errors());
    Outcome { checked, problems, verbosity }
}

/// What the file says about the log level; what is none is warned of and passed over.
fn verbosity(document: &Document, problems: &mut Problems) -> Option<String> {
    let node = document.root().get("verbosityLevel")?;
    let told = node.as_str().map_or_else(|| node.shown(), str::to_owned);
    if matches!(told.trim(), "" | "null") {
        return None;
    }
    if is_level(&told) {
        return Some(told);
    }
    let (known, shown) = (level_names(), node.shown());
    problems.warn(&node, format!("expected one of {known}, found {shown}: the default is used"));
    None
}

/// Where the store of a proxy or player with this file lies.
pub fn store_path(path: &Path) -> Result<PathBuf, Problems> {
    let mut problems = Problems::new();
    let found =
        load(path, &environment, &mut problems).and_then(|document| match guess_role(&document) {
            Role::Proxy => proxy::store_path(&document, &mut problems),
            Role::Player => player::store_path(&document, &mut problems),
            Role::Relay => {
                problems.error(
                    &document.root(),
                    "a relay has no dead letters: expected the file of a proxy or player",
                );
                None
            }
        });
    found.filter(|_| !problems.has_errors()).ok_or(problems)
}

/// The role whose file this is, when it is not `role`'s. A file with keys of several, or of none, is whoever's it is read as.
fn owner_instead(role: Role, document: &Document) -> Option<Role> {
    let root = document.root();
    let roles = [Role::Relay, Role::Player, Role::Proxy];
    roles.into_iter().find(|owner| has_keys_of(*owner, &root)).filter(|_| !has_keys_of(role, &root))
}

/// Whether the file has what only this role has.
fn has_keys_of(role: Role, root: &Node<'_>) -> bool {
    let has = |list: &str, key: &str| {
        let items = root.get(list).map(|node| node.items()).unwrap_or_default();
        items.iter().any(|item| item.get(key).is_some())
    };
    match role {
        Role::Relay => root.get("buckets").is_some(),
        Role::Player => root.get("relayUrl").is_some(),
        Role::Proxy => has("sources", "id") || has("sources", "type") || has("sinks", "url"),
    }
}

/// As it is started.
fn name(role: Role) -> String {
    role.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Each role has a key that the others lack.
fn guess_role(document: &Document) -> Role {
    let root = document.root();
    if root.get("buckets").is_some() {
        Role::Relay
    } else if root.get("relayUrl").is_some() {
        Role::Player
    } else {
        Role::Proxy
    }
}
