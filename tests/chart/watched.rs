//! What watches the operator: monitors, alerts with their runbooks, dashboards. promtool reads the rules as the chart
//! renders them, plays a story for each alert, and reads every expression of the dashboards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use clientgrant::telemetry::CATALOGUE;
use clientgrant_testbed::{RunDir, Tools};
use serde_json::{Value, json};

use crate::support::{file, helm, objects, one, rendered, root, yaml};

const EVERYTHING: [&str; 2] =
    ["--set", "prometheusRule.enabled=true,prometheusRule.renderMode=alwaysRender,dashboards.enabled=true"];

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs promtool in a folder.
fn promtool(dir: &RunDir, args: &[&str]) -> Result<String, String> {
    let output = Command::new(Tools::find().unwrap().promtool).args(args).current_dir(dir.path()).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// The rules as the chart renders them, in the form of a file of Prometheus.
fn rules() -> Value {
    one(&rendered(&EVERYTHING), "PrometheusRule", "")["spec"].clone()
}

fn alerts(rules: &Value) -> Vec<Value> {
    let groups = rules["groups"].as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// The dashboards as the chart renders them: name of the ConfigMap, and the JSON.
fn dashboards() -> Vec<(String, Value)> {
    let all = rendered(&EVERYTHING);
    let maps = all.iter().filter(|o| o["kind"] == "ConfigMap");
    maps.map(|map| {
        let data = map["data"].as_object().unwrap();
        assert_eq!(data.len(), 1, "{data:?}");
        let (name, text) = data.iter().next().unwrap();
        assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
        (name.clone(), serde_json::from_str(text.as_str().unwrap()).unwrap())
    })
    .collect()
}

/// Each is rendered where its kind is served, unless told otherwise.
#[test]
fn what_the_prometheus_operator_reads_is_rendered_where_it_is_served() {
    let has = |args: &[&str], kind: &str| rendered(args).iter().any(|o| o["kind"] == kind);
    let helm = helm();
    for (value, kind) in
        [("serviceMonitor", "ServiceMonitor"), ("podMonitor", "PodMonitor"), ("prometheusRule", "PrometheusRule")]
    {
        let on = format!("{value}.enabled=true");
        let mode = |mode: &str| format!("{on},{value}.renderMode={mode}");
        let served = format!("monitoring.coreos.com/v1/{kind}");
        assert!(!has(&["--api-versions", &served], kind), "{kind} is off by default");
        assert!(!has(&["--set", &on], kind), "{kind} is not served");
        assert!(has(&["--set", &on, "--api-versions", &served], kind), "{kind} is served");
        assert!(has(&["--set", &mode("alwaysRender")], kind));
        assert!(has(&["--set", &mode("failIfMissing"), "--api-versions", &served], kind));
        let said = helm.template(&["--set", &mode("failIfMissing")]).unwrap_err().to_string();
        assert!(said.contains(&served), "{said}");
        // Another kind of the same group does not help.
        assert!(!has(&["--set", &on, "--api-versions", "monitoring.coreos.com/v1/Alertmanager"], kind));
    }
    let args = |value: &str| {
        let labels = format!(
            "{value}.enabled=true,{value}.renderMode=alwaysRender,{value}.interval=15s,{value}.labels.release=a"
        );
        rendered(&["--set", &labels])
    };
    let all = args("serviceMonitor");
    let monitor = one(&all, "ServiceMonitor", "");
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(*endpoint, json!({"port": "health", "path": "/metrics", "interval": "15s"}));
    assert_eq!(monitor["metadata"]["labels"]["release"], "a");
    let service = one(&all, "Service", "");
    let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    assert!(wanted.iter().all(|(name, value)| service["metadata"]["labels"][name] == *value), "{service}");
    assert!(service["spec"]["ports"].as_array().unwrap().iter().any(|port| port["name"] == endpoint["port"]));
    let all = args("podMonitor");
    let port = &one(&all, "PodMonitor", "")["spec"]["podMetricsEndpoints"][0]["port"];
    let container = &one(&all, "Deployment", "")["spec"]["template"]["spec"]["containers"][0];
    assert!(container["ports"].as_array().unwrap().iter().any(|p| p["name"] == *port), "{container}");
}

#[test]
fn every_alert_fires_and_resolves_in_its_story_and_is_silent_while_all_is_well() {
    let dir = RunDir::new("alerts").unwrap();
    let rules = rules();
    dir.write("rules.yaml", rules.to_string()).unwrap();
    let said = promtool(&dir, &["check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"]);
    let alerts = alerts(&rules);
    assert!(said.as_ref().is_ok_and(|said| said.contains(&format!("{} rules found", alerts.len()))), "{said:?}");
    let stories = text(&root().join("tests/alerts/clientgrant.test.yaml"));
    dir.write("clientgrant.test.yaml", &stories).unwrap();
    promtool(&dir, &["test", "rules", "clientgrant.test.yaml"]).unwrap_or_else(|said| panic!("{said}"));

    // What was just played has each of them in it.
    let stories = yaml(&stories);
    let minutes = |test: &Value| -> u64 {
        let at = test["eval_time"].as_str().unwrap();
        match (at.strip_suffix('m'), at.strip_suffix('h')) {
            (Some(minutes), _) => minutes.parse().unwrap(),
            (None, Some(hours)) => hours.parse::<u64>().unwrap() * 60,
            _ => panic!("{at}"),
        }
    };
    let all = |story: &Value| story["alert_rule_test"].as_array().unwrap().clone();
    let stories = stories["tests"].as_array().unwrap();
    for alert in &alerts {
        let name = &alert["alert"];
        let fires = |test: &Value| test["alertname"] == *name && !test["exp_alerts"].as_array().unwrap().is_empty();
        let silent = |test: &Value| test["alertname"] == *name && test["exp_alerts"].as_array().unwrap().is_empty();
        let story = stories.iter().map(all).find(|tests| tests.iter().any(fires));
        let story = story.unwrap_or_else(|| panic!("{name} fires in no story"));
        let first = story.iter().filter(|t| fires(t)).map(minutes).min();
        assert!(story.iter().any(|t| silent(t) && Some(minutes(t)) > first), "{name} never resolves");
        let well = stories.iter().filter(|story| story["name"] == "all is well").flat_map(all).filter(silent).count();
        assert!(well >= 2, "{name} is not tried while all is well");
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() {
    let alerts = alerts(&rules());
    assert!(alerts.len() >= 20, "{}", alerts.len());
    let folder = root().join("docs/runbooks");
    let mut pages = BTreeSet::new();
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        assert!(name.starts_with("ClientGrant"), "{name}");
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}");
        assert!(!alert["for"].is_null(), "{name} does not wait: one scrape that fails would set it off");
        for word in ["summary", "description"] {
            assert!(alert["annotations"][word].as_str().is_some_and(|said| said.len() > 20), "{name}: {word}");
        }
        assert_eq!(alert["annotations"]["runbook_url"], format!("docs/runbooks/{name}.md"));
        let page = text(&folder.join(format!("{name}.md")));
        assert!(page.starts_with(&format!("# {name}\n\nSeverity: {severity}. ")), "{name}: {page}");
        let parts =
            ["## What it means", "## How bad it is", "## First commands\n\n```sh\nkubectl ", "## How to resolve it"];
        let at: Vec<_> = parts.iter().map(|part| page.find(&format!("\n\n{part}"))).collect();
        assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{name}: {at:?}");
        pages.insert(format!("{name}.md"));
    }
    let there = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    assert_eq!(there.collect::<BTreeSet<_>>(), pages, "a page for every alert, and no other");
    for page in &pages {
        let page = text(&folder.join(page));
        for link in page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            assert!(pages.contains(link), "{link}");
        }
    }
    let elsewhere = [&EVERYTHING[..], &["--set", "prometheusRule.runbookURL=https://runbooks.example.com/c"]].concat();
    let spec = one(&rendered(&elsewhere), "PrometheusRule", "")["spec"].to_string();
    assert!(spec.contains("https://runbooks.example.com/c/ClientGrantSweepHeld.md") && !spec.contains("RUNBOOKS"));
    assert!(spec.contains("namespace=\\\"clientgrant-system\\\"") && !spec.contains("RELEASE_NAMESPACE"));
}

/// Names of metrics in a text, without the suffixes that a histogram has.
fn metrics(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = text.split(|c| !word(c)).filter(|name| name.starts_with("clientgrant_"));
    let base = |name: &str| {
        let histogram = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
        let known = |name: &&str| CATALOGUE.iter().any(|metric| metric.name == *name);
        histogram.filter(known).unwrap_or(name).to_owned()
    };
    names.map(base).collect()
}

#[test]
fn what_is_watched_is_what_is_told() {
    let told: BTreeSet<String> = CATALOGUE.iter().map(|metric| metric.name.to_owned()).collect();
    let mut watched = BTreeSet::new();
    let expressions = alerts(&rules()).into_iter().map(|alert| alert["expr"].as_str().unwrap().to_owned());
    watched.extend(expressions.flat_map(|expr| metrics(&expr)));
    watched.extend(panels().values().flatten().flat_map(|expr| metrics(expr)));
    assert_eq!(watched, told, "every metric is in an alert or on a dashboard, and no other");
    let mut documents = vec![root().join("README.md"), root().join("charts/clientgrant/README.md")];
    for folder in ["docs", "docs/runbooks"] {
        let files = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        documents.extend(files.filter(|path| path.extension().is_some_and(|e| e == "md")));
    }
    for path in documents {
        let unknown: Vec<_> = metrics(&text(&path)).difference(&told).cloned().collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", path.display());
    }
    // The labels, too: a selector on one that is not there finds nothing and says nothing.
    let labels: BTreeSet<&str> =
        CATALOGUE.iter().flat_map(|m| m.labels).copied().chain(["le", "namespace", "pod"]).collect();
    for expr in
        alerts(&rules()).iter().map(|a| a["expr"].as_str().unwrap().to_owned()).chain(panels().into_values().flatten())
    {
        for selector in expr.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(selector, _)| selector) {
            for part in selector.split("\",").map(|part| part.split(['=', '!']).next().unwrap().trim()) {
                assert!(labels.contains(part), "{part} in {expr}");
            }
        }
    }
}

/// Expressions by dashboard.
fn panels() -> BTreeMap<String, Vec<String>> {
    let of = |board: &Value| {
        let panels = board["panels"].as_array().unwrap().iter();
        let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
        targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
    };
    dashboards().iter().map(|(name, board)| (name.clone(), of(board))).collect()
}

#[test]
fn dashboards_are_read_and_their_expressions_too() {
    let boards = dashboards();
    let names: Vec<&str> = boards.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["clientgrant-idp.json", "clientgrant-operator.json", "clientgrant-posture.json"]);
    let mut uids = BTreeSet::new();
    for (name, board) in &boards {
        assert!(uids.insert(board["uid"].to_string()), "{name}");
        let variables = board["templating"]["list"].as_array().unwrap();
        assert_eq!((&variables[0]["type"], &variables[0]["query"]), (&json!("datasource"), &json!("prometheus")));
        let panels = board["panels"].as_array().unwrap();
        let ids: BTreeSet<String> = panels.iter().map(|panel| panel["id"].to_string()).collect();
        assert_eq!(ids.len(), panels.len(), "{name}");
        for panel in panels {
            assert_eq!(panel["datasource"], json!({"type": "prometheus", "uid": "${datasource}"}), "{name}: {panel}");
            assert!(!panel["title"].as_str().unwrap().is_empty() && !panel["description"].as_str().unwrap().is_empty());
            let place = &panel["gridPos"];
            assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{name}: {place}");
        }
    }
    let dir = RunDir::new("dashboards").unwrap();
    let mut rules = Vec::new();
    for (name, expressions) in panels() {
        for (number, expr) in expressions.iter().enumerate() {
            assert!(expr.contains("{namespace=~\"$namespace\""), "{name}: {expr}");
            let expr = expr.replace("$__rate_interval", "5m");
            let record = format!("{}:{number}", name.trim_end_matches(".json").replace('-', "_"));
            rules.push(json!({"record": record, "expr": expr}));
        }
    }
    let count = rules.len();
    dir.write("panels.yaml", json!({"groups": [{"name": "panels", "rules": rules}]}).to_string()).unwrap();
    let said = promtool(&dir, &["check", "rules", "panels.yaml"]);
    assert!(said.as_ref().is_ok_and(|said| said.contains(&format!("{count} rules found"))), "{said:?}");
}

/// The rules stand in one file, which the chart renders as they are.
#[test]
fn the_rules_are_those_of_the_file() {
    let own = file("files/rules/clientgrant.yaml");
    let own = own.replace("RELEASE_NAMESPACE", "clientgrant-system").replace("RUNBOOKS", "docs/runbooks");
    assert_eq!(objects(&own), [rules()]);
}
