//! Documents that repeat what the code knows are written by it: `make generate` sets `CLIENTGRANT_WRITE`,
//! otherwise they are compared.

mod workflows;

use std::collections::BTreeSet;
use std::path::Path;

use clientgrant::telemetry::CATALOGUE;

const BEGIN: &str = "<!-- generated -->\n";
const END: &str = "<!-- end of generated -->\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The part between the marks is this.
fn check(name: &str, generated: &str) {
    let path = root().join("docs").join(name);
    let text = read(&path);
    let (head, rest) = text.split_once(BEGIN).expect("the first mark");
    let (old, tail) = rest.split_once(END).expect("the last mark");
    if std::env::var_os("CLIENTGRANT_WRITE").is_some() {
        std::fs::write(&path, format!("{head}{BEGIN}{generated}{END}{tail}")).unwrap();
        return;
    }
    assert_eq!(old, generated, "{name} is out of date: run `make generate`");
}

#[test]
fn the_metrics_are_those_of_the_code() {
    let mut table = "| metric | labels | what it tells |\n|---|---|---|\n".to_owned();
    for metric in CATALOGUE {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        table += &format!("| `{}` | {} | {} |\n", metric.name, labels.join(" "), metric.help);
    }
    check("metrics.md", &table);
}

/// Whether a file has a test of this name.
fn has_test(path: &str, name: &str) -> bool {
    let text = read(path);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    // Below its attributes; those of a case of generated ones stand inside a macro.
    let begins = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ").is_some_and(|rest| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with('(')))
    };
    lines.iter().enumerate().any(|(at, line)| {
        let attributes = lines[..at].iter().rev().take_while(|line| line.starts_with(['#', '/']));
        begins(line)
            && attributes.into_iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

/// Each threat has a number of its own, what holds it, and tests that exist.
#[test]
fn every_threat_names_tests_that_exist() {
    let text = read("SECURITY.md");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| T"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() >= 18, "{}", rows.len());
    let mut known = BTreeSet::new();
    for (number, row) in rows.iter().enumerate() {
        let [id, threat, control, tests] = row[..] else { panic!("a row of four columns: {row:?}") };
        assert_eq!(id, format!("T{}", number + 1));
        assert!(threat.len() > 20 && control.len() > 20, "{id}");
        let tests: Vec<&str> = tests.split(' ').map(|test| test.trim_matches('`')).collect();
        for test in &tests {
            let (path, name) = test.split_once("::").unwrap_or_else(|| panic!("{id} names no test: {test:?}"));
            assert!(has_test(path, name), "{id} names {test}, which does not exist");
            known.insert(*test);
        }
    }
    assert!(known.len() >= 40, "{}", known.len());
    assert!(!has_test("tests/documents.rs", "has_test"), "a function that is no test does not count");
}

/// Links of these documents lead to files of the repository, or out of it.
#[test]
fn links_lead_somewhere() {
    for name in ["SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/image.md"] {
        let text = read(name);
        let folder = root().join(name).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let path = link.split('#').next().unwrap();
            let there = link.starts_with("https://") || folder.join(path).exists();
            assert!(there, "{name}: {link} leads nowhere");
        }
    }
}
