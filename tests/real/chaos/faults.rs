//! What goes wrong, and where: a call of one object, told by what it is and which of its kind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use clientgrant_testbed::{Action, Recorded};
use serde_json::json;

/// Which of the two servers a call goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// Hydra.
    Idp,
    /// The API server.
    Api,
}

/// What goes wrong with one call, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// That status, as the server itself would say it; with 429 comes `Retry-After: 1`.
    Status(u16),
    Garbage,
    Truncated,
    LostRequest,
    LostResponse,
    Twice,
    BlackHole,
    /// SIGKILL before the server sees it.
    KillBefore,
    /// SIGKILL before the answer is delivered.
    KillAfter,
    /// SIGKILL before the edit, and so before the first call.
    KillFirst,
}

use Fault::{
    BlackHole, Garbage, KillAfter, KillBefore, KillFirst, LostRequest, LostResponse, Status, Truncated, Twice,
};

impl Fault {
    /// Of a call to Hydra.
    pub const IDP: [Self; 14] = [
        Status(401),
        Status(403),
        Status(404),
        Status(409),
        Status(410),
        Status(429),
        Status(500),
        Status(503),
        Garbage,
        Truncated,
        LostRequest,
        LostResponse,
        Twice,
        BlackHole,
    ];
    /// Of a call to the API server.
    pub const API: [Self; 13] = [
        Status(401),
        Status(403),
        Status(404),
        Status(409),
        Status(410),
        Status(429),
        Status(500),
        Status(503),
        Garbage,
        Truncated,
        LostRequest,
        LostResponse,
        BlackHole,
    ];

    pub fn kills(self) -> bool {
        matches!(self, KillBefore | KillAfter | KillFirst)
    }

    fn action(self, at: At) -> Action {
        match self {
            Status(code) => {
                let again = (code == 429).then(|| ("retry-after".to_owned(), "1".to_owned()));
                Action::AnswerWith(code, again.into_iter().collect(), said(at, code))
            }
            Garbage => Action::Garbage,
            Truncated => Action::Truncate(7),
            LostRequest => Action::DropRequest,
            LostResponse => Action::DropResponse,
            Twice => Action::Twice,
            BlackHole => Action::Blackhole,
            KillBefore | KillAfter | KillFirst => Action::Forward,
        }
    }
}

/// An error in the words of the server. Hydra's 404 is the one that says "no such client".
fn said(at: At, code: u16) -> String {
    let body = match at {
        At::Idp => json!({"error": "chaos", "error_description": "made by the test"}),
        At::Api => {
            let reason = match code {
                401 => "Unauthorized",
                403 => "Forbidden",
                404 => "NotFound",
                409 => "Conflict",
                410 => "Expired",
                429 => "TooManyRequests",
                500 => "InternalError",
                _ => "ServiceUnavailable",
            };
            json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
                "message": "made by the test",
            })
        }
    };
    body.to_string()
}

/// A call by what it is: `PATCH client`, `DELETE pair` and so on.
pub type Shape = &'static str;

/// One point: the fault and the call that it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    pub at: At,
    /// Of these the `nth`, from 1.
    pub shape: Shape,
    pub nth: usize,
    pub fault: Fault,
}

/// The name of the object that a call is about, and what the call is.
pub fn tell(at: At, r: &Recorded) -> Option<(String, Shape)> {
    let found = [&r.path_and_query, &r.body].into_iter().find_map(|text| {
        let from = text.find("chaos-")?;
        text.get(from..from + 11)
    })?;
    let (path, method) = (r.path(), r.method.as_str());
    if path.ends_with("/events") {
        // A courtesy that nothing waits for.
        return None;
    }
    let shape = match (at, method) {
        (At::Idp, "GET") if path.starts_with("/admin/clients/") => "GET client",
        (At::Idp, "PATCH") if path.starts_with("/admin/clients/") => "PATCH client",
        (At::Idp, "GET") if path.ends_with("/sessions/consent") => "GET consents",
        (At::Idp, "DELETE") if path.ends_with("/sessions/consent") => "DELETE pair",
        (At::Idp, "DELETE") if path.ends_with("/oauth2/tokens") => "DELETE tokens",
        (At::Api, "PATCH") if path.ends_with("/status") => "PATCH status",
        (At::Api, "PATCH") if path.contains("/clientgrants/") => "PATCH finalizers",
        (At::Api, "PATCH") if path.contains("/configmaps/") => "PATCH record",
        (At::Api, "POST") if path.ends_with("/configmaps") => "POST record",
        _ => "another",
    };
    Some((found.to_owned(), shape))
}

#[derive(Default)]
struct Seen {
    spot: Option<Spot>,
    /// Since it was armed.
    calls: Vec<(At, Shape)>,
    fired: Option<Instant>,
    written: Option<Instant>,
}

/// What was seen of every object, and what is to happen to it. One for both proxies.
#[derive(Clone, Default)]
pub struct Engine(Arc<Mutex<BTreeMap<String, Seen>>>);

impl Engine {
    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on its calls are counted, and one is hit.
    pub fn arm(&self, name: &str, spot: Option<Spot>) {
        let mut seen = self.seen();
        let seen = seen.entry(name.to_owned()).or_default();
        (seen.spot, seen.calls, seen.fired) = (spot, Vec::new(), None);
    }

    /// What the proxy asks about each request.
    pub fn act(&self, at: At, r: &Recorded) -> Action {
        let Some((name, shape)) = tell(at, r) else { return Action::Forward };
        let mut seen = self.seen();
        let seen = seen.entry(name).or_default();
        if r.is_write() {
            seen.written = Some(Instant::now());
        }
        seen.calls.push((at, shape));
        let nth = seen.calls.iter().filter(|call| **call == (at, shape)).count();
        match seen.spot {
            Some(spot) if !spot.fault.kills() && (spot.at, spot.shape, spot.nth) == (at, shape, nth) => {
                seen.fired = Some(Instant::now());
                spot.fault.action(at)
            }
            _ => Action::Forward,
        }
    }

    /// It has happened by other hands.
    pub fn fire(&self, name: &str) {
        self.seen().entry(name.to_owned()).or_default().fired.get_or_insert_with(Instant::now);
    }

    pub fn fired(&self, name: &str) -> Option<Instant> {
        self.seen().get(name)?.fired
    }

    /// The last write about it, at either server.
    pub fn written(&self, name: &str) -> Option<Instant> {
        self.seen().get(name)?.written
    }

    /// Its calls since it was armed.
    pub fn calls(&self, name: &str) -> Vec<(At, Shape)> {
        self.seen().get(name).map(|seen| seen.calls.clone()).unwrap_or_default()
    }
}
