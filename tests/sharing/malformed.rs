//! Text that is no manifest, or means harm: a message with file and line, and the rest is read.

use std::time::{Duration, Instant};

use clientgrant::sharing::read::{LARGEST, Reader};

use super::support::{deployment, found, holds, identity, now, owns, scan_files};

fn client() -> String {
    identity("c", &owns("s", "k", "w"))
}

/// The line and the reason of everything that was not read.
fn failures(text: &[u8]) -> Vec<(usize, String)> {
    let mut reader = Reader::default();
    reader.add("f.yaml", text);
    let input = reader.finish(now());
    input.unread.into_iter().map(|u| (u.place.line, u.why)).collect()
}

#[test]
fn each_says_what_is_wrong_and_where() {
    let nested = format!("\na: {}1{}", "[".repeat(200), "]".repeat(200));
    let grant = "apiVersion: clientgrant.dev/v1alpha1\nkind: ClientGrant\n";
    let cases: Vec<(&str, String, usize, &str)> = vec![
        ("a tab", "a: 1\n\tb: 2\n".into(), 2, "well-formed"),
        ("an open bracket", "a: [1\nb: 2".into(), 2, "well-formed"),
        ("an unknown anchor", "a: *nobody".into(), 1, "well-formed"),
        ("twice", "a: 1\nb: 2\na: 3".into(), 1, "twice"),
        ("twice in JSON", "{\"a\": 1, \"a\": 2}".into(), 1, "twice"),
        ("half JSON", "{\"a\": 1,".into(), 1, "well-formed"),
        ("a list as key", "? [a]\n: b".into(), 1, "no text"),
        ("a template", "kind: X\nname: {{ .Values.name }}\n".into(), 2, "rendered"),
        ("a template's block", "{{- if .Values.on }}\nkind: X\n{{- end }}\n".into(), 1, "rendered"),
        ("deep", nested, 2, "deeply"),
        ("deeper", "[".repeat(100_000), 1, "deeply"),
        ("second document", "a: 1\n---\nb: 2\n---\n\nc: [\n".into(), 6, "well-formed"),
        ("a grant without a name", grant.into(), 1, "has no name"),
        ("a grant without spec", format!("# note\n\n{grant}metadata: {{name: x}}\n"), 3, "lacks the field `spec`"),
        ("a workload without a name", "apiVersion: v1\nkind: Pod\n".into(), 1, "has no name"),
    ];
    for (name, text, line, words) in cases {
        let all = failures(text.as_bytes());
        assert_eq!(all.len(), 1, "{name}: {all:?}");
        let (at, why) = &all[0];
        assert!(why.contains(words), "{name}: {why}");
        assert!(
            at.abs_diff(line) <= usize::from(words == "well-formed" || words == "rendered" || words == "twice"),
            "{name}: line {at}"
        );
    }
    assert_eq!(failures(b"a: 1\nb: \xff\n"), [(2, "it is no text in UTF-8".to_owned())]);
    assert!(failures(&vec![b' '; LARGEST + 1])[0].1.contains("larger than 64 MiB"));
}

#[test]
fn what_is_no_manifest_is_no_failure() {
    for text in [
        "",
        "\n\n",
        "---\n---\n",
        "# nothing",
        "null",
        "~",
        "- a\n- b",
        "just words",
        "a: 1",
        "kind: 5",
        "kind: List",
        "apiVersion: v1\nkind: List\nitems: 3",
        "{}",
        "[]",
        "[{}, null]",
        "%YAML 1.1\n---\na: 1\n",
        "a: 1\n...\n---\nb: 2",
        "\u{feff}a: 1",
        "a: !own {b: 1}",
        "<<: 5\na: 1",
        "a: 123456789012345678901234567890",
        "a: .nan",
        "{\"a\": 1}{\"b\": 2}",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {x: \"{{ $labels.pod }}\"}",
    ] {
        assert_eq!(failures(text.as_bytes()), [], "{text:?}");
    }
}

#[test]
fn one_bad_document_does_not_take_the_others() {
    let text = format!("{}---\na: [\n---\n{}", client(), deployment("thief", &holds("s", "k")));
    let names = found(&scan_files(&[("all.yaml", &text)]));
    assert!(names.contains(&"SC-301 Deployment/shop/thief".to_owned()), "{names:?}");
    assert!(names.contains(&"SC-901 File/all.yaml".to_owned()), "{names:?}");
    // What is absent proves nothing now.
    assert!(!names.iter().any(|f| f.starts_with("SC-30") && !f.starts_with("SC-301")), "{names:?}");
}

#[test]
fn merges_anchors_and_lists_are_read() {
    let merged = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: thief, namespace: shop}\nspec:\n  template:\n    spec:\n\
                  \x20     containers:\n      - &base {name: a, env: [{name: X, valueFrom: {secretKeyRef: {name: s, key: k}}}]}\n\
                  \x20     - {<<: *base, name: b}\n";
    let evaluation = scan_files(&[("c.yaml", &client()), ("w.yaml", merged)]);
    let finding = super::support::only(&evaluation, "SC-301");
    let paths: Vec<&str> = finding.evidence.iter().map(|e| e.path.as_str()).collect();
    assert!(paths.iter().any(|p| p.contains("containers[b].env[X]")), "{paths:?}");
    for list in ["List", "DeploymentList"] {
        let item = deployment("thief", &holds("s", "k")).replace('\n', "\n  ");
        let item = if list == "List" {
            item
        } else {
            item.replace("kind: Deployment\n  ", "").replace("apiVersion: apps/v1\n  ", "")
        };
        let version = if list == "List" { "v1" } else { "apps/v1" };
        let text = format!("apiVersion: {version}\nkind: {list}\nitems:\n- {item}");
        let names = found(&scan_files(&[("c.yaml", &client()), ("w.yaml", &text)]));
        assert!(names.contains(&"SC-301 Deployment/shop/thief".to_owned()), "{list}: {names:?}");
    }
}

#[test]
fn a_name_that_is_still_a_template_is_not_clean() {
    let quoted = deployment("\"{{ .Release.Name }}\"", &holds("s", "k"));
    let secret = deployment("w", &holds("\"{{ .Values.secret }}\"", "k"));
    for text in [quoted, secret] {
        let names = found(&scan_files(&[("c.yaml", &client()), ("w.yaml", &text)]));
        assert!(names.contains(&"SC-901 File/w.yaml".to_owned()), "{names:?}");
    }
}

/// What costs a careless parser minutes or all memory.
#[test]
fn bombs_do_not_go_off() {
    let lol: String = (0..30)
        .map(|n| match n {
            0 => "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(),
            _ => format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", ")),
        })
        .collect();
    let square = format!("a: &a [{}]\nb: [{}]\n", "x, ".repeat(20_000), "*a, ".repeat(20_000));
    let texts = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(20_000));
    let all: Vec<(&str, Vec<u8>)> = vec![
        ("aliases of aliases", lol.into_bytes()),
        ("many times one list", square.into_bytes()),
        ("many times one text", texts.into_bytes()),
        ("an alias of itself", b"a: &a [*a]".to_vec()),
        ("a merge of itself", b"a: &a\n  <<: *a\n  b: 1".to_vec()),
        ("dashes", "- ".repeat(200_000).into_bytes()),
        ("keys", "? ".repeat(200_000).into_bytes()),
        ("colons", "a: ".repeat(200_000).into_bytes()),
        ("braces", "{".repeat(1 << 20).into_bytes()),
        ("braces in pairs", "{}".repeat(1 << 18).into_bytes()),
        ("JSON brackets", format!("{{\"a\":{}", "[".repeat(400)).into_bytes()),
        ("markers", "---\n".repeat(1 << 18).into_bytes()),
        ("anchors", (0..20_000).map(|n| format!("- &a{n} x\n")).collect::<String>().into_bytes()),
        ("zeros", vec![0; 1 << 20]),
        ("quotes", vec![b'"'; (1 << 20) + 1]),
    ];
    for (name, text) in all {
        let begin = Instant::now();
        let failures = failures(&text);
        let took = begin.elapsed();
        println!("{name}: {took:?} {:?}", failures.first());
        assert!(took < Duration::from_secs(60), "{name} took {took:?}");
        let harmless = ["markers", "anchors", "braces in pairs"].contains(&name);
        assert_eq!(failures.is_empty(), harmless, "{name}: {failures:?}");
    }
}
