//! One listed consent, and how it stands to a grant.
//!
//! A consent carries the context that our consent decision handed to the consent app. Its proof says
//! that we wrote it for this very challenge, grant, end, scopes and audiences; an app cannot make one up.

use super::{Audiences, Grant, Scopes, Terms, Timestamp};

/// One consent as the IdP lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// The consent request it answered: what the token hook names.
    pub challenge: String,
    /// What the consent app granted, which may go beyond what was asked.
    pub scopes: Scopes,
    /// Likewise.
    pub audiences: Audiences,
    /// Later logins skip the consent app, and appear in no list.
    pub remembered: bool,
    /// What it carries of ours.
    pub context: Option<Context>,
    /// When the subject answered.
    pub handled_at: Option<Timestamp>,
}

/// What our consent decision puts into a consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// UID of the grant.
    pub grant: String,
    /// `purpose.id` of the grant, as the subject was shown it.
    pub purpose: String,
    /// The end that was consented.
    pub expires_at: Timestamp,
    /// The proof was right.
    pub genuine: bool,
}

/// Why a consent gives nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It lets later logins skip the consent app.
    Remembered,
    /// The consent app did not ask the operator.
    NoContext,
    /// It was given under another grant.
    OtherGrant,
    /// The context was not written by the operator for this consent.
    Forged,
    /// Its end has passed.
    Ended,
    /// These scopes go beyond the grant.
    Scopes(Scopes),
    /// These audiences go beyond the grant.
    Audiences(Audiences),
    /// The grant names audiences and the consent has none.
    NoAudience,
}

/// The audience rule: none declared, none permitted; else at least one of the declared and none else.
///
/// # Errors
/// What is beyond, or that one is missing.
pub fn check_audiences(asked: &Audiences, declared: &Audiences) -> Result<(), Flaw> {
    let beyond = asked.beyond(declared);
    if !beyond.is_empty() {
        return Err(Flaw::Audiences(beyond));
    }
    if asked.is_empty() && !declared.is_empty() {
        return Err(Flaw::NoAudience);
    }
    Ok(())
}

impl Consent {
    /// Whether this consent gives what it says, under `grant`, now.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self, grant: &Grant, terms: &Terms, now: Timestamp) -> Result<(), Flaw> {
        if self.remembered {
            return Err(Flaw::Remembered);
        }
        let context = self.context.as_ref().ok_or(Flaw::NoContext)?;
        if context.grant != *grant.uid {
            return Err(Flaw::OtherGrant);
        }
        let beyond = self.scopes.beyond(&terms.authority.scopes);
        if !beyond.is_empty() {
            return Err(Flaw::Scopes(beyond));
        }
        check_audiences(&self.audiences, &terms.authority.audiences)?;
        if !context.genuine {
            return Err(Flaw::Forged);
        }
        if context.expires_at <= now {
            return Err(Flaw::Ended);
        }
        Ok(())
    }

    /// Whether the pair must be ended because of this entry, whatever else is listed: it carries more
    /// than the grant, belongs to another grant, or lets later logins skip.
    ///
    /// A wrong proof alone is not enough: decision points refuse it at once, and a key rotated by
    /// mistake must not destroy consents for good.
    #[must_use]
    pub fn taints(&self, grant: &Grant, terms: &Terms) -> bool {
        self.remembered
            || !self.scopes.within(&terms.authority.scopes)
            || !self.audiences.within(&terms.authority.audiences)
            || self.context.as_ref().is_some_and(|c| c.grant != *grant.uid)
    }
}

/// What the listed consents of a pair mean for a live grant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The newest consent in force: since when, and until when.
    pub consent: Option<Standing>,
    /// The pair must be ended as a whole.
    pub tainted: bool,
}

/// A consent in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// When the subject answered.
    pub since: Timestamp,
    /// The end that was consented, never later than the grant's.
    pub until: Timestamp,
    /// What was approved.
    pub scopes: Scopes,
}

/// Reads the complete list of a pair.
#[must_use]
pub fn read(listed: &[Consent], grant: &Grant, terms: &Terms, now: Timestamp) -> Reading {
    let consent = listed
        .iter()
        .filter(|c| c.check(grant, terms, now).is_ok())
        .filter_map(|c| {
            Some(Standing {
                since: c.handled_at.unwrap_or(now),
                until: c.context.as_ref()?.expires_at.min(terms.expires_at),
                scopes: c.scopes.clone(),
            })
        })
        .max_by_key(|s| s.until);
    let ended = |c: &Consent| c.context.as_ref().is_some_and(|x| x.expires_at <= now);
    let tainted = listed.iter().any(|c| c.taints(grant, terms)) || (consent.is_none() && listed.iter().any(ended));
    Reading { consent, tainted }
}
