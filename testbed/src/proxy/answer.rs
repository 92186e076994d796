//! Answers, whole and broken.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

/// What is sent to the sender.
pub(super) type Body = UnsyncBoxBody<Bytes, Closed>;

/// An answer, or none: then the connection is closed.
pub(super) type Reply = Result<Response<Body>, Closed>;

/// Long enough for what was given to hyper to leave before the connection closes.
const FLUSH: Duration = Duration::from_millis(20);

/// What a gateway in between says when it is confused.
const GARBAGE: &str = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Please sign in.</body></html>\n";

/// Makes hyper close a connection without (the rest of) an answer.
#[derive(Debug)]
pub(super) struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed by a rule of the proxy")
    }
}

impl std::error::Error for Closed {}

/// Ends a body before its time, after what was sent before has left.
pub(super) async fn broken_off() -> Closed {
    // hyper throws away what it has not written yet when a body fails.
    tokio::time::sleep(FLUSH).await;
    Closed
}

pub(super) fn whole(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<Body> {
    reply(status, headers, Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync())
}

pub(super) fn streamed(
    status: StatusCode,
    headers: HeaderMap,
    bytes: impl Stream<Item = Result<Bytes, Closed>> + Send + 'static,
) -> Response<Body> {
    reply(status, headers, StreamBody::new(bytes.map(|item| item.map(Frame::data))).boxed_unsync())
}

/// Promises the whole body and closes the connection after `length` bytes of it.
pub(super) fn truncated(status: StatusCode, mut headers: HeaderMap, body: Bytes, length: usize) -> Response<Body> {
    if length >= body.len() {
        return whole(status, headers, body);
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    let head = stream::iter((length > 0).then(|| Ok(body.slice(..length))));
    streamed(status, headers, head.chain(stream::once(async { Err(broken_off().await) })))
}

/// Not what anybody asked for.
pub(super) fn garbage() -> Response<Body> {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))]);
    whole(StatusCode::OK, headers, Bytes::from_static(GARBAGE.as_bytes()))
}

/// So many opening brackets, made as they are read.
pub(super) fn flood(bytes: usize) -> Response<Body> {
    const PART: &[u8] = &[b'['; 64 * 1024];
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let parts = stream::unfold(bytes, async |left| {
        let part = &PART[..left.min(PART.len())];
        (left > 0).then(|| (Ok(Bytes::from_static(part)), left - part.len()))
    });
    streamed(StatusCode::OK, headers, parts)
}

fn reply(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    *reply.headers_mut() = headers;
    reply
}
