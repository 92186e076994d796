//! The commands: exit codes, outputs, and that no secret value is in any of them.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::support::{deployment, grant, holds, identity, owns};

/// A directory that goes away.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("clientgrant-scan-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn scan(&self, arguments: &[&str]) -> Output {
        let path = self.0.display().to_string();
        run(&[&["scan", "-f", &path], arguments].concat(), "")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn run(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clientgrant"));
    let mut child =
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Who refuses the arguments may be gone before anything is written.
    if let Err(error) = child.stdin.take().unwrap().write_all(input.as_bytes()) {
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
    child.wait_with_output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn far(client: &str) -> String {
    super::support::grant_until(client, "ann", "x", "2199-01-01T00:00:00Z")
}

fn foreign() -> String {
    let all = [
        identity("a", &owns("s", "k", "w")),
        far("a"),
        deployment("w", &format!("serviceAccountName: a, {}", holds("s", "k"))),
        deployment("thief", &holds("s", "k")),
    ];
    all.join("---\n")
}

#[test]
fn exit_codes() {
    let dir = Dir::new();
    dir.write("a.yaml", &foreign());
    assert_eq!(code(&dir.scan(&[])), 1);
    assert_eq!(code(&dir.scan(&["--fail-on", "high"])), 1);
    assert_eq!(code(&dir.scan(&["--fail-on", "critical"])), 0);
    dir.write("b.yaml", "a: [");
    assert_eq!(code(&dir.scan(&["--fail-on", "high"])), 1);
    let half = dir.scan(&["--fail-on", "critical"]);
    assert_eq!(code(&half), 2);
    assert!(err(&half).contains("b.yaml:1: not read: "), "{}", err(&half));
    assert_eq!(code(&dir.scan(&["--fail-on", "critical", "--ignore-unread"])), 0);

    let clean = Dir::new();
    clean.write("a.yaml", &deployment("w", "containers: []"));
    let output = clean.scan(&[]);
    assert_eq!((code(&output), out(&output).as_str()), (0, "1 objects: 0 open, 0 suppressed, 0 not evaluable\n"));
    assert_eq!(code(&run(&["scan", "-f", "/nowhere/at/all"], "")), 2);
    assert_eq!(code(&run(&["scan"], "")), 2);
    assert_eq!(code(&run(&["scan", "-f", "-", "--fail-on", "info"], "")), 2);
    assert_eq!(code(&run(&["scan", "-f", "-"], &foreign())), 1);
    assert_eq!(code(&run(&["scan", "-f", "-"], "# a chart that renders nothing\n")), 0);
    let failed = run(&["scan", "-f", "-"], "");
    assert!(code(&failed) == 2 && err(&failed).contains("nothing came on standard input"), "{}", err(&failed));
    let nothing = Dir::new();
    for text in [None, Some("# nothing\n"), Some("a: 1\n")] {
        text.into_iter().for_each(|text| _ = nothing.write("values.yaml", text));
        let output = nothing.scan(&[]);
        assert!(code(&output) == 2 && err(&output).contains("there is no Kubernetes object in"), "{}", err(&output));
    }
}

#[test]
fn a_rule_is_asked_for() {
    let both = "containers: [{name: main, envFrom: [{secretRef: {name: s}}]}]";
    let text = [identity("a", &owns("s", "k", "w")), deployment("w", both)].join("---\n");
    let asked = |arguments: &[&str]| run(&[&["scan", "-f", "-"], arguments].concat(), &text);
    assert!(!out(&asked(&[])).contains("SC-403"));
    let also = asked(&["--also", "sc-403", "--also", "SC-206"]);
    assert!(out(&also).contains("SC-403"), "{}", out(&also));
    let wrong = asked(&["--also", "SC-4O3"]);
    assert_eq!(code(&wrong), 2);
    assert!(err(&wrong).contains("there is no rule SC-4O3: did you mean SC-403?"), "{}", err(&wrong));
}

#[test]
fn identities_are_proposed() {
    let literal = "containers: [{name: main, env: [{name: OIDC_CLIENT_ID, value: a}]}]";
    let text = [grant("a", "ann", "x"), deployment("w", literal)].join("---\n");
    let proposed = run(&["suggest", "-f", "-"], &text);
    assert_eq!((code(&proposed), err(&proposed).as_str()), (0, ""));
    assert!(out(&proposed).contains("kind: ClientIdentity\n"), "{}", out(&proposed));
    let again = run(&["suggest", "-f", "-"], &format!("{text}---\n{}", out(&proposed)));
    assert!(!out(&again).contains("kind: ClientIdentity\n"), "{}", out(&again));
    // What could not be read may be what matters.
    assert_eq!(code(&run(&["suggest", "-f", "-"], "a: [")), 2);
    assert_eq!(code(&run(&["suggest"], "")), 2);
}

#[test]
fn the_example_is_found_and_fixed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/02-shared-credential");
    let at = |name: &str| root.join(name).display().to_string();
    let before = run(&["scan", "-f", &at("clients.yaml"), &at("before")], "");
    assert_eq!((code(&before), err(&before).as_str()), (1, ""));
    assert!(out(&before).contains("profile:read"), "{}", out(&before));
    let after = run(&["scan", "-f", &at("clients.yaml"), "-f", &at("after")], "");
    assert_eq!(code(&after), 0, "{}", out(&after));
    // The files say nothing of who may read Secrets by RBAC, nor of what is registered.
    assert!(out(&after).ends_with("6 objects: 0 open, 0 suppressed, 2 not evaluable\n"), "{}", out(&after));
}

#[test]
fn json_has_the_promised_fields() {
    let output = run(&["scan", "-f", "-", "-o", "json"], &foreign());
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let finding = &json["findings"].as_array().unwrap().iter().find(|f| f["rule"] == "SC-301").unwrap();
    let fields: Vec<&String> = finding.as_object().unwrap().keys().collect();
    let promised = [
        "blastRadius",
        "clients",
        "evidence",
        "gain",
        "grade",
        "references",
        "remedy",
        "rule",
        "severity",
        "state",
        "subject",
    ];
    assert_eq!(fields, promised);
    assert_eq!(finding["subject"], serde_json::json!({"kind": "Deployment", "namespace": "shop", "name": "thief"}));
    assert_eq!(finding["blastRadius"], serde_json::json!({"grants": 1, "subjects": 1, "scopes": 1}));
    assert_eq!((finding["state"].as_str(), finding["grade"].as_str()), (Some("open"), Some("direct")));
    let evidence = finding["evidence"].as_array().unwrap();
    let thief = evidence.iter().find(|e| e["object"]["name"] == "thief").unwrap();
    assert_eq!(thief["path"], "spec.template.spec.containers[main].env[X].valueFrom.secretKeyRef");
    assert_eq!(thief["file"], "-");
    let line = usize::try_from(thief["line"].as_u64().unwrap()).unwrap();
    let text = foreign();
    assert!(text.lines().skip(line - 1).take(3).any(|l| l.contains("thief")), "line {line} of {text}");
    let summary: Vec<&String> = json["summary"].as_object().unwrap().keys().collect();
    assert_eq!(summary, ["notEvaluable", "objects", "open", "suppressed", "worst"]);
}

#[test]
fn sarif_points_at_files() {
    let dir = Dir::new();
    let accepted = "sharing: {exceptions: [{rule: SC-301, with: [{kind: Deployment, name: thief}], \
                    reason: moves away with SEC-412, expiresAt: \"EXPIRY\"}]}, clientID";
    dir.write("sub dir/a.yaml", &foreign()).write("z.yaml", &deployment("other", "containers: []"));
    let output = dir.scan(&["-o", "sarif"]);
    let log: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((log["version"].as_str(), log["runs"].as_array().unwrap().len()), (Some("2.1.0"), 1));
    let run_ = &log["runs"][0];
    let rules = run_["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run_["results"].as_array().unwrap();
    assert!(!results.is_empty());
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert_eq!(result["partialFingerprints"]["sc/v1"].as_str().unwrap().len(), 64);
        let place = &result["locations"][0]["physicalLocation"];
        assert!(place["artifactLocation"]["uri"].as_str().unwrap().ends_with("sub%20dir/a.yaml"), "{result}");
        assert!(place["region"]["startLine"].as_u64().unwrap() >= 1);
    }
    // In 90 days, by the clock of this test: the command has no other.
    let now: clientgrant::grant::Timestamp = clientgrant::clock::now();
    let later = now.checked_add(std::time::Duration::from_secs(90 * 86_400)).unwrap();
    let until = clientgrant::api::instant::format(later);
    dir.write(
        "sub dir/a.yaml",
        &foreign().replace("clientID: a, cred", &format!("{}: a, cred", accepted.replace("EXPIRY", &until))),
    );
    let output = dir.scan(&["-o", "sarif"]);
    let log: Value = serde_json::from_slice(&output.stdout).unwrap();
    let results = log["runs"][0]["results"].as_array().unwrap();
    let one = results.iter().find(|r| r["ruleId"] == "SC-301").unwrap();
    assert_eq!(one["suppressions"][0]["justification"], "moves away with SEC-412");
    assert_eq!(code(&output), 0, "{}", out(&output));
}

/// A value that is nowhere in any output, whatever field it stands in.
#[test]
fn no_secret_value_is_printed() {
    let canary = "c4n4ry-9f31";
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: shop, annotations: {{a: {canary}}}}}\nstringData: {{k: {canary}}}\n"
    );
    let literal = deployment(
        "w",
        &format!(
            "containers: [{{name: m, env: [{{name: CLIENT_SECRET, value: {canary}}}, {{name: OTHER, value: {canary}}}, {{name: CLIENT_ID, value: {canary}}}], \
             args: [--client-secret={canary}, {canary}], envFrom: [{{secretRef: {{name: s}}}}, {{configMapRef: {{name: c}}}}]}}]"
        ),
    );
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, namespace: shop, annotations: {{a: {canary}}}}}\n\
         data: {{CLIENT_SECRET: {canary}, CLIENT_ID: {canary}, OTHER: {canary}, f: \"client-secret={canary}\"}}\n\
         binaryData: {{x: {canary}}}\n"
    );
    let all = [identity("a", &owns("s", "k", "w")), grant("a", "ann", "x"), secret, map, literal].join("---\n");
    let broken = [
        format!("a: {canary}\na: {canary}"),
        format!("a: !!int {canary}"),
        format!("{canary}: [\n"),
        format!("a: *{canary}"),
        format!("{{\"{canary}\": 1, \"{canary}\": 2"),
        format!("? [{canary}]\n: {canary}"),
        identity("b", &format!("adopt: {canary}")),
        identity("b", &format!("credentials: {canary}")),
        identity("b", &format!("credentials: [{{secret: {{name: 5, {canary}: {canary}}}}}]")),
        format!(
            "apiVersion: clientgrant.dev/v1alpha1\nkind: ClientGrant\nmetadata: {{name: {{a: {canary}}}}}\nspec: {canary}"
        ),
    ];
    let dir = Dir::new();
    dir.write("all.yaml", &all);
    for (n, text) in broken.iter().enumerate() {
        dir.write(&format!("broken{n}.yaml"), text);
    }
    let path = dir.0.display().to_string();
    let proposals = run(&["suggest", "-f", &path], "");
    assert!(!out(&proposals).contains(canary) && !err(&proposals).contains(canary), "{}", out(&proposals));
    assert!(out(&proposals).contains("env[CLIENT_ID].value is named as a client's id"), "{}", out(&proposals));
    for format in ["table", "json", "sarif"] {
        let output = dir.scan(&["-o", format, "--also", "SC-206", "--also", "SC-403"]);
        for text in [out(&output), err(&output)] {
            assert!(!text.contains(canary), "{format}: {text}");
        }
        assert!(out(&output).contains("SC-401"), "{format}");
        assert!(format == "table" || out(&output).contains("(ConfigMap/c, key f)"), "{format}: {}", out(&output));
        assert!(err(&output).lines().count() >= 9, "{}", err(&output));
    }
}

#[test]
fn files_stand_in_order_and_links_do_not_go_in_circles() {
    let dir = Dir::new();
    dir.write("b/x.yaml", "a: [")
        .write("a.yml", "a: [")
        .write("c.json", "{")
        .write("b.txt", "a: [")
        .write(".git/x.yaml", "a: [");
    std::os::unix::fs::symlink(&dir.0, dir.0.join("b/round")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.0.join("d.yaml")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.0.join("e.yaml")).unwrap();
    let output = dir.scan(&[]);
    let root = dir.0.display().to_string();
    let said = err(&output);
    let files: Vec<&str> =
        said.lines().filter_map(|l| l.strip_prefix("clientgrant: ")?.strip_prefix(&root)?.split(':').next()).collect();
    assert_eq!(files, ["/a.yml", "/b/x.yaml", "/c.json", "/d.yaml", "/e.yaml"], "{said}");
    assert_eq!(code(&output), 2);
}

#[test]
fn a_name_of_any_length_is_shown_in_a_table() {
    let text = foreign().replace("thief", &"t".repeat(70_000));
    let output = run(&["scan", "-f", "-"], &text);
    let table = out(&output);
    assert!(code(&output) == 1 && table.contains("SC-301"), "{}", err(&output));
    assert!(table.lines().all(|line| line.chars().count() < 1_000) && table.contains("ttt…"), "{}", table.len());
}

#[test]
fn a_name_cannot_move_the_cursor() {
    let text = foreign().replace("thief", "\"th\\e[31mief\\u202e\"");
    let table = out(&run(&["scan", "-f", "-"], &text));
    assert!(table.contains("SC-301") && !table.contains('\u{1b}') && !table.contains('\u{202e}'), "{table}");
}

#[test]
fn explain() {
    let page = run(&["explain", "sc-202"], "");
    assert_eq!(code(&page), 0);
    for part in ["SC-202", "Why:", "What to do:", "OWASP NHI9:2025"] {
        assert!(out(&page).contains(part), "{}", out(&page));
    }
    for (asked, near) in
        [("SC-209", "SC-20"), ("SC-9O1", "SC-901"), ("202", "SC-202"), ("", "SC-"), ("nonsense", "SC-")]
    {
        let unknown = run(&["explain", asked], "");
        assert_eq!((code(&unknown), out(&unknown).as_str()), (2, ""), "{asked}");
        assert!(err(&unknown).contains(&format!("did you mean {near}")), "{}", err(&unknown));
    }
    assert_eq!(code(&run(&["explain"], "")), 2);
    assert!(out(&run(&["explain", "--all"], "")) == super::support::document());
}
