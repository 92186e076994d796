//! Condition types and reasons, and how a condition is set.
//!
//! Every type and every reason that the operator writes is a value here, so that a reader can find
//! them all in one place. A condition carries the generation it was computed for: `kubectl wait`
//! compares it, and a stale `True` would pass otherwise.

use std::fmt;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::bounds;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

macro_rules! closed_words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $word:ident,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$inner])* $word,)+
        }

        impl $name {
            /// Every value, in the order of the declaration.
            pub const ALL: &'static [Self] = &[$(Self::$word,)+];

            /// The word as it is written to the cluster.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$word => stringify!($word),)+
                }
            }

            /// The value that is written as `word`.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

closed_words! {
    /// What a condition speaks about.
    ConditionType {
        /// The object is converged: what it asks for was read back, or cannot be had and says why.
        Ready,
        /// The grant is in force.
        Active,
        /// Work is under way (read by kstatus).
        Reconciling,
        /// Nothing more happens without a person (read by kstatus).
        Stalled,
        /// Every part of the grant is held by some enforcement point.
        Enforced,
        /// The provider differs from what is declared.
        Drifted,
        /// Nothing but the client's own workloads can act as it.
        CredentialExclusive,
        /// The client is registered as it was accepted.
        RegistrationUnchanged,
        /// The provider answers.
        Reachable,
        /// The provider accepts our credentials.
        Authenticated,
        /// The provider permits every call that we need.
        Permitted,
        /// The version of the provider is one that was verified.
        Verified,
        /// The provider asks our token hook before it issues tokens.
        TokenHook,
        /// Removals of what nobody declares wait for a person.
        SweepHeld,
        /// Anybody may register clients at the provider.
        RegistrationOpen,
        /// A revocation that outlived its grant is read back.
        Done,
        /// Our clock and the clock of the API server or the provider differ too much.
        ClockSkew,
    }
}

closed_words! {
    /// The status of a condition.
    ConditionStatus {
        /// It is so.
        True,
        /// It is not so.
        False,
        /// It is not known.
        Unknown,
    }
}

closed_words! {
    /// Why a condition has its status. Each reason has a page in the documentation.
    Reason {
        /// In force, read back.
        Granted,
        /// Work is under way.
        Progressing,
        /// The provider does not answer.
        ProviderUnavailable,
        /// Waits for the subject to consent at the provider.
        AwaitingConsent,
        /// The consent had been seen and is gone; by whom is unknown.
        ConsentRemoved,
        /// The subject withdrew the consent, proved.
        WithdrawnBySubject,
        /// Before `notBefore`.
        NotYetValid,
        /// The end passed, confirmed at the provider.
        Expired,
        /// `suspend` is set, confirmed at the provider.
        Suspended,
        /// A ClientQuarantine names the client, confirmed at the provider.
        Quarantined,
        /// The provider is only observed; compared.
        Observed,
        /// The provider's token hook is not proved to call us.
        HookNotProved,
        /// The client holds more than its grants, and nobody said that we may take it over.
        AdoptionNeeded,
        /// Another grant holds the same issuer, client and subject.
        Conflict,
        /// The provider's rules refuse the grant.
        NotAllowed,
        /// The provider cannot hold this combination.
        NotSupported,
        /// The subject equals the id of a client that acts for itself.
        SubjectClientCollision,
        /// The client is managed from another cluster.
        ForeignClient,
        /// The provider object does not exist.
        ProviderNotFound,
        /// The provider does not know the client.
        UnknownClient,
        /// The provider does not know the subject.
        UnknownSubject,
        /// The provider does not know a scope.
        UnknownScope,
        /// The provider does not know an audience.
        UnknownAudience,
        /// The provider refuses us (401, 403).
        ProviderDenied,
        /// The object is wrong in a way that the schema let through.
        InvalidSpec,
        /// The end passed, and the revocation is not confirmed.
        RevocationOverdue,
        /// Being deleted: the revocation is under way.
        Revoking,
        /// Being deleted: the revocation cannot be done.
        RevocationBlocked,
        /// Being ended although the grant is gone, and no provider object speaks for the issuer any more.
        CredentialLost,
        /// Every part is held by an enforcement point.
        AllPartsHeld,
        /// Some part is held by no enforcement point.
        PartlyEnforced,
        /// No part is held: the provider is only a model.
        NothingEnforced,
        /// Some enforcement point is not proved.
        NotProved,
        /// The provider holds more than is declared.
        Excess,
        /// The provider holds less than is declared.
        Missing,
        /// The provider holds both more and less than is declared.
        ExcessAndMissing,
        /// The provider is checked, and usable.
        Connected,
        /// Another provider object speaks for the same issuer.
        IssuerTaken,
        /// The issuer that the provider announces is another one.
        IssuerMismatch,
        /// The operator's configuration does not permit the URL.
        URLNotAllowed,
        /// The referenced Secret or its key is missing.
        SecretNotFound,
        /// The provider refused our credentials.
        CredentialsRefused,
        /// The provider refused a call that we need.
        PermissionMissing,
        /// The version of the provider is not one that was verified.
        UnverifiedVersion,
        /// The token hook was seen to be called.
        Called,
        /// A token was issued without a call to the token hook.
        NotCalled,
        /// The provider cannot reach its token hook.
        HookUnreachable,
        /// A token hook refused, and it was not ours.
        NotSeen,
        /// More would be removed than the budget of an hour allows.
        BudgetExceeded,
        /// The cluster was restored from an older copy.
        ClusterRewound,
        /// Dynamic client registration is on.
        DynamicRegistration,
        /// The clocks differ too much.
        ClocksDiffer,
        /// The object was read and is taken into account.
        Accepted,
        /// The quarantine holds: every grant of the client is out of force, confirmed.
        InForce,
        /// Nothing else can act as the client.
        Exclusive,
        /// Something else can act as the client.
        SharedCredential,
        /// Whether something else can act as the client is not known.
        NotEvaluated,
        /// The client is registered as it was accepted.
        Unchanged,
        /// The client is not registered as it was accepted.
        RegistrationChanged,
        /// The client was registered anew under the same id, which makes it another.
        ClientReplaced,
        /// Nobody is known to hold the client or the issuer that is named.
        NothingToDo,
    }
}

/// Sets one condition in a list of them.
///
/// `lastTransitionTime` moves only with the status value, to `now` cut to the second. A message is
/// cut to [`bounds::MESSAGE`] characters. A new condition goes to the end; the others keep their
/// places. Where nothing changes, the list stays as it was, so that equal knowledge gives equal
/// bytes.
pub fn set_condition(
    list: &mut Vec<Condition>,
    type_: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let fresh = Condition {
        type_: type_.as_str().to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.as_str().to_owned(),
        message: bounds::fit(message, bounds::MESSAGE),
        observed_generation: generation,
        last_transition_time: Time(whole_second(now)),
    };
    match list.iter_mut().find(|old| old.type_ == fresh.type_) {
        None => list.push(fresh),
        Some(old) if old.status == fresh.status => {
            *old = Condition { last_transition_time: old.last_transition_time.clone(), ..fresh };
        }
        Some(old) => *old = fresh,
    }
}

/// Removes one condition from a list of them, if it is there.
pub fn remove_condition(list: &mut Vec<Condition>, type_: ConditionType) {
    list.retain(|condition| condition.type_ != type_.as_str());
}

/// Finds one condition in a list of them.
pub fn find_condition(list: &[Condition], type_: ConditionType) -> Option<&Condition> {
    list.iter().find(|condition| condition.type_ == type_.as_str())
}

fn whole_second(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "2026-11-24T09:00:00Z";
    const LATER: &str = "2026-11-24T10:00:00.75Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn one() -> Vec<Condition> {
        let mut list = Vec::new();
        let (type_, status) = (ConditionType::Active, ConditionStatus::True);
        set_condition(&mut list, type_, status, Reason::Granted, "In force.", Some(1), at(FIRST));
        list
    }

    #[test]
    fn a_new_condition_goes_to_the_end() {
        let mut list = one();
        let (type_, status) = (ConditionType::Ready, ConditionStatus::Unknown);
        set_condition(&mut list, type_, status, Reason::Progressing, "Wait.", Some(2), at(LATER));
        assert_eq!(list[0], one()[0]);
        assert_eq!(list.len(), 2);
        let json = serde_json::to_value(&list[1]).unwrap();
        let expected = serde_json::json!({
            "type": "Ready", "status": "Unknown", "reason": "Progressing", "message": "Wait.",
            "observedGeneration": 2, "lastTransitionTime": "2026-11-24T10:00:00Z",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn nothing_changed_changes_nothing() {
        let mut list = one();
        let (type_, status) = (ConditionType::Active, ConditionStatus::True);
        set_condition(&mut list, type_, status, Reason::Granted, "In force.", Some(1), at(LATER));
        assert_eq!(list, one());
    }

    #[test]
    fn the_time_moves_only_with_the_status() {
        let mut list = one();
        let (type_, status) = (ConditionType::Active, ConditionStatus::True);
        let overdue = Reason::RevocationOverdue;
        set_condition(&mut list, type_, status, overdue, "Late.", Some(2), at(LATER));
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].reason, "RevocationOverdue");
        assert_eq!(list[0].message, "Late.");
        assert_eq!(list[0].observed_generation, Some(2));
        assert_eq!(list[0].last_transition_time, Time(at(FIRST)));

        let status = ConditionStatus::False;
        set_condition(&mut list, type_, status, Reason::Expired, "Over.", Some(2), at(LATER));
        assert_eq!(list[0].last_transition_time, Time(at("2026-11-24T10:00:00Z")));
    }

    #[test]
    fn what_was_written_and_read_again_is_the_same() {
        let mut list: Vec<Condition> = serde_json::from_value(serde_json::to_value(one()).unwrap()).unwrap();
        assert_eq!(list, one());
        let (type_, status) = (ConditionType::Active, ConditionStatus::True);
        set_condition(&mut list, type_, status, Reason::Granted, "In force.", Some(1), at(LATER));
        assert_eq!(list, one());
    }

    #[test]
    fn a_long_message_is_cut() {
        let mut list = Vec::new();
        let (type_, status) = (ConditionType::Ready, ConditionStatus::False);
        let message = "ü".repeat(300);
        set_condition(&mut list, type_, status, Reason::InvalidSpec, &message, None, at(FIRST));
        assert_eq!(list[0].message.chars().count(), bounds::MESSAGE);
        assert!(list[0].message.ends_with("ü…"));
        let before = list.clone();
        set_condition(&mut list, type_, status, Reason::InvalidSpec, &message, None, at(LATER));
        assert_eq!(list, before);
    }

    #[test]
    fn removes_and_finds() {
        let mut list = one();
        assert_eq!(find_condition(&list, ConditionType::Active), Some(&one()[0]));
        assert_eq!(find_condition(&list, ConditionType::Ready), None);
        remove_condition(&mut list, ConditionType::Ready);
        assert_eq!(list, one());
        remove_condition(&mut list, ConditionType::Active);
        assert!(list.is_empty());
    }

    #[test]
    fn every_word_fits_the_schema_and_is_read_back() {
        let words = Reason::ALL
            .iter()
            .map(|reason| reason.as_str())
            .chain(ConditionType::ALL.iter().map(|type_| type_.as_str()));
        for word in words {
            assert!(word.len() <= 64 && word.starts_with(|first: char| first.is_ascii_uppercase()));
            assert!(word.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        }
        for &reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        }
        for &type_ in ConditionType::ALL {
            assert_eq!(ConditionType::parse(&type_.to_string()), Some(type_));
        }
        assert_eq!(ConditionStatus::parse("true"), None);
    }
}
