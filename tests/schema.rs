//! x
#[test]
fn p() { for (n, y) in clientgrant::api::schema::files() { std::fs::write(format!("crds/{n}"), y).unwrap(); } }
