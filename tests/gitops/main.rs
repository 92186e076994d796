//! What tools that judge health make of our objects: kstatus, with which Flux and Helm wait, and Argo CD.

mod argo;
mod documents;
mod generated;
mod kstatus;
#[path = "../status_rows/mod.rs"]
mod status_rows;
mod support;
