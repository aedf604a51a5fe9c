//! From a path to a checked plan, with every problem told at once.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use rf_agent::agent::Plan;
use rf_agent::{player, proxy};
use rf_core::config::{Document, Node, Problems, load, nearest, parse, schema_of};
use rf_relay::config::{RelayConfig, RelayConfigFile};
use serde_json::Value;

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
    let document = load(path, &environment, &mut problems);
    outcome(document, problems, role, port)
}

/// The same of a role's text that is not written yet; problems name it as this file.
pub fn read_text(name: &str, text: &str, role: Role) -> Outcome {
    let mut problems = Problems::new();
    let document = parse(name, text, &environment, &mut problems);
    outcome(document, problems, Some(role), None)
}

fn outcome(
    document: Option<Document>,
    mut problems: Problems,
    role: Option<Role>,
    port: Option<u16>,
) -> Outcome {
    let Some(document) = document else {
        return Outcome { checked: None, problems, verbosity: None };
    };
    let verbosity = verbosity(&document, &mut problems);
    let is_guess = role.is_none() && owner(&document).is_none();
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
        Role::Relay => RelayConfig::check(document.root(), port, &mut problems)
            .map(|config| Checked::Relay(Box::new(config))),
    };
    let checked = checked.filter(|_| !problems.has_errors());
    if is_guess && !problems.is_ok() {
        let text = format!(
            "checked as a {}'s file, which it looks most like; use --role if it is another's",
            name(role)
        );
        problems.warn(&document.root(), text);
    }
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
    owner(document).filter(|_| !has_keys_of(role, &document.root()))
}

/// The role that some of the file's keys belong to.
pub fn owner(document: &Document) -> Option<Role> {
    let root = document.root();
    [Role::Relay, Role::Player, Role::Proxy].into_iter().find(|role| has_keys_of(*role, &root))
}

/// Whether the file has what only this role has.
fn has_keys_of(role: Role, root: &Node<'_>) -> bool {
    let has = |list: &str, key: &str| {
        let items = root.get(list).map(|node| node.items()).unwrap_or_default();
        items.iter().any(|item| item.get(key).is_some())
    };
    match role {
        Role::Relay => root.get("buckets").is_some(),
        Role::Player => {
            root.get("relayUrl").is_some() || has("sources", "relayAuthenticationBearer")
        }
        Role::Proxy => has("sources", "id") || has("sources", "type") || has("sinks", "url"),
    }
}

/// As it is started.
fn name(role: Role) -> String {
    role.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Each role has keys that the others lack. Where they are missing, it is the one that knows most of the file's keys.
fn guess_role(document: &Document) -> Role {
    owner(document).unwrap_or_else(|| {
        let rated = [Role::Proxy, Role::Player, Role::Relay]
            .map(|role| (likeness(role, &document.root()), role));
        // Of equals the first.
        let best = rated.into_iter().reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map_or(Role::Proxy, |(_, role)| role)
    })
}

/// How many of the file's keys the role knows, twice; a key that is only like a known one counts once.
fn likeness(role: Role, root: &Node<'_>) -> usize {
    let schema = schema(role);
    let known: Vec<&str> = schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(|properties| properties.keys().map(String::as_str))
        .collect();
    let rate = |key: &str| {
        if known.iter().any(|name| name.eq_ignore_ascii_case(key)) {
            2
        } else {
            usize::from(nearest(key, known.iter().copied()).is_some())
        }
    };
    root.entries().iter().map(|(key, _)| rate(key)).sum()
}

/// What a role's file may hold, as a JSON Schema.
pub fn schema(role: Role) -> Value {
    let schema = match role {
        Role::Proxy => proxy::schema(),
        Role::Player => player::schema(),
        Role::Relay => schema_of::<RelayConfigFile>(),
    };
    schema.to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_guessed_by_what_is_like_its_keys() {
        let check = |text: &str, expected: Role| {
            let mut problems = Problems::new();
            let document = parse("file", text, &|_| None, &mut problems).expect("JSON5");
            assert_eq!(guess_role(&document), expected, "{text}");
        };
        check("{ buckets: {} }", Role::Relay);
        check("{ port: 8081, bucket: { shop: { auth: 't' } } }", Role::Relay);
        check("{ port: 8081 }", Role::Relay);
        check("{ relayUri: 'http://a', sources: [{ name: 'b' }], sinks: [] }", Role::Player);
        check("{ sources: [{ name: 'b', relayAuthenticationBearer: 't' }] }", Role::Player);
        check("{ exposedPort: 1, sources: [] }", Role::Player);
        check("{ sources: [{ id: 'a' }], sinks: [{ url: 'x' }] }", Role::Proxy);
        check("{ sources: [], sinks: [] }", Role::Proxy);
        check("{}", Role::Proxy);
    }

    #[test]
    fn a_guess_is_told_with_what_is_wrong() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("relay.json");
        let told = |text: &str, role: Option<Role>| {
            std::fs::write(&file, text).expect("written");
            read(&file, role).problems.to_string()
        };
        let slip = "{ port: 8081, bucket: { shop: { auth: 't' } } }";
        let guess =
            "checked as a relay's file, which it looks most like; use --role if it is another's";
        let problems = told(slip, None);
        assert!(
            problems.contains("did you mean `buckets`?") && problems.contains(guess),
            "{problems}"
        );
        assert!(!told(slip, Some(Role::Relay)).contains("--role"));
        assert_eq!(
            told("{ port: 8081, buckets: { shop: { auth: 'choose-a-long-random-text' } } }", None),
            ""
        );
    }
}
