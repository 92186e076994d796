//! The Helm chart: what it renders, which values it refuses, what is written about it, and that it
//! installs, upgrades, goes and comes back on a real API server. And what it brings to watch the operator by.

mod cluster;
mod documents;
mod installed;
mod renders;
mod support;
mod values;
mod watched;
