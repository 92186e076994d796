//! The test bed of clientgrant: real servers without containers.
//!
//! It builds, starts, breaks and stops what the operator works with, so that tests, demonstration
//! and benchmark run against real software: etcd, kube-apiserver, kube-controller-manager,
//! kubectl and Helm, and Ory Hydra with its tokens, consents and token hook. Nothing here is needed to use
//! the operator.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use clientgrant_testbed::{ControlPlane, Hydra, HydraOptions, Iproxy, Tools};
//!
//! let tools = Tools::find()?;
//! let plane = ControlPlane::start(&tools).await?;
//! let hydra = Hydra::start(&tools, HydraOptions::default()).await?;
//! let proxy = Iproxy::start(hydra.admin_url())?;
//! plane.kubectl(&["get", "namespaces"]).await?;
//! # Ok(())
//! # }
//! ```
//!
//! | what | where |
//! |---|---|
//! | builds and finds the servers | [`Tools`] |
//! | child processes that never outlive this one | [`Process`] |
//! | files of a run, kept when something failed | [`RunDir`] |
//! | secrets that nobody may repeat | [`canary`] |
//! | a Kubernetes control plane, kubectl, users | [`ControlPlane`] |
//! | Helm and the chart | [`helm::Helm`] |
//! | a kubelet that runs the operator's pods as processes | [`Kubelet`] |
//! | Hydra and its admin API | [`Hydra`], [`HydraAdmin`] |
//! | browser and login app | [`UserAgent`] |
//! | consent apps, honest and not | [`ConsentApp`] |
//! | a client at the token endpoint | [`OAuthClient`] |
//! | counting, holding and breaking requests | [`Proxy`]: [`Iproxy`], [`Kproxy`] |
//! | killing a process at an exact request | [`kill_at`], [`kill_when`] |
//! | certificates that one may break | [`Authority`] |
//! | the operator under test | [`Operator`] |
//! | all of it, wired together | [`bed::Bed`] |
//! | a thousand clients, and what they cost | [`scale::Fleet`] |
//! | a tenant in a hurry beside another one | [`hot::Tenant`] |
//! | how long the machine stood still | [`Stall`] |
//! | the schema of SARIF logs | [`sarif::schema`] |
//! | the image, without a container engine | [`image::layout::Image`] |
//!
//! Everything listens on loopback only, on ports that it found free, and ends with the value that
//! stands for it. A value in a `static` is never dropped: its processes and files go when the
//! process ends.
//!
//! A failure is a panic to the test bed: then the path of the logs is printed and they stay.
//! `TESTBED_KEEP=1` keeps them always.

pub mod bed;
pub mod canary;
mod certs;
mod consent_app;
mod control_plane;
pub mod helm;
pub mod hot;
mod hydra;
mod hydra_admin;
pub mod image;
mod iproxy;
mod kproxy;
mod kubeconfig;
mod kubectl;
mod kubelet;
mod module;
pub mod net;
mod oauth_client;
mod operator;
mod process;
mod proxy;
pub mod reports;
mod run_dir;
pub mod sarif;
pub mod scale;
mod stall;
mod tools;
mod user_agent;

pub use certs::{Authority, Pair};
pub use consent_app::{Answer, ConsentApp, DecisionEndpoint, Mutate, Produce, Said};
pub use control_plane::{ControlPlane, ControlPlaneOptions};
pub use hydra::{Hydra, HydraOptions, Storage, TokenHook};
pub use hydra_admin::{Challenge, HydraAdmin};
pub use iproxy::Iproxy;
pub use kproxy::Kproxy;
pub use kubectl::KubectlOutput;
pub use kubelet::{Kubelet, Seen};
pub use net::free_port;
pub use oauth_client::{ClientAuth, OAuthClient, TokenOutcome};
pub use operator::{Operator, OperatorOptions};
pub use process::Process;
pub use proxy::{Action, Hold, Proxy, Recorded, Side, kill_at, kill_when};
pub use run_dir::RunDir;
pub use stall::Stall;
pub use tools::{Maester, Tools};
pub use user_agent::{AuthOutcome, AuthRequest, UserAgent};
