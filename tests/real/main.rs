//! The promises, on a real kube-apiserver and a real Ory Hydra.
//!
//! Each test has a control plane, a Hydra and an operator of its own; one runs at a time, because many
//! promises are about seconds and the machine may be small.

mod adversaries;
mod any;
mod canary;
mod chaos;
mod collect;
mod ends;
mod events;
mod exactness;
mod fail_closed;
mod fairness;
mod first;
mod gateways;
mod hands;
mod hook;
mod observe;
mod outage;
mod owners;
mod pending;
mod quarantine;
mod reach;
mod record;
mod registration;
mod removed;
mod replicas;
mod reports;
mod rewound;
mod rows;
mod scale;
mod scan;
mod sharing;
mod status;
#[path = "../status_rows/mod.rs"]
mod status_rows;
mod support;
mod tenancy;
mod tls;
mod tombstone;
mod unreadable;
mod watched;
