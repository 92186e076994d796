//! The only HTTP client: deadline, limits, size cap, and error words of our own.
//!
//! No redirect is followed, no body of the IdP reaches a message, and a URL is built from segments.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;
use tokio::time::Instant;

use super::resolver::{Reserved, Resolver};
use super::{Permit, Urgency};
use crate::correlation;
use crate::grant::fault::Fault;
use crate::telemetry::Calls;
use crate::turns::Gate;

/// A whole call, connect to last byte.
const DEADLINE: Duration = Duration::from_secs(10);
/// The largest answer that is read.
const LARGEST: usize = 4 << 20;
/// Lists and objects in an answer: a page of 500 clients has some thousands.
const MOST_CONTAINERS: usize = 40_000;
/// Commas in an answer.
const MOST_VALUES: usize = 200_000;

/// What Hydra says of two writes that met.
const SERIALIZE: &[u8] = b"Unable to serialize access due to a concurrent update";

/// One IdP's admin API.
#[derive(Debug)]
pub struct Http {
    client: reqwest::Client,
    base: Url,
    in_flight: Gate,
    rate: Rate,
    calls: Calls,
}

/// An answer whose status says that the server understood the question.
#[derive(Debug)]
pub struct Answer {
    /// Below 500, not 401, 403 or 429.
    pub status: StatusCode,
    /// Of the answer.
    pub headers: HeaderMap,
    /// At most 4 MiB.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// It is not JSON: a retry, because a proxy's error page looks like that.
    pub fn json(&self) -> Result<Value, Fault> {
        json(&self.body)
    }

    /// A status that this call does not expect.
    #[must_use]
    pub fn unexpected(&self) -> Fault {
        let why = format!("the identity provider answered with status {}", self.status.as_u16());
        // Hydra v2.3.0 calls two writes that met in its database a bad request.
        let met = self.body.windows(SERIALIZE.len()).any(|part| part == SERIALIZE);
        if self.status.is_client_error() && !met { Fault::NeedsPerson { why } } else { Fault::retry(why) }
    }
}

/// Spaces calls evenly: one every `1 / per_second`, with a burst of a tenth of a second.
#[derive(Debug)]
struct Rate {
    gap: Duration,
    next: Mutex<Instant>,
}

impl Rate {
    async fn wait(&self) {
        let at = {
            let mut next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let now = Instant::now();
            let earliest = now.checked_sub(Duration::from_millis(100)).unwrap_or(now);
            let at = (*next).max(earliest);
            *next = at + self.gap;
            at
        };
        tokio::time::sleep_until(at).await;
    }
}

impl Http {
    /// `base` is the API's root; `per_second` and `concurrency` are at least 1; the IdP's log tells
    /// replicas apart by `replica`.
    ///
    /// # Errors
    /// The TLS library could not be set up.
    pub fn new(base: Url, per_second: u32, concurrency: usize, replica: &str, calls: Calls) -> Result<Self, Fault> {
        let agent = format!("clientgrant/{} ({replica})", env!("CARGO_PKG_VERSION"));
        let client = client(Resolver::default(), |builder| {
            builder.connect_timeout(Duration::from_secs(3)).timeout(DEADLINE).user_agent(agent)
        })?;
        let rate = Rate { gap: Duration::from_secs(1) / per_second.max(1), next: Mutex::new(Instant::now()) };
        // The last place is for whoever else comes; look-ups of decisions are one of those that share.
        let share = concurrency.saturating_sub(1);
        Ok(Self { client, base, in_flight: Gate::new(concurrency, share), rate, calls })
    }

    /// Reads. `segments` become the path, each percent-encoded.
    ///
    /// # Errors
    /// No usable answer: unreachable, 401, 403, 429, 5xx, too large.
    pub async fn get(&self, segments: &[&str], query: &[(&str, &str)], urgency: Urgency) -> Result<Answer, Fault> {
        self.send(Method::GET, segments, query, None, urgency, None).await
    }

    /// Writes, if the permit still holds when everything that can make it wait is over.
    ///
    /// # Errors
    /// As for [`Http::get`]; or the permit does not hold any more, and nothing was sent.
    pub async fn write(
        &self,
        permit: &Permit,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
        urgency: Urgency,
    ) -> Result<Answer, Fault> {
        self.send(method, segments, query, body, urgency, Some(permit)).await
    }

    async fn send(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
        urgency: Urgency,
        permit: Option<&Permit>,
    ) -> Result<Answer, Fault> {
        let url = self.url(segments, query)?;
        if urgency == Urgency::Ordinary {
            let begin = Instant::now();
            self.rate.wait().await;
            self.calls.waited(begin.elapsed());
        }
        let place = tokio::time::timeout(DEADLINE, self.in_flight.enter()).await;
        let _place = place.map_err(|_| Fault::retry("the identity provider did not answer others in time"))?;
        let operation = operation(&method, segments);
        let mut request = self.client.request(method, url).header(correlation::HEADER, correlation::value());
        if let Some(body) = body {
            request = request.json(body);
        }
        permit.map_or(Ok(()), Permit::check)?;
        let begin = Instant::now();
        let answer = request.send().await;
        self.calls.made(operation, answer.as_ref().ok().map(|a| a.status().as_u16()), begin.elapsed());
        let answer = answer.map_err(|e| transport(&e))?;
        let status = answer.status();
        let headers = answer.headers().clone();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(Fault::NeedsPerson {
                    why: format!("the identity provider refuses the operator (status {})", status.as_u16()),
                });
            }
            StatusCode::TOO_MANY_REQUESTS => {
                return Err(Fault::Retry {
                    why: "the identity provider asks for fewer requests (status 429)".into(),
                    after: retry_after(&headers),
                });
            }
            _ if status.is_server_error() || status.is_redirection() => {
                return Err(Fault::Retry {
                    why: format!("the identity provider answered with status {}", status.as_u16()),
                    after: retry_after(&headers),
                });
            }
            _ => {}
        }
        Ok(Answer { status, headers, body: read(answer).await? })
    }

    fn url(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<Url, Fault> {
        let mut url = self.base.clone();
        {
            let unusable = || Fault::NeedsPerson { why: "the provider's URL cannot be a base".into() };
            let mut path = url.path_segments_mut().map_err(|()| unusable())?;
            path.pop_if_empty();
            for segment in segments {
                // The URL library drops these, and the call would reach another resource.
                if matches!(*segment, "" | "." | "..") || segment.chars().any(char::is_control) {
                    return Err(Fault::NeedsPerson { why: "a name cannot be part of a URL path".into() });
                }
                path.push(segment);
            }
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }
}

/// A client that connects where a URL says and nowhere else: no redirect, no proxy, no reserved address.
///
/// # Errors
/// The TLS library could not be set up.
pub(super) fn client(
    resolver: Resolver,
    with: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> Result<reqwest::Client, Fault> {
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    with(builder.dns_resolver(Arc::new(resolver)))
        .build()
        .map_err(|_| Fault::NeedsPerson { why: "the HTTP client could not be set up".into() })
}

/// A call in one word, without the names in it.
fn operation(method: &Method, segments: &[&str]) -> &'static str {
    match (method.as_str(), segments) {
        ("GET", ["admin", "clients"]) => "ListClients",
        ("GET", ["admin", "clients", _]) => "ReadClient",
        (_, ["admin", "clients", ..]) => "WriteClient",
        ("GET", [.., "sessions", "consent"]) => "ListConsents",
        ("DELETE", [.., "sessions", "consent"]) => "RevokeConsents",
        ("DELETE", ["admin", "oauth2", "tokens"]) => "DeleteTokens",
        _ => "Other",
    }
}

/// A body as JSON. A value of a few bytes may take hundreds in memory: their number has bounds too.
pub(crate) fn json(body: &[u8]) -> Result<Value, Fault> {
    let count = |of: &[u8]| body.iter().filter(|b| of.contains(b)).count();
    if count(b"[{") > MOST_CONTAINERS || count(b",") > MOST_VALUES {
        return Err(Fault::retry("the identity provider's answer has too many parts"));
    }
    serde_json::from_slice(body).map_err(|_| Fault::retry("the identity provider's answer is not JSON"))
}

/// The body, up to the cap.
pub(crate) async fn read(mut answer: reqwest::Response) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| transport(&e))? {
        if body.len() + chunk.len() > LARGEST {
            return Err(Fault::retry("the identity provider's answer is larger than 4 MiB"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn transport(error: &reqwest::Error) -> Fault {
    let mut causes = std::iter::successors(error.source(), |error| Error::source(*error));
    if causes.any(|error| error.is::<Reserved>()) {
        return Fault::retry(Reserved.to_string());
    }
    Fault::retry(if error.is_timeout() {
        "the identity provider did not answer in time"
    } else if error.is_connect() {
        "the identity provider cannot be reached"
    } else {
        "the connection to the identity provider broke"
    })
}

/// `Retry-After` in seconds (RFC 9110, section 10.2.3); the date form is not used by these APIs.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(3600)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_met_another_is_tried_again_and_other_bad_requests_are_a_persons() {
        let answer = |body: &str| Answer {
            status: StatusCode::BAD_REQUEST,
            headers: HeaderMap::new(),
            body: body.as_bytes().to_vec(),
        };
        let met = r#"{"error":"Unable to serialize access due to a concurrent update in another session"}"#;
        assert!(matches!(answer(met).unexpected(), Fault::Retry { .. }));
        assert!(matches!(answer("{}").unexpected(), Fault::NeedsPerson { .. }));
    }

    #[test]
    fn builds_urls_from_segments() {
        crate::install_tls();
        let http = Http::new(Url::parse("http://127.0.0.1:1/base/").unwrap(), 1, 1, "a", Calls::default()).unwrap();
        let url = http.url(&["admin", "clients", "a b/c?d#e%2F"], &[("subject", "ä&b=c")]).unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:1/base/admin/clients/a%20b%2Fc%3Fd%23e%252F?subject=%C3%A4%26b%3Dc");
        for bad in ["", ".", "..", "a\nb"] {
            assert!(http.url(&["admin", bad], &[]).is_err(), "{bad:?}");
        }
    }

    /// Answers every call with `head` and a body of so many bytes; a call below `/elsewhere` with nothing but 200.
    async fn server(head: &'static str, length: usize) -> Http {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        crate::install_tls();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = [0; 1024];
                let read = stream.read(&mut asked).await.unwrap_or_default();
                let elsewhere = asked[..read].starts_with(b"GET /elsewhere");
                let (head, length) = if elsewhere { ("200 OK", 2) } else { (head, length) };
                let head = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                _ = stream.write_all(&[head.as_bytes(), &vec![b'1'; length]].concat()).await;
            }
        });
        Http::new(base, 100, 1, "a", Calls::default()).unwrap()
    }

    #[tokio::test]
    async fn no_redirect_is_followed_and_no_answer_is_read_beyond_its_cap() {
        let ask = async |http: Http| http.get(&["admin"], &[], Urgency::Ordinary).await;
        let fault = ask(server("302 Found\r\nlocation: /elsewhere", 0).await).await.unwrap_err();
        assert!(matches!(&fault, Fault::Retry { why, .. } if why.contains("302")), "{fault:?}");
        assert_eq!(ask(server("200 OK", LARGEST).await).await.unwrap().body.len(), LARGEST);
        let fault = ask(server("200 OK", LARGEST + 1).await).await.unwrap_err();
        assert!(matches!(&fault, Fault::Retry { why, .. } if why.contains("4 MiB")), "{fault:?}");
    }

    /// The name is resolved again for every connection, and may say another thing then.
    #[tokio::test]
    async fn a_name_leads_to_no_reserved_address() {
        let ask = async |resolver: Resolver| {
            let mut http = server("200 OK", 2).await;
            let port = http.base.port().unwrap();
            http.base = Url::parse(&format!("http://hydra.example:{port}/")).unwrap();
            http.client = client(resolver, |builder| builder).unwrap();
            http.get(&["admin"], &[], Urgency::Ordinary).await
        };
        fn at(text: &str) -> std::net::SocketAddr {
            std::net::SocketAddr::new(text.parse().unwrap(), 0)
        }
        let loopback = Resolver(|_| Box::pin(async move { Ok(vec![at("127.0.0.1")]) }));
        assert_eq!(ask(loopback).await.unwrap().body, b"11");
        let both = Resolver(|_| Box::pin(async move { Ok(vec![at("169.254.169.254"), at("127.0.0.1")]) }));
        assert_eq!(ask(both).await.unwrap().body, b"11");
        let metadata = Resolver(|_| Box::pin(async move { Ok(vec![at("169.254.169.254")]) }));
        let fault = ask(metadata).await.unwrap_err();
        assert!(matches!(&fault, Fault::Retry { why, .. } if why.contains("metadata")), "{fault:?}");
    }

    /// What is logged and what the identity provider is told of one look have one id, and names have no part in it.
    #[tokio::test]
    async fn a_call_carries_the_id_of_the_log_line() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        crate::install_tls();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let (send, mut asked) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = [0; 2048];
                let read = stream.read(&mut bytes).await.unwrap_or_default();
                send.send(String::from_utf8_lossy(&bytes[..read]).to_lowercase()).unwrap();
                _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").await;
            }
        });
        let http = Http::new(base, 100, 1, "a", Calls::default()).unwrap();
        let log = Lines::default();
        let written = log.clone();
        let subscriber = crate::cli::run::json(move || written.clone());
        let _guard = tracing::subscriber::set_default(subscriber);
        let mut ids = Vec::new();
        for _ in 0..2 {
            correlation::scope("look", async {
                for _ in 0..2 {
                    http.get(&["admin", "clients", "a-client"], &[], Urgency::Ordinary).await.unwrap();
                    tracing::info!(client = "a-client", "written at the identity provider");
                }
            })
            .await;
        }
        let written = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        for line in written.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!((&line["span"]["of"], &line["client"]), (&"look".into(), &"a-client".into()), "{line}");
            let id = line["span"]["request_id"].as_str().unwrap().to_owned();
            let head = asked.recv().await.unwrap();
            assert!(head.contains(&format!("\r\nx-request-id: {id}\r\n")), "{id}: {head}");
            assert!(!id.contains("client") && id.len() < 32, "{id}");
            ids.push(id);
        }
        assert!(ids.len() == 4 && ids[0] == ids[1] && ids[2] == ids[3] && ids[0] != ids[2], "{ids:?}");
    }

    /// What a log wrote.
    #[derive(Clone, Debug, Default)]
    struct Lines(std::sync::Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_answer_of_too_many_parts_is_not_taken_apart() {
        let lists = |n: usize| format!("[{}[]]", "[],".repeat(n - 2));
        assert!(json(lists(MOST_CONTAINERS).as_bytes()).is_ok());
        assert!(json(lists(MOST_CONTAINERS + 1).as_bytes()).is_err());
        let values = |n: usize| format!("[{}1]", "1,".repeat(n));
        assert!(json(values(MOST_VALUES).as_bytes()).is_ok());
        assert!(json(values(MOST_VALUES + 1).as_bytes()).is_err());
    }
}
