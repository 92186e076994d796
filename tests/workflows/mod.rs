//! Workflows: read for faults by actionlint, and as narrow as they can be.

use std::fs;
use std::path::Path;
use std::process::Command;

use clientgrant_testbed::{RunDir, Tools};
use serde_json::Value;

use super::{read, root};

/// Name and text of every workflow.
fn workflows() -> Vec<(String, String)> {
    let folder = root().join(".github/workflows");
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| (name.clone(), read(Path::new(".github/workflows").join(name))))
        .collect();
    all.sort();
    assert_eq!(all.len(), 2);
    all
}

/// What actionlint says of a file; nothing if it is well. Other linters that it would call are not asked,
/// since not every machine has them.
fn lint(path: &Path) -> String {
    let tools = Tools::find().unwrap();
    let output = Command::new(tools.actionlint)
        .args(["-no-color", "-shellcheck=", "-pyflakes="])
        .arg(path)
        .current_dir(root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.success(), said.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn actionlint_finds_no_fault() {
    for (name, _) in workflows() {
        assert_eq!(lint(&root().join(".github/workflows").join(&name)), "", "{name}");
    }
    // It finds those that there are.
    let dir = RunDir::new("workflow").unwrap();
    for (from, to, fault) in [
        ("needs: build", "needs: nobody", "nobody"),
        ("contents: write", "contents: everything", "everything"),
        ("${{ github.token }}", "${{ github.tokens }}", "tokens"),
        ("runs-on: ubuntu-24.04", "runs-on: ubuntu-1.04", "ubuntu-1.04"),
    ] {
        let text = read(".github/workflows/release.yaml");
        assert!(text.contains(from), "{from}");
        let path = dir.write("broken.yaml", text.replace(from, to)).unwrap();
        assert!(lint(&path).contains(fault), "{to}: {}", lint(&path));
    }
}

/// The rights of every workflow and of the jobs that have more.
const RIGHTS: &[(&str, &str, &str)] = &[
    ("ci.yaml", "", r#"{"contents":"read"}"#),
    ("release.yaml", "", r#"{"contents":"read"}"#),
    ("release.yaml", "publish", r#"{"contents":"write","packages":"write"}"#),
];

#[test]
fn actions_are_pinned_and_rights_are_few() {
    let mut rights = Vec::new();
    for (name, text) in workflows() {
        let workflow: Value = serde_yaml::from_str(&text).unwrap();
        assert!(workflow["concurrency"]["group"].is_string(), "{name}");
        // Both run somebody else's code with rights of ours.
        for event in ["pull_request_target", "workflow_run", "issue_comment"] {
            assert!(workflow["on"][event].is_null() && !text.contains(event), "{name}: {event}");
        }
        assert!(!text.contains("secrets."), "{name}: the token of the run is all that it has");
        rights.push((name.clone(), String::new(), workflow["permissions"].to_string()));
        for (job, of) in workflow["jobs"].as_object().unwrap() {
            let place = format!("{name}, {job}");
            assert!(of["timeout-minutes"].as_u64().is_some_and(|minutes| minutes <= 150), "{place} has no time limit");
            let runner = of["runs-on"].as_str().unwrap();
            assert!(!runner.contains("latest"), "{place}: {runner}");
            if !of["permissions"].is_null() {
                rights.push((name.clone(), job.clone(), of["permissions"].to_string()));
            }
            for step in of["steps"].as_array().unwrap() {
                // An expression would become part of the script before a shell reads it.
                let script = step["run"].as_str().unwrap_or_default();
                assert!(!script.contains("${{"), "{place}: {script}");
                if step["uses"].as_str().is_some_and(|uses| uses.starts_with("actions/checkout@")) {
                    assert_eq!(step["with"]["persist-credentials"], false, "{place}: the token stays in the checkout");
                }
            }
        }
        for line in text.lines().filter(|line| line.contains("uses:")) {
            let uses = line.split_once("uses: ").unwrap().1;
            assert!(pinned(uses), "{name}: {uses}");
        }
    }
    let expected = RIGHTS.iter().map(|(name, job, of)| ((*name).into(), (*job).into(), (*of).into()));
    assert_eq!(rights, expected.collect::<Vec<_>>());
    for bad in [
        "actions/checkout@v7",
        "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1",
        "actions/checkout@3d3c42e # v7.0.1",
        "docker://alpine:3 # v3.0.0",
    ] {
        assert!(!pinned(bad), "{bad}");
    }
}

/// `owner/name@` 40 digits ` # v` and a version: the commit counts, the version is for people.
fn pinned(uses: &str) -> bool {
    let Some((action, version)) = uses.split_once(" # v") else { return false };
    let Some((name, commit)) = action.split_once('@') else { return false };
    name.split('/').count() >= 2
        && !name.contains(':')
        && commit.len() == 40
        && commit.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        && version.split('.').count() == 3
        && version.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Whoever runs `.ci/run` by hand sees what a pull request sees.
#[test]
fn ci_runs_what_a_person_runs() {
    let workflow: Value = serde_yaml::from_str(&read(".github/workflows/ci.yaml")).unwrap();
    let steps = workflow["jobs"]["everything"]["steps"].as_array().unwrap();
    assert_eq!(steps.iter().filter(|step| step["run"] == ".ci/run").count(), 1);
    for event in ["push", "pull_request"] {
        assert!(workflow["on"].as_object().unwrap().contains_key(event), "{event}");
    }
}
