//! How findings are shown: as a table, and as JSON.

use super::finding::{Evaluation, Finding, State};

/// JSON with stable fields in a stable order.
#[must_use]
pub fn json(evaluation: &Evaluation) -> String {
    // Plain data without maps that have other keys than text.
    serde_json::to_string_pretty(evaluation).unwrap_or_default() + "\n"
}

/// Characters that a cell of the table has at most: the widest of a column makes every row as wide.
const CELL: usize = 200;

/// A table for people.
#[must_use]
pub fn table(evaluation: &Evaluation) -> String {
    let header = ["SEVERITY", "RULE", "STATE", "SUBJECT", "CLIENTS", "GAIN", "WHERE"].map(str::to_owned);
    let rows: Vec<[String; 7]> = [header].into_iter().chain(evaluation.findings.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut text = String::new();
    if !evaluation.findings.is_empty() {
        for row in &rows {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text.push('\n');
    }
    let summary = &evaluation.summary;
    text.push_str(&format!(
        "{} objects: {} open, {} suppressed, {} not evaluable\n",
        summary.objects, summary.open, summary.suppressed, summary.not_evaluable
    ));
    text
}

fn row(finding: &Finding) -> [String; 7] {
    let place = finding.evidence.first().map(|e| match (e.place.file.as_str(), finding.state) {
        // What could not be told is said where it is.
        ("", _) => e.path.clone(),
        (_, State::NotEvaluable) => format!("{} {}", e.place, e.path),
        (_, _) => e.place.to_string(),
    });
    let cells = [
        finding.severity.name().to_owned(),
        finding.rule.to_owned(),
        finding.state.name().to_owned(),
        visible(&finding.subject.to_string()),
        visible(&some(&finding.clients, finding.more_clients)),
        visible(&some(&finding.gain, 0)),
        visible(&place.unwrap_or_default()),
    ];
    cells.map(|cell| match cell.char_indices().nth(CELL) {
        None => cell,
        Some((at, _)) => format!("{}…", cell.get(..at).unwrap_or_default()),
    })
}

/// A few of a list, of which more are not in it.
fn some(list: &[String], more: usize) -> String {
    match list {
        [] => "-".to_owned(),
        [a, b, c, rest @ ..] if !rest.is_empty() => format!("{a},{b},{c} +{}", rest.len() + more),
        short => short.join(","),
    }
}

/// A text that cannot move the cursor or colour the screen of whoever reads it.
#[must_use]
pub fn visible(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect()
}
