//! Each sink that writes a file has one of its own.
//!
//! Two on one file would hold each other back for ever. A database may be shared, and is a file.

use std::path::Path;

use rf_core::config::{Node, Problems};

use crate::agent::PlannedSink;
use crate::settings::{at, plain};
use crate::sink::template::plain_name;

/// Keys of `params` that name a file.
const KEYS: [&str; 3] = ["database", "path", "logFilePath"];

/// Reports sinks with the file of another one, with the player's own `store`, or with a folder. The nodes are the sinks' in
/// the file.
pub(super) fn check(
    store: &Path,
    sinks: &[Option<PlannedSink>],
    nodes: &[Node<'_>],
    problems: &mut Problems,
) {
    let mut known = vec![(plain(store), None)];
    let mut lists: Vec<(String, &str)> = Vec::new();
    for (planned, node) in sinks.iter().zip(nodes) {
        let Some((sink, path)) = planned.as_ref().and_then(|sink| Some((sink, sink.sink.file()?)))
        else {
            continue;
        };
        let database = at(node, "params").get("database");
        if let Some(database) = database.filter(|it| it.as_str().is_some_and(is_in_memory)) {
            problems.error(
                &database,
                "a database in memory is not supported: expected a file, which may lie in memory itself, such as \
                 \"/dev/shm/NAME.sqlite3\"",
            );
            continue;
        }
        let params = at(node, "params");
        let named = KEYS.iter().find_map(|key| params.get(key)).unwrap_or(params);
        if path.is_dir() {
            problems.error(&named, format!("sink `{}`: expected a file, found a folder", sink.id));
            continue;
        }
        if params.get("database").is_none() {
            let (name, list) = (sink.id.as_str(), plain_name(&sink.id));
            if let Some((_, other)) = lists.iter().find(|(other, _)| *other == list) {
                problems.error(
                    &at(node, "name"),
                    format!("sinks `{other}` and `{name}` would both keep file-{list}.lock: give them names that differ in more than this"),
                );
            }
            lists.push((list, name));
        }
        let path = plain(&path);
        if let Some((_, other)) = known.iter().find(|(other, _)| *other == path) {
            let name = &sink.id;
            match other {
                None => {
                    let message = format!("sink `{name}` would write into the player's own queue");
                    problems.error(&named, message);
                }
                // As in files of the original: their tables are the same ones, and each counts its events by itself.
                Some(_) if params.get("database").is_some() => {}
                Some(other) => problems.error(
                    &named,
                    format!("sinks `{other}` and `{name}` would write one file: give each a file of its own"),
                ),
            }
        }
        known.push((path, Some(sink.id.as_str())));
    }
}

/// Whether SQLite would make no file of this name.
fn is_in_memory(database: &str) -> bool {
    database == ":memory:" || database.starts_with("file::memory:")
}

#[cfg(test)]
mod tests {
    use rf_core::config::parse;

    use super::*;

    /// Checks a player with these sinks, of which each is a name, a type and its `params`, and gives its errors.
    fn check(folder: &Path, sinks: &[(&str, &str, &str)], expected: &[&str]) {
        let sinks: Vec<String> = sinks
            .iter()
            .map(|(name, kind, params)| {
                format!("{{ name: \"{name}\", type: \"{kind}\", params: {{ {params} }} }}")
            })
            .collect();
        let source = r#"{ name: "x", relayAuthenticationBearer: "t", sinks: ["a"] }"#;
        let text = format!(
            "{{ relayUrl: \"http://127.0.0.1:1/\", dataDir: \"{}\", sources: [{source}], sinks: [{}] }}",
            folder.display(),
            sinks.join(", ")
        );
        let mut problems = Problems::new();
        let document = parse("player.json", &text, &|_| None, &mut problems).unwrap();
        let plan = crate::player::check(&document, &mut problems);
        let told: Vec<String> = problems
            .errors()
            .map(|problem| format!("{}: {}", problem.key, problem.message))
            .collect();
        assert_eq!(told.len(), expected.len(), "{text}: {told:#?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{text}: {told}");
        }
        assert_eq!(plan.is_none(), problems.error_count() > 0, "{text}");
    }

    #[test]
    fn each_sink_has_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let db = |database: &str| format!("database: \"{database}\"");
        let (one, other) = (db("d.sqlite3"), db("e.sqlite3"));
        check(folder, &[("a", "db", &one), ("b", "alert", &other)], &[]);
        check(folder, &[("a", "db", &one), ("b", "alert", &one)], &[]);
        let own = ["sinks[0].params.database: sink `a` would write into the player's own queue"];
        check(folder, &[("a", "db", &db("player.sqlite3"))], &own);
    }

    #[test]
    fn a_database_in_memory_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = ["sinks[0].params.database: a database in memory is not supported"];
        for kind in ["db", "time_series", "alert"] {
            for database in [":memory:", "file::memory:?cache=shared"] {
                let params = format!("database: \"{database}\"");
                check(folder.path(), &[("a", kind, &params)], &refused);
            }
        }
        check(folder.path(), &[("a", "db", "database: \"memory\"")], &[]);
    }

    #[test]
    fn a_folder_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::create_dir(folder.join("sub")).unwrap();
        let expected = ["sinks[0].params.database: sink `a`: expected a file, found a folder"];
        for kind in ["db", "time_series", "alert"] {
            check(folder, &[("a", kind, "database: \"sub\"")], &expected);
        }
    }

    #[test]
    fn paths_of_files_are_compared_as_they_stand_there() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let file = |path: &str| format!("path: \"{path}\"");
        let log = "logFilePath: \"in/e.log\"";
        check(folder, &[("a", "file", &file("in/e.log")), ("b", "file", &file("in/%Y.log"))], &[]);
        check(folder, &[("a", "log", ""), ("b", "log", "")], &[]);
        let both = "sinks[1].params.path: sinks `a` and `b` would write one file";
        for (one, same) in [("in/e.log", "./in//e.log"), ("in/%Y/{path}.log", "in/%Y/{path}.log")] {
            check(folder, &[("a", "file", &file(one)), ("b", "file", &file(same))], &[both]);
        }
        let logged = "sinks[1].params.logFilePath: sinks `a` and `b` would write one file";
        check(folder, &[("a", "file", &file("in/e.log")), ("b", "log", log)], &[logged]);
    }

    /// Beside its files a sink keeps two under its own name, as far as that can name a file.
    #[test]
    fn names_of_sinks_with_files_differ_as_those_of_files_do() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = ("path: \"one.log\"", "path: \"other.log\"");
        let logged = "logFilePath: \"other.log\"";
        let both = ["sinks[1].name: sinks `a b` and `a_b` would both keep file-a_b.lock"];
        check(
            folder.path(),
            &[("a b", "file", one), ("a_b", "file", other), ("a", "log", "")],
            &both,
        );
        check(
            folder.path(),
            &[("a b", "file", one), ("a_b", "log", logged), ("a", "log", "")],
            &both,
        );
        let db = "database: \"d.sqlite3\"";
        check(folder.path(), &[("a b", "file", one), ("a_b", "db", db), ("a", "log", "")], &[]);
    }

    #[test]
    fn a_link_leads_to_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::create_dir(folder.join("real")).unwrap();
        std::os::unix::fs::symlink("real", folder.join("link")).unwrap();
        for (one, other) in [("real/d", "link/d"), ("link/../d", "d"), ("real/new/d", "link/new/d")]
        {
            assert_eq!(plain(&folder.join(one)), plain(&folder.join(other)), "{one} {other}");
        }
        assert_ne!(plain(&folder.join("real/d")), plain(&folder.join("d")));
    }
}
