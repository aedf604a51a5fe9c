//! Every stock pattern on real lines; the cases are in `testdata/cases.txt`.

use std::collections::BTreeMap;

use super::tests::{Parsed, parser};
use super::{expand, own::GrokPatterns, stock};

struct Case {
    name: &'static str,
    line: String,
    /// Nothing: the line is refused.
    captures: Option<Vec<(&'static str, &'static str)>>,
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut name = "";
    for line in include_str!("testdata/cases.txt").lines() {
        let unescaped = |line: &str| line.replace("\\n", "\n").replace("\\t", "\t");
        if line.starts_with('#') {
            continue;
        } else if let Some(line) = line.strip_prefix("+ ") {
            cases.push(Case { name, line: unescaped(line), captures: Some(Vec::new()) });
        } else if let Some(line) = line.strip_prefix("- ") {
            cases.push(Case { name, line: unescaped(line), captures: None });
        } else if let Some(pair) = line.strip_prefix("  ") {
            let pair = pair.split_once('=').expect("name=value");
            cases.last_mut().unwrap().captures.as_mut().expect("after a match").push(pair);
        } else {
            name = line;
        }
    }
    cases
}

#[test]
fn every_stock_pattern_takes_and_refuses_real_lines() {
    let parse = parser();
    let mut counts: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for Case { name, line, captures } in cases() {
        let (taken, refused) = counts.entry(name).or_default();
        let parsed = parse(&format!("^%{{{name}:whole line}}$"), &line);
        let Parsed::Table(table) = parsed else { panic!("{name}: {parsed:?}") };
        let Some(captures) = captures else {
            assert!(table.is_empty(), "{name} must refuse {line:?}, got {table:?}");
            *refused += 1;
            continue;
        };
        assert_eq!(table.get("whole line"), Some(&line), "{name} must take {line:?}: {table:?}");
        for (capture, expected) in captures {
            let got = table.get(capture).map(String::as_str);
            assert_eq!(got, Some(expected), "{name}, {capture} of {line:?}");
        }
        *taken += 1;
    }
    for name in stock::names() {
        let (taken, refused) = counts.get(name).copied().unwrap_or_default();
        assert!(taken > 0 && refused > 0, "{name}: {taken} lines taken, {refused} refused");
    }
    assert_eq!(counts.len(), stock::names().count());
}

#[test]
fn every_line_of_a_real_access_log_is_parsed() {
    let parse = parser();
    for pattern in ["%{COMBINEDAPACHELOG}", "%{HTTPD_COMBINEDLOG}", "^%{NGINXACCESS}$"] {
        for line in include_str!("testdata/access.log").lines() {
            let parsed = parse(pattern, line);
            let Parsed::Table(table) = parsed else { panic!("{pattern}: {parsed:?}") };
            let piece = |name: &str| table.get(name).expect(name).as_str();
            assert!(line.starts_with(piece("clientip")), "{pattern} {line}");
            assert!(line.contains(&format!("[{}]", piece("timestamp"))), "{pattern} {line}");
            let request =
                format!("\"{} {} HTTP/{}\"", piece("verb"), piece("request"), piece("httpversion"));
            assert!(line.contains(&request), "{pattern} {line}");
            let bytes = if piece("bytes").is_empty() { "-" } else { piece("bytes") };
            let end = [piece("response"), bytes, piece("referrer"), piece("agent")].join(" ");
            assert!(line.contains(&end), "{pattern} {line} {end}");
        }
    }
}

/// The narrower form must answer as the full one does: here on lines that are cut, doubled and bent in every place.
#[test]
fn the_narrow_form_captures_what_the_full_one_does() {
    let fast = parser();
    for pattern in ["%{COMMONAPACHELOG}", "%{COMBINEDAPACHELOG}", "%{NGINXACCESS}$"] {
        // An empty group before it is enough to have the narrow form put aside.
        let full = format!("(?:){pattern}");
        assert!(expand::expand_fast(&GrokPatterns::default(), &full).is_none());
        for line in include_str!("testdata/access.log").lines().take(6) {
            for at in 0..line.len() {
                for bent in ["", " ", "\"", "-", "::1", ".5", " HTTP/1.0\" 5 "] {
                    let (before, after) = line.split_at(at);
                    let line = format!("{before}{bent}{}", after.get(1..).unwrap_or_default());
                    assert_eq!(fast(pattern, &line), fast(&full, &line), "{pattern} {line}");
                }
            }
        }
    }
}
