//! The port: what the operator asks of an identity provider, whichever it is.
//!
//! A provider is one file below and one line in the table. It declares [`Capabilities`] and carries out
//! [`Step`]s, which are idempotent data: whether, when and in which order is decided in [`crate::grant`],
//! never here. Dispatch is static.

pub mod http;
pub mod hydra;
pub mod memory;
pub(crate) mod resolver;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::grant::consent::Consent;
use crate::grant::fault::Fault;
use crate::grant::observed::{Found, ObservedClient};
use crate::grant::plan::Step;
use crate::grant::{Authority, Capabilities, ProviderKey};
use crate::lease::{Leadership, Leave, Term};
use crate::sharing::registration::Registration;

/// Leave to write at an IdP: this replica leads, the provider enforces, and this is the generation of it
/// that was read. Only [`crate::world::World::permit`] makes one; whether it still holds is asked once
/// more when nothing but the sending itself is left to do.
#[derive(Clone, Debug)]
pub struct Permit {
    pub(crate) generation: i64,
    /// The provider's generation now; negative while nothing may be written.
    pub(crate) now: Arc<AtomicI64>,
    pub(crate) leadership: Arc<Leadership>,
    pub(crate) leave: Leave,
    pub(crate) term: Term,
}

impl Permit {
    /// Whether it still holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.now.load(Ordering::Acquire) == self.generation && self.leadership.still(self.leave, &self.term)
    }

    /// An error once it does not hold any more: then nothing may be sent.
    ///
    /// # Errors
    /// It does not hold.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let late = || Fault::retry("the operator may not write at the identity provider any more");
        self.holds().then_some(()).ok_or_else(late)
    }

    /// What it is good for.
    #[must_use]
    pub fn leave(&self) -> Leave {
        self.leave
    }
}

/// How urgent a call is. Ending authority does not wait for the rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Something ends.
    Ending,
    /// Everything else.
    Ordinary,
}

/// What a provider says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// The IdP's own version string.
    pub version: Option<String>,
    /// The `issuer` of its discovery document; `None`: it could not be read from here.
    pub issuer: Option<String>,
}

/// A write to be carried out.
#[derive(Clone, Debug)]
pub struct Write<'a> {
    /// Leave to write.
    pub permit: &'a Permit,
    /// OAuth 2.0 `client_id`.
    pub client: &'a str,
    /// What to do.
    pub step: &'a Step,
    /// The ceiling that [`Step::SetRegistration`] sets.
    pub ceiling: &'a Authority,
    /// This cluster's mark.
    pub cluster: &'a str,
    /// How urgent.
    pub urgency: Urgency,
}

/// Says of a client whether its registration is to be kept.
pub type Wanted<'a> = &'a (dyn Fn(&str, &ObservedClient) -> bool + Sync);

/// Clients of which is asked how they are registered.
#[derive(Clone, Copy, Debug)]
pub struct Spoken<'a> {
    /// Of which provider object.
    pub provider: &'a ProviderKey,
    /// The clients' ids.
    pub clients: &'a BTreeSet<Arc<str>>,
}

impl Spoken<'_> {
    pub(crate) fn has(of: Option<&Self>, client: &str) -> Option<ProviderKey> {
        of.filter(|of| of.clients.contains(client)).map(|of| of.provider.clone())
    }
}

/// What a complete list of clients brought.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// Those that are wanted.
    pub clients: BTreeMap<String, ObservedClient>,
    /// How those that were asked about are registered.
    pub registrations: Vec<Registration>,
}

macro_rules! providers {
    ($($(#[$doc:meta])* $name:ident($type:ty),)+) => {
        /// The table of providers.
        #[derive(Debug)]
        #[expect(clippy::large_enum_variant, reason = "one value for each provider object, behind an Arc")]
        pub enum Idp {
            $($(#[$doc])* $name($type),)+
        }

        impl Idp {
            /// What this provider can do.
            #[must_use]
            pub fn capabilities(&self) -> Capabilities {
                match self { $(Idp::$name(idp) => idp.capabilities(),)+ }
            }

            /// Reads version and issuer.
            ///
            /// # Errors
            /// The IdP could not be read.
            pub async fn probe(&self) -> Result<Probe, Fault> {
                match self { $(Idp::$name(idp) => idp.probe().await,)+ }
            }

            /// Reads one client.
            ///
            /// # Errors
            /// No definite answer; [`Found::Absent`] is a definite one.
            pub async fn observe_client(&self, client: &str, urgency: Urgency) -> Result<Found, Fault> {
                match self { $(Idp::$name(idp) => idp.observe_client(client, urgency).await,)+ }
            }

            /// Reads every client, completely, and keeps those that are wanted.
            ///
            /// # Errors
            /// No complete list: nothing may be concluded from what is not in it.
            pub async fn observe_clients(&self, wanted: Wanted<'_>) -> Result<BTreeMap<String, ObservedClient>, Fault> {
                Ok(self.list_clients(wanted, None).await?.clients)
            }

            /// The same, and how some of them are registered, by the same list.
            ///
            /// # Errors
            /// No complete list.
            pub async fn list_clients(&self, wanted: Wanted<'_>, spoken: Option<Spoken<'_>>) -> Result<Listed, Fault> {
                match self { $(Idp::$name(idp) => idp.list_clients(wanted, spoken.as_ref()).await,)+ }
            }

            /// Reads the consents of one subject for one client, completely.
            ///
            /// # Errors
            /// No complete list.
            pub async fn observe_consents(&self, client: &str, subject: &str, urgency: Urgency) -> Result<Vec<Consent>, Fault> {
                match self { $(Idp::$name(idp) => idp.observe_consents(client, subject, urgency).await,)+ }
            }

            /// Reads the consents of one subject for all clients, completely, and keeps those of the clients that
            /// are wanted.
            ///
            /// # Errors
            /// No complete list.
            pub async fn observe_subject(
                &self,
                subject: &str,
                wanted: &(dyn Fn(&str) -> bool + Sync),
            ) -> Result<BTreeMap<String, Vec<Consent>>, Fault> {
                match self { $(Idp::$name(idp) => idp.observe_subject(subject, wanted).await,)+ }
            }

            /// Carries out one step. Success is the IdP's word only; what holds is what is read afterwards.
            ///
            /// # Errors
            /// It was not carried out, or nobody knows.
            pub async fn execute(&self, write: Write<'_>) -> Result<(), Fault> {
                match self { $(Idp::$name(idp) => idp.execute(write).await,)+ }
            }
        }
    };
}

providers! {
    /// Ory Hydra.
    Hydra(hydra::Hydra),
    /// The reference model, in process.
    Memory(memory::Memory),
}
