//! Every rule of the schema is checked again where an object is read: old objects and ratcheting bypass it.

use clientgrant::api::{ClientGrantSpec, Subject as Named, SubjectKind};
use clientgrant::grant::{GrantType, Subject, parse};

use crate::support::*;

fn read(subject: &Subject, change: impl FnOnce(&mut ClientGrantSpec)) -> Result<(), String> {
    let object = with(object("g", "1", subject), |o| change(&mut o.spec));
    parse::grant(&object).expect("it has a UID").terms.map(drop)
}

#[test]
fn what_the_schema_refuses_gives_nothing_when_it_is_stored_all_the_same() {
    for subject in [user("ann"), Subject::Any, Subject::Own] {
        assert_eq!(read(&subject, |_| {}), Ok(()), "positive control: {subject:?}");
    }
    let user = |change: fn(&mut ClientGrantSpec)| read(&user("ann"), change).unwrap_err();
    let own = |change: fn(&mut ClientGrantSpec)| read(&Subject::Own, change).unwrap_err();
    let named = |kind, id: Option<&str>| Named { kind, id: id.map(str::to_owned) };
    for (why, field) in [
        (user(|s| s.client_id = String::new()), "spec.clientID"),
        (user(|s| s.client_id = "a b".into()), "spec.clientID"),
        (user(|s| s.client_id = "ä".into()), "spec.clientID"),
        (read(&ann(), |s| s.subject = Some(named(SubjectKind::User, None))).unwrap_err(), "spec.subject.id"),
        (read(&ann(), |s| s.subject = Some(named(SubjectKind::User, Some("a\n")))).unwrap_err(), "spec.subject.id"),
        (read(&ann(), |s| s.subject = Some(named(SubjectKind::Any, Some("a")))).unwrap_err(), "spec.subject.id"),
        (user(|s| s.subject = None), "spec.subject"),
        (user(|s| s.scopes = vec![]), "spec.scopes"),
        (user(|s| s.scopes = vec!["read".into(), "*".into()]), "spec.scopes"),
        (user(|s| s.scopes = vec!["a*".into()]), "spec.scopes"),
        (user(|s| s.scopes = vec!["a b".into()]), "spec.scopes"),
        (user(|s| s.scopes = vec!["a\"".into()]), "spec.scopes"),
        (user(|s| s.scopes = vec!["a\\".into()]), "spec.scopes"),
        (user(|s| s.scopes = vec![String::new()]), "spec.scopes"),
        (own(|s| s.scopes.push("openid".into())), "spec.scopes"),
        (user(|s| s.audiences = vec![String::new()]), "spec.audiences"),
        (user(|s| s.audiences = vec!["a\n".into()]), "spec.audiences"),
        (user(|s| s.grant_types = vec![GrantType::ClientCredentials]), "spec.grantTypes"),
        (own(|s| s.grant_types = vec![GrantType::AuthorizationCode]), "spec.grantTypes"),
        (own(|s| s.grant_types = vec![GrantType::ClientCredentials, GrantType::RefreshToken]), "spec.grantTypes"),
        (user(|s| s.expires_at = "tomorrow".into()), "spec.expiresAt"),
        (user(|s| s.not_before = Some("yesterday".into())), "spec.notBefore"),
        (user(|s| s.not_before = Some(s.expires_at.clone())), "spec.notBefore"),
        (user(|s| s.not_before = Some("9998-01-01T00:00:00Z".into())), "spec.notBefore"),
    ] {
        assert!(why.starts_with(field), "{field}: {why}");
    }
}

fn ann() -> Subject {
    Subject::User("ann".into())
}
