//! Kubernetes Events for what somebody should notice about a grant or a client.
//!
//! The normal course of things (granted, waits for its subject) has none: status tells it, and an Event more
//! for each write would double them. Events are a courtesy: nothing waits for them, and when more come than
//! the API server takes, they are dropped.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use super::publish::MANAGER;
use crate::api::condition::{ConditionType, Reason, find_condition};
use crate::api::{ClientGrantStatus, GROUP, VERSION};
use crate::world::Entry;

/// Events that wait to be written.
const WAITING: usize = 256;

/// Takes Events in, and forgets those that are too many.
#[derive(Debug)]
pub struct Events {
    send: mpsc::Sender<(Event, ObjectReference)>,
}

impl Events {
    /// Starts writing. `replica` is this pod's name.
    #[must_use]
    pub fn start(kube: kube::Client, replica: String) -> Self {
        let (send, mut waiting) = mpsc::channel::<(Event, ObjectReference)>(WAITING);
        tokio::spawn(async move {
            let recorder = Recorder::new(kube, Reporter { controller: MANAGER.into(), instance: Some(replica) });
            while let Some((event, about)) = waiting.recv().await {
                if let Err(error) = recorder.publish(&event, &about).await {
                    tracing::debug!(%error, "an Event could not be written");
                }
            }
        });
        Self { send }
    }

    /// A grant's status was written: tells what is new in it, if somebody should notice.
    pub fn told(&self, entry: &Entry, status: &ClientGrantStatus) {
        let Some((warning, reason, note)) = news(entry.status.as_deref(), status) else { return };
        let name = &entry.grant.name;
        let type_ = if warning { EventType::Warning } else { EventType::Normal };
        let about = ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some("ClientGrant".into()),
            namespace: Some(name.namespace.clone()),
            name: Some(name.name.clone()),
            uid: Some(entry.grant.uid.to_string()),
            ..ObjectReference::default()
        };
        self.say(type_, reason.as_str(), note, about);
    }

    /// Tells something about an object.
    pub fn say(&self, type_: EventType, reason: &str, note: String, about: ObjectReference) {
        let action = if type_ == EventType::Warning { "Check" } else { "End" };
        let (reason, note, action) = (reason.to_owned(), Some(note), action.to_owned());
        let event = Event { type_, reason, note, action, secondary: None };
        // Full: whoever looks at the objects sees it all the same.
        _ = self.send.try_send((event, about));
    }
}

/// What is new and worth an Event: whether it is a warning, its reason and its words.
fn news(old: Option<&ClientGrantStatus>, new: &ClientGrantStatus) -> Option<(bool, Reason, String)> {
    let ready = |status: &ClientGrantStatus| {
        let ready = find_condition(&status.conditions, ConditionType::Ready)?;
        Some((Reason::parse(&ready.reason)?, ready.message.clone()))
    };
    let (reason, message) = ready(new)?;
    if old.and_then(ready).is_some_and(|(before, _)| before == reason) {
        return None;
    }
    let warning = match reason {
        Reason::Expired | Reason::Suspended | Reason::Quarantined | Reason::RegistrationChanged => false,
        Reason::Granted
        | Reason::Progressing
        | Reason::ProviderUnavailable
        | Reason::AwaitingConsent
        | Reason::NotYetValid
        | Reason::Observed
        | Reason::Revoking => return None,
        _ => true,
    };
    Some((warning, reason, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition::{ConditionStatus, set_condition};

    fn said(reason: Reason) -> ClientGrantStatus {
        let mut status = ClientGrantStatus::default();
        let now = crate::clock::now();
        let (type_, value) = (ConditionType::Ready, ConditionStatus::False);
        set_condition(&mut status.conditions, type_, value, reason, "What to do.", Some(1), now);
        status
    }

    #[test]
    fn only_what_somebody_should_notice_and_only_once() {
        let told = |old: Option<Reason>, new: Reason| {
            news(old.map(said).as_ref(), &said(new)).map(|(warning, reason, _)| (warning, reason))
        };
        assert_eq!(told(None, Reason::Conflict), Some((true, Reason::Conflict)));
        assert_eq!(told(Some(Reason::Granted), Reason::Expired), Some((false, Reason::Expired)));
        assert_eq!(told(Some(Reason::Granted), Reason::ConsentRemoved), Some((true, Reason::ConsentRemoved)));
        assert_eq!(told(Some(Reason::Expired), Reason::Expired), None);
        assert_eq!(told(None, Reason::AwaitingConsent), None);
        assert_eq!(told(Some(Reason::AwaitingConsent), Reason::Granted), None);
        assert_eq!(news(None, &ClientGrantStatus::default()), None);
    }
}
