//! Shared credentials: what is found in manifests, what is not, and what the commands say.
//!
//! All offline: no server, no cluster, and no wall clock but in the tests of the commands.

mod combinations;
mod command;
mod configmaps;
mod exceptions;
mod gateways;
mod incremental;
mod malformed;
mod metamorphic;
mod owners;
mod paths;
mod reach;
mod registrations;
mod reports;
mod roles;
mod rules;
mod running;
mod sarif;
mod shapes;
mod suggest;
mod support;
mod unchanged;
