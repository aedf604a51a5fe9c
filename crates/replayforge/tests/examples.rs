//! The manual and the examples are true: every file that they show passes `check`, every key that they name exists and
//! has that default, every link leads somewhere.
//!
//! Conventions that these tests rely on:
//!
//! - an example's README has a block of commands marked `sh set-up`, after which every file of the example passes;
//! - a block marked `json5` whose first line is `// ROLE.json` is a whole file of that role;
//! - `docs/reference/configuration.md` has a section `## ROLE.json` with a table: key path, type, default;
//! - the keys of a kind's `params` stand in such a table in the section `## Keys` of `docs/sources/KIND.md` or
//!   `docs/sinks/KIND.md`.

#[cfg(test)]
#[path = "it/support/json_schema.rs"]
mod json_schema;
#[cfg(test)]
#[path = "it/support/markdown.rs"]
mod markdown;

#[cfg(test)]
mod examples {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output};

    use rf_core::config::{Problems, parse};
    use serde_json::Value;

    use crate::json_schema::complaints;
    use crate::markdown::blocks;

    const ROLES: [&str; 3] = ["relay", "proxy", "player"];
    const PROGRAM: &str = env!("CARGO_BIN_EXE_replayforge");

    #[test]
    fn every_file_of_an_example_passes_after_its_set_up() {
        let mut checked = BTreeSet::new();
        for readme in markdown(&root().join("examples")) {
            let example = readme.parent().expect("a file lies in a folder");
            let folder = tempfile::tempdir().expect("a temporary folder");
            let set_up = blocks(&read(&readme), "sh set-up").concat();
            for file in ["json", "lua"].into_iter().flat_map(|ending| files(example, ending)) {
                fs::copy(&file, folder.path().join(file_name(&file))).expect("copied");
            }
            // What lies deeper, as a dashboard, is for other programs.
            let own = |file: &PathBuf| file.parent() == Some(example);
            let configs =
                files(example, "json").into_iter().filter(own).map(|file| file_name(&file));
            for name in configs.filter(|name| !name.ends_with(".test.json")) {
                check_example(folder.path(), &set_up, &name);
                checked.insert(name);
            }
        }
        let wanted = ["relay.json", "proxy.json", "player.json"];
        assert!(wanted.iter().all(|name| checked.contains(*name)), "{checked:?}");
    }

    #[test]
    fn the_scripts_of_the_examples_pass_their_tests() {
        check_scripts("examples", 5);
    }

    #[test]
    fn scripts_in_the_manner_of_the_originals_manual_pass_their_tests() {
        check_scripts("crates/replayforge/tests/corpus/manual", 16);
    }

    /// Each script of the folder has tests, and they pass; modules in a `lib` are their scripts' business.
    fn check_scripts(folder: &str, at_least: usize) {
        let folder = root().join(folder);
        let is_module = |script: &PathBuf| script.parent().is_some_and(|at| at.ends_with("lib"));
        let mut scripts = files(&folder, "lua");
        scripts.retain(|script| !is_module(script));
        assert!(scripts.len() >= at_least, "{} scripts", scripts.len());
        for script in &scripts {
            let tests = script.with_extension("test.json");
            assert!(tests.exists(), "{} has no tests", script.display());
        }
        let mut tests = Command::new(PROGRAM);
        tests.args(["script", "test"]).arg(&folder);
        let output = tests.output().expect("the program");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{told}");
        let ran = format!("\n{} test files: ", scripts.len());
        assert!(told.contains(&ran), "{told}");
    }

    fn check_example(folder: &Path, set_up: &str, name: &str) {
        // A stand-in for a target is a proxy that prints.
        let role = ROLES.into_iter().find(|role| name.starts_with(role)).unwrap_or("proxy");
        let script = format!("{set_up}\nexec \"$0\" check -c {name} --role {role}");
        let mut shell = Command::new("sh");
        shell.args(["-euc", &script, PROGRAM]).current_dir(folder).env_clear();
        shell.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        passed(name, &shell.output().expect("a shell"));
    }

    #[test]
    fn every_file_in_the_manual_passes() {
        let mut roles = BTreeSet::new();
        for page in manual() {
            for block in blocks(&read(&page), "json5") {
                let Some(role) = role_of(&block) else { continue };
                check_block(&page, role, &block);
                roles.insert(role);
            }
        }
        assert_eq!(roles, BTreeSet::from(ROLES));
    }

    fn role_of(block: &str) -> Option<&'static str> {
        let title = block.lines().next()?;
        ROLES.into_iter().find(|role| title == format!("// {role}.json"))
    }

    /// Variables get some value, and secret files are looked for in one place.
    fn check_block(page: &Path, role: &str, block: &str) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("token"), "secret").expect("written");
        let mut text = String::new();
        for (index, part) in block.split("$file:").enumerate() {
            let after_path = part.find('"').map_or(part, |quote| part.split_at(quote).1);
            text.push_str(if index == 0 { part } else { "$file:token" });
            text.push_str(if index == 0 { "" } else { after_path });
        }
        fs::write(folder.path().join("file.json"), &text).expect("written");
        let mut check = Command::new(PROGRAM);
        check
            .args(["check", "-c", "file.json", "--role", role])
            .current_dir(folder.path())
            .env_clear();
        check.envs(variables(&text).into_iter().map(|name| (name, "value")));
        passed(
            &format!("{} in {}:\n{text}", role, page.display()),
            &check.output().expect("the program"),
        );
    }

    /// Names in `${NAME}`; one with a default needs no value.
    fn variables(text: &str) -> Vec<&str> {
        let bodies = text.split("${").skip(1).filter_map(|rest| Some(rest.split_once('}')?.0));
        bodies.filter(|body| !body.contains(":-")).collect()
    }

    fn passed(what: &str, output: &Output) {
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && told.is_empty(), "{what}\n{told}");
    }

    #[test]
    fn the_readme_shows_the_files_of_the_first_example() {
        for block in blocks(&read(&root().join("README.md")), "json5") {
            let role = role_of(&block).expect("the README shows whole files only");
            assert_eq!(block, read(&root().join(format!("examples/http-replay/{role}.json"))));
        }
    }

    #[test]
    fn the_manual_names_every_key_with_its_default() {
        let page = read(&root().join("docs/reference/configuration.md"));
        for role in ROLES {
            let schema = schema(role);
            let mut known = BTreeMap::new();
            collect_keys(&schema, &schema, "", &mut known);
            check_table(&format!("{role}.json"), &table(&page, &format!("## {role}.json")), &known);
        }
    }

    #[test]
    fn the_page_of_each_kind_names_its_keys_with_their_defaults() {
        for (role, component, folder) in
            [("proxy", "ProxySourceFile", "sources"), ("player", "PlayerSinkFile", "sinks")]
        {
            let schema = schema(role);
            let kinds =
                schema["$defs"][component]["allOf"].as_array().expect("a rule for each kind");
            assert!(!kinds.is_empty());
            for kind in kinds {
                let name = kind["if"]["properties"]["type"]["const"].as_str().expect("a kind");
                let file = format!("docs/{folder}/{name}.md");
                let mut known = BTreeMap::new();
                collect_keys(&schema, &kind["then"]["properties"]["params"], "", &mut known);
                check_table(&file, &table(&read(&root().join(&file)), "## Keys"), &known);
            }
        }
    }

    /// A start may fail a few times in a row, as long as a port is held or a disk is full.
    #[test]
    fn no_unit_in_the_manual_gives_up_starting_again() {
        let pages = manual().into_iter();
        let blocks: Vec<_> = pages.flat_map(|page| blocks(&read(&page), "ini")).collect();
        let restarting: Vec<_> =
            blocks.iter().filter(|unit| unit.contains("\nRestart=always\n")).collect();
        assert!(!restarting.is_empty(), "no unit was found");
        for unit in restarting {
            let (head, _) = unit.split_once("\n[Service]\n").expect("a unit has a service");
            assert!(head.contains("\nStartLimitIntervalSec=0"), "{unit}");
        }
    }

    fn schema(role: &str) -> Value {
        let output = Command::new(PROGRAM).args(["schema", role]).output().expect("the program");
        serde_json::from_slice(&output.stdout).expect("a schema")
    }

    #[test]
    fn an_editor_accepts_every_file_of_the_manual_and_of_the_examples() {
        let mut texts: Vec<(&str, String)> = Vec::new();
        for page in manual() {
            let blocks = blocks(&read(&page), "json5").into_iter();
            texts.extend(blocks.filter_map(|block| Some((role_of(&block)?, block))));
        }
        for file in files(&root().join("examples"), "json") {
            let name = file_name(&file);
            let role = ROLES.into_iter().find(|role| name.starts_with(role));
            texts.extend(role.map(|role| (role, read(&file))));
        }
        assert!(texts.len() > 40, "{} files", texts.len());
        for (role, text) in &texts {
            assert_eq!(editor_says(role, text), Vec::<String>::new(), "{role}:\n{text}");
        }
    }

    #[test]
    fn an_editor_accepts_what_the_program_does() {
        let check = |role: &str, text: &str, expected: &str| {
            let told = editor_says(role, text).join("\n");
            assert_eq!(told.is_empty(), expected.is_empty(), "{text}: {told}");
            assert!(told.contains(expected), "{text}: {told}");
        };
        check("relay", r#"{ "$schema": "./relay.schema.json", "port": "${PORT:-8081}" }"#, "");
        check("relay", r#"{ "buckets": { "shop": { "auth": "x", "tls": 60 } } }"#, "");
        check(
            "player",
            r#"{ "$schema": "./x", "relayUrl": "http://x", "useTsnetStatusZ": "$ON" }"#,
            "",
        );
        let source = |port: &str| {
            let source = format!(
                r#"{{ "id": "a", "type": "http", "targetSink": "b", "params": {{ "listenPort": {port} }} }}"#
            );
            format!(r#"{{ "sources": [{source}], "sinks": [] }}"#)
        };
        check("proxy", &source("8080"), "");
        check("proxy", &source("\"${PORT}\""), "");
        check("proxy", &source("\"8080\""), ".sources[0].params.listenPort");
        check("relay", r#"{ "prot": 8081 }"#, ".prot: nothing may stand here");
    }

    /// What a validator says of a file, in which variables stand for themselves.
    fn editor_says(role: &str, text: &str) -> Vec<String> {
        let mut problems = Problems::new();
        let text = text.replace("$file:", "file:");
        let variable = |name: &str| Some(format!("${name}"));
        let document = parse("file", &text, &variable, &mut problems).expect("JSON5");
        let value: Value = document.root().decode(&mut problems).expect("a value");
        assert!(problems.is_ok(), "{problems}");
        complaints(&schema(role), &value)
    }

    fn check_table(what: &str, told: &BTreeMap<String, String>, known: &BTreeMap<String, String>) {
        let names = |keys: &BTreeMap<String, String>| keys.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(told), names(known), "{what}");
        for (key, default) in known {
            let told = &told[key];
            assert!(default.is_empty() || told == default, "{what} {key}: {told}, not {default}");
        }
    }

    /// Key path -> the cell of its default; empty where the schema says nothing that has to stand there.
    fn collect_keys(root: &Value, shape: &Value, path: &str, keys: &mut BTreeMap<String, String>) {
        if let Some(name) = shape["$ref"].as_str() {
            let target = name.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
            collect_keys(root, target.expect("references are local"), path, keys);
        }
        // What holds for one kind of source or sink alone stands on its own page.
        let others = ["anyOf", "allOf"].iter().filter_map(|key| shape[*key].as_array()).flatten();
        for other in others.filter(|other| other.get("then").is_none()) {
            collect_keys(root, other, path, keys);
        }
        if let Some(items) = shape.get("items") {
            collect_keys(root, items, &format!("{path}[]"), keys);
        }
        if let Some(entries) =
            shape.get("additionalProperties").filter(|entries| entries.is_object())
        {
            collect_keys(root, entries, &format!("{path}.*"), keys);
        }
        let required = shape["required"].as_array().cloned().unwrap_or_default();
        for (name, property) in shape["properties"].as_object().into_iter().flatten() {
            // Nothing that the manual advises: the editor's own key, and names of the original.
            if name == "$schema" || property.get("x-alias-of").is_some() {
                continue;
            }
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let cell = if required.contains(&name.as_str().into()) {
                "required".to_owned()
            } else {
                default_cell(property)
            };
            if !cell.is_empty() || !keys.contains_key(&path) {
                keys.insert(path.clone(), cell);
            }
            collect_keys(root, property, &path, keys);
        }
    }

    fn default_cell(property: &Value) -> String {
        match property.get("default") {
            // An empty text may stand for a default that is made elsewhere, or for none.
            None | Some(Value::Null | Value::Object(_)) => String::new(),
            Some(Value::String(text)) if text.is_empty() => String::new(),
            Some(default) => format!("`{default}`"),
        }
    }

    /// First and third cell of a section's table, the first one without its backticks.
    fn table(page: &str, heading: &str) -> BTreeMap<String, String> {
        let (_, section) =
            page.split_once(&format!("\n{heading}\n")).expect("the section is there");
        let section = section.split("\n## ").next().unwrap_or_default();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        let row = |line: &str| {
            let (key, rest) = line.split_once("` |")?;
            let default = rest.split('|').nth(1)?.trim();
            Some((key.to_owned(), default.to_owned()))
        };
        rows.map(|line| {
            row(line).unwrap_or_else(|| panic!("not a row of key, type, default: {line}"))
        })
        .collect()
    }

    #[test]
    fn every_link_leads_somewhere() {
        let mut followed = 0;
        for page in markdown(&root()) {
            for link in links(&read(&page)) {
                let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
                let folder = page.parent().expect("a file lies in a folder");
                let target = if file.is_empty() { page.clone() } else { folder.join(file) };
                assert!(target.exists(), "{}: {link}", page.display());
                let there = anchor.is_empty() || anchors(&read(&target)).contains(anchor);
                assert!(there, "{}: {link}: no such heading", page.display());
                followed += 1;
            }
        }
        assert!(followed > 50, "only {followed} links were found");
    }

    /// Targets of relative links, outside of code blocks.
    fn links(page: &str) -> Vec<String> {
        let prose = outside_blocks(page);
        let targets = prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
        targets.filter(|target| !target.contains("://")).map(str::to_owned).collect()
    }

    /// Headings as links name them.
    fn anchors(page: &str) -> BTreeSet<String> {
        let slug = |heading: &str| {
            let kept = heading
                .trim()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
        };
        let prose = outside_blocks(page);
        prose
            .lines()
            .filter(|line| line.starts_with('#'))
            .map(|line| slug(line.trim_start_matches('#')))
            .collect()
    }

    fn outside_blocks(page: &str) -> String {
        page.split("```").step_by(2).collect()
    }

    #[test]
    fn the_reading_order_of_a_crate_names_all_its_modules() {
        let mut missing = Vec::new();
        for folder in fs::read_dir(root().join("crates")).expect("a folder") {
            let path = folder.expect("an entry").path().join("src/lib.rs");
            let text = read(&path);
            let order: String = text.lines().filter(|line| line.starts_with("//!")).collect();
            for line in text.lines() {
                let line = line.strip_prefix("pub ").unwrap_or(line);
                let module = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'));
                let Some(module) = module.filter(|module| *module != "tests") else { continue };
                if !order.contains(&format!("`{module}`")) {
                    missing.push(format!("{}: {module}", path.display()));
                }
            }
        }
        assert!(missing.is_empty(), "{missing:#?}");
    }

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
    }

    fn manual() -> Vec<PathBuf> {
        let mut pages = markdown(&root().join("docs"));
        pages.push(root().join("README.md"));
        pages
    }

    fn markdown(folder: &Path) -> Vec<PathBuf> {
        files(folder, "md")
    }

    /// Files below a folder with this ending; what builds and tools leave there is passed over.
    fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = file_name(&path);
            if name.starts_with('.') || name == "target" {
                continue;
            }
            if path.is_dir() {
                found.extend(files(&path, ending));
            } else if path.extension().is_some_and(|found| found == ending) {
                found.push(path);
            }
        }
        found
    }

    fn file_name(path: &Path) -> String {
        path.file_name().expect("a name").to_string_lossy().into_owned()
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}
