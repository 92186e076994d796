//! The HTTP side of the proxy.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
    USER_AGENT,
};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::answer::{self, Closed, Reply};
use super::gate::{Gate, Verdict};
use super::memory::Answer;
use super::watches::{self, Flow};
use super::{Action, Callback, Recorded, Shared, Side, State, Tls};

/// How much of a body is recorded.
const RECORDED: usize = 64 * 1024;

/// A client that neither retries nor follows nor unpacks anything.
pub(super) fn client(tls: Option<&Tls>) -> Result<reqwest::Client> {
    let mut builder = crate::net::http().retry(reqwest::retry::never()).timeout(Duration::from_secs(600));
    if let Some(tls) = tls {
        let authority = reqwest::Certificate::from_pem(tls.authority.as_bytes())
            .context("the certificate of upstream's authority is not usable")?;
        builder = builder.tls_certs_only([authority]);
    }
    builder.build().context("cannot build the proxy's client")
}

pub(super) async fn serve(listener: TcpListener, state: Arc<State>, acceptor: Option<TlsAcceptor>) {
    let listener = listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::TcpListener::from_std(listener))
        .expect("a bound loopback listener works");
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        // Small answers must not wait for more to come.
        let _ = stream.set_nodelay(true);
        let (state, acceptor) = (Arc::clone(&state), acceptor.clone());
        tokio::spawn(async move {
            match acceptor {
                None => converse(stream, state).await,
                Some(acceptor) => {
                    // Who breaks off the handshake, or does not trust us, hears no more.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        converse(stream, state).await;
                    }
                }
            }
        });
    }
}

/// Answers the requests of one connection.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send, state: Arc<State>) {
    let service = service_fn(move |request| {
        let task = tokio::spawn(handle(Arc::clone(&state), request));
        async move { task.await.unwrap_or(Err(Closed)) }
    });
    // An error is a closed connection, which rules ask for.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn handle(state: Arc<State>, request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
    let (key, record) = state.lock().record(&parts, &body);
    state.changed();

    state.reach(Side::Before, &record).await?;
    let action = state.action(&record);
    match &action {
        Action::Answer(status, body) => return state.answer(key, record, *status, &[], body),
        Action::AnswerWith(status, headers, body) => return state.answer(key, record, *status, headers, body),
        Action::Flood(bytes) => {
            state.done(key, record, StatusCode::OK, *bytes);
            return Ok(answer::flood(*bytes));
        }
        Action::Blackhole => match std::future::pending::<Infallible>().await {},
        Action::DropRequest => return Err(Closed),
        Action::Delay(time) => tokio::time::sleep(*time).await,
        _ => {}
    }
    if record.is_watch() {
        return watch(&state, key, record, action, &parts).await;
    }
    if matches!(action, Action::Twice) {
        state.ask(&parts, &body).await?;
    }
    let Answer { status, headers, body } = state.ask(&parts, &body).await?;
    let record = state.done(key, record, status, body.len());
    state.reach(Side::After, &record).await?;
    match action {
        Action::DropResponse => return Err(Closed),
        Action::Truncate(length) => return Ok(answer::truncated(status, headers, body, length)),
        Action::Garbage => return Ok(answer::garbage()),
        Action::DelayResponse(time) => tokio::time::sleep(time).await,
        _ => {}
    }
    Ok(answer::whole(status, headers, body))
}

/// Asks upstream for a watch and answers as soon as it does.
async fn watch(state: &Arc<State>, key: u64, record: Recorded, action: Action, head: &Parts) -> Reply {
    let send = || async { state.send(head, Bytes::new(), Some(watches::LASTS)).await };
    if matches!(action, Action::Twice) {
        send().await?;
    }
    let answer = send().await?;
    let (status, headers) = (answer.status(), end_to_end(answer.headers()));
    let record = state.done(key, record, status, 0);
    state.reach(Side::After, &record).await?;
    let left = match action {
        Action::DropResponse => Some(0),
        Action::Truncate(length) => Some(length),
        Action::Garbage => return Ok(answer::garbage()),
        Action::DelayResponse(time) => {
            tokio::time::sleep(time).await;
            None
        }
        _ => None,
    };
    let flow = Flow { state: Arc::clone(state), key, record, answer, left };
    Ok(answer::streamed(status, headers, flow.stream()))
}

fn path(head: &Parts) -> &str {
    head.uri.path_and_query().map_or("/", |path| path.as_str())
}

/// The headers that belong to the message rather than to the connection.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    headers.remove(HeaderName::from_static("keep-alive"));
    headers
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Shared {
    fn record(&mut self, head: &Parts, body: &Bytes) -> (u64, Recorded) {
        self.n += 1;
        self.next += 1;
        let safe = [Method::GET, Method::HEAD].contains(&head.method);
        let agent = head.headers.get(USER_AGENT).map_or_else(String::new, |agent| lossy(agent.as_bytes()));
        if !safe {
            self.writes += 1;
        }
        let record = Recorded {
            n: self.n,
            write: (!safe).then_some(self.writes),
            at: SystemTime::now(),
            instant: Instant::now(),
            method: head.method.to_string(),
            path_and_query: path(head).to_owned(),
            agent,
            body: lossy(&body[..body.len().min(RECORDED)]),
            status: None,
            duration: None,
            request_bytes: body.len(),
            response_bytes: 0,
        };
        self.records.insert(self.next, record.clone());
        (self.next, record)
    }

    fn gates(&mut self, side: Side, record: &Recorded) -> Vec<Arc<Gate>> {
        self.holds.retain(|(_, _, gate)| !gate.is_open());
        let matching = self.holds.iter().filter(|(s, matches, _)| *s == side && matches(record));
        matching.map(|(_, _, gate)| Arc::clone(gate)).collect()
    }

    fn callbacks(&mut self, side: Side, record: &Recorded) -> Vec<Callback> {
        let due = self.callbacks.extract_if(.., |(s, matches, _)| *s == side && matches(record));
        due.map(|(_, _, callback)| callback).collect()
    }
}

impl State {
    fn action(&self, record: &Recorded) -> Action {
        let rule = self.lock().rule.clone();
        rule.map_or(Action::Forward, |rule| rule(record))
    }

    /// Runs the callbacks and waits at the holds of one side of the upstream.
    async fn reach(&self, side: Side, record: &Recorded) -> Result<(), Closed> {
        let (callbacks, gates) = {
            let mut shared = self.lock();
            (shared.callbacks(side, record), shared.gates(side, record))
        };
        let mut go = true;
        for callback in callbacks {
            let record = record.clone();
            // It may block: killing a process waits for its end.
            let verdict = tokio::task::spawn_blocking(move || callback(&record)).await;
            go &= !matches!(verdict, Ok(Verdict::Discard));
        }
        if !go {
            return Err(Closed);
        }
        for gate in gates {
            if !gate.pass(record).await {
                return Err(Closed);
            }
        }
        Ok(())
    }

    /// Upstream's answer, or what is remembered of it.
    async fn ask(&self, head: &Parts, body: &Bytes) -> Result<Answer, Closed> {
        let accept = head.headers.get(ACCEPT).map_or_else(String::new, |accept| lossy(accept.as_bytes()));
        let question = (head.method == Method::GET).then(|| (path(head).to_owned(), accept));
        if let Some(answer) = question.as_ref().and_then(|question| self.lock().memory.recall(question)) {
            return Ok(answer);
        }
        let answer = self.send(head, body.clone(), None).await?;
        let (status, headers) = (answer.status(), end_to_end(answer.headers()));
        let body = answer.bytes().await.map_err(|_| Closed)?;
        let answer = Answer { status, headers, body };
        if let Some(question) = question {
            self.lock().memory.keep(question, answer.clone());
        }
        Ok(answer)
    }

    /// Sends a request upstream; the answer's head is there.
    async fn send(&self, head: &Parts, body: Bytes, lasts: Option<Duration>) -> Result<reqwest::Response, Closed> {
        let url = format!("{}{}", self.lock().upstream, path(head));
        let mut request = self.client.request(head.method.clone(), url).headers(end_to_end(&head.headers)).body(body);
        if let Some(lasts) = lasts {
            request = request.timeout(lasts);
        }
        // An upstream that is gone looks the same through the proxy: no answer.
        request.send().await.map_err(|_| Closed)
    }

    fn done(&self, key: u64, mut record: Recorded, status: StatusCode, bytes: usize) -> Recorded {
        record.status = Some(status.as_u16());
        record.duration = Some(record.instant.elapsed());
        record.response_bytes = bytes;
        // A request that was cleared meanwhile stays forgotten.
        if let Some(kept) = self.lock().records.get_mut(&key) {
            kept.clone_from(&record);
        }
        self.changed();
        record
    }

    /// A part of a watch has gone to its sender.
    pub(super) fn flowed(&self, key: u64, bytes: usize) {
        if let Some(kept) = self.lock().records.get_mut(&key) {
            kept.response_bytes += bytes;
        }
        self.changed();
    }

    fn answer(&self, key: u64, record: Recorded, status: u16, headers: &[(String, String)], body: &str) -> Reply {
        let status = StatusCode::from_u16(status).map_err(|_| Closed)?;
        self.done(key, record, status, body.len());
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Closed)?;
            all.append(name, HeaderValue::from_str(value).map_err(|_| Closed)?);
        }
        all.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        Ok(answer::whole(status, all, Bytes::from(body.to_owned())))
    }
}
