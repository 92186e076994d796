//! What the tests of the test bed share.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use clientgrant_testbed::{Hydra, HydraOptions, OAuthClient, Storage, TokenHook, Tools};
use serde_json::{Value, json};

pub const REDIRECT: &str = "http://127.0.0.1:1/callback";
pub const KEY: &str = "the key of the hook";
pub const AUDIENCE: &str = "https://api.example.org";

/// A token hook that keeps what it is sent and answers what it is told.
#[derive(Clone)]
pub struct Hook {
    pub url: String,
    bodies: Arc<Mutex<Vec<Value>>>,
    status: Arc<AtomicU16>,
}

impl Hook {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let hook = Self { url, bodies: Arc::default(), status: Arc::new(AtomicU16::new(204)) };
        let app = Router::new().route("/hook", post(receive)).with_state(hook.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        hook
    }

    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    pub fn options(&self) -> HydraOptions {
        let token_hook = Some(TokenHook { url: self.url.clone(), api_key: KEY.to_owned() });
        HydraOptions { token_hook, ..HydraOptions::default() }
    }

    /// What came since the last call.
    pub fn take(&self) -> Vec<Value> {
        std::mem::take(&mut self.bodies.lock().unwrap())
    }
}

async fn receive(State(hook): State<Hook>, headers: HeaderMap, Json(body): Json<Value>) -> StatusCode {
    if headers.get("X-Api-Key").is_none_or(|key| key != KEY) {
        return StatusCode::UNAUTHORIZED;
    }
    hook.bodies.lock().unwrap().push(body);
    StatusCode::from_u16(hook.status.load(Ordering::Relaxed)).unwrap()
}

pub fn tools() -> Tools {
    Tools::find().unwrap()
}

pub async fn sqlite_hydra() -> Hydra {
    let options = HydraOptions { storage: Storage::Sqlite, ..HydraOptions::default() };
    Hydra::start(&tools(), options).await.unwrap()
}

/// Registers a client that may do everything the tests need.
pub async fn client(hydra: &Hydra, id: &str) -> OAuthClient {
    let body = json!({
        "client_id": id,
        "client_name": "An example client",
        "client_secret": "a secret of an example",
        "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
        "response_types": ["code"],
        "redirect_uris": [REDIRECT],
        "scope": "openid offline_access read write",
        "audience": [AUDIENCE],
        "token_endpoint_auth_method": "client_secret_post",
    });
    hydra.admin().create_client(&body).await.unwrap();
    OAuthClient::new(hydra, id, "a secret of an example").unwrap()
}
