//! Documents that repeat what the code knows are written by it: `make generate` sets `CLIENTGRANT_WRITE`,
//! otherwise they are compared.

use std::path::PathBuf;

use clientgrant::telemetry::CATALOGUE;

const BEGIN: &str = "<!-- generated -->\n";
const END: &str = "<!-- end of generated -->\n";

/// The part between the marks is this.
fn check(name: &str, generated: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
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
