//! What the domain decides, without a server, a network or a wall clock.
//!
//! Tables state single rules; generated cases look for what no table thought of. How many cases are
//! generated is set by `CLIENTGRANT_FUZZ_CASES`; every generated test has `fuzz` in its name.

mod consent;
mod convergence;
mod decide;
mod drift;
mod fuzz;
mod parse;
mod plan;
mod quarantine;
mod queue;
mod rules;
mod standing;
mod support;
mod verdict;
mod world;
