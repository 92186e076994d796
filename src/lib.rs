//! A Kubernetes operator that makes the consent of an OAuth 2.0 client a reviewed object, and makes the
//! identity provider hold to it.
//!
//! The unit of work is **the client**, not the custom resource: the ceiling at the IdP belongs to the
//! client and every grant of it contributes, so that two grants worked on apart would race on it.
//!
//! ```text
//!  kube-apiserver ──watch──▶ World ──due(client)──▶ Queue ──▶ reconcile ───────────▶ status
//!    grants, providers,       │ views by client      lanes:    observe ─▶ plan ─▶ act   (only if changed)
//!    identities, quarantines, │                      end >        ▲                │
//!    namespaces, the record   │                      narrow >     └── read back ───┘
//!                             │                      apply >        ▲
//!                             │                      drift ◀── timers, drift check, hints of the hook
//!                             └─▶ ClientView ─▶ decide ◀── token hook, consent decision
//! ```
//!
//! - [`api`]: the custom resources as they are stored, and their schemas.
//! - [`grant`]: the domain, pure. Everything that decides is a total function of values and `now`:
//!   how a grant stands, what the client may hold, what is to be done, what status says, whether a token
//!   may be issued. Status and decision points call the same functions, so they cannot disagree.
//! - [`world`]: everything the operator was told, indexed by client; hands out immutable views.
//! - [`idp`]: the port to identity providers; a plan's steps are idempotent data.
//! - [`controller`]: the shell. It takes the most urgent client, reads the IdP, plans, acts, **reads again
//!   until the plan is empty**, and publishes what came of it.
//! - [`lease`]: of several replicas one writes; all of them answer.
//! - [`sharing`]: which clients a workload can act as, pure; `clientgrant scan` and [`controller::sharing`] ask it.
//! - [`serve`]: token hook, consent decision, health. In doubt the answer is no.
//!
//! Three promises shape the code. *Ending authority is two passes*: revoke at once, and once more when
//! every answer that was already given has run out ([`grant::plan`]). *A write proves nothing*: `Ready`
//! follows a read-back ([`grant::verdict`]). *Nothing is concluded from an incomplete answer*: no list cut
//! short, no watch that has not been read to its end ([`world::World::complete`]).

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controller;
pub mod correlation;
pub mod discovery;
pub mod grant;
pub mod hex;
pub mod idp;
pub mod lease;
pub mod serve;
pub mod sharing;
pub mod telemetry;
pub mod turns;
pub mod world;

/// Installs the one TLS provider of the process. Calling it again does nothing.
pub fn install_tls() {
    // An error only says that one is installed already.
    _ = rustls::crypto::ring::default_provider().install_default();
}
