//! An auth that knows the contacts it is given.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

#[derive(Clone, Default)]
struct Known {
    contacts: HashMap<Uuid, Value>,
    away: bool,
    asked: usize,
}

#[derive(Clone)]
pub struct Auth {
    pub url: String,
    known: Arc<Mutex<Known>>,
}

impl Auth {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let known = Arc::new(Mutex::new(Known::default()));
        let routes = Router::new()
            .route("/auth/users/{id}/contact", get(contact))
            .with_state(Arc::clone(&known));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, known }
    }

    pub fn user(&self, email: &str, phone: Option<&str>) -> Uuid {
        let user = Uuid::now_v7();
        self.set(user, email, phone, 1);
        user
    }

    pub fn set(&self, user: Uuid, email: &str, phone: Option<&str>, version: i64) {
        let contact = json!({"user_id": user, "email": email, "phone": phone, "version": version});
        self.known.lock().unwrap().contacts.insert(user, contact);
    }

    pub fn away(&self, away: bool) {
        self.known.lock().unwrap().away = away;
    }

    pub fn asked(&self) -> usize {
        self.known.lock().unwrap().asked
    }
}

async fn contact(State(known): State<Arc<Mutex<Known>>>, Path(user): Path<Uuid>) -> Response {
    let mut known = known.lock().unwrap();
    known.asked += 1;
    if known.away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match known.contacts.get(&user) {
        Some(contact) => axum::Json(contact.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
