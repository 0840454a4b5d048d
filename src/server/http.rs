//! Health checks: `/health/live` says that the process answers, `/health/ready` that statements are
//! served, or why not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::get;
use meridian_cluster::Store;
use serde::Serialize;
use tokio::net::TcpListener;

/// What readiness depends on.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) store: Arc<Store>,
    /// Set when a signal has asked for shutdown.
    pub(crate) stopping: Arc<AtomicBool>,
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    /// What stands in the way; empty when nothing does.
    causes: Vec<String>,
}

/// Serves the HTTP port until the future is dropped.
pub(crate) async fn serve(listener: TcpListener, health: Health) {
    let app = Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .with_state(health);
    if let Err(e) = axum::serve(listener, app).await {
        tracing::error!(error = %e, "the HTTP port has failed");
    }
}

async fn live() -> Json<Report> {
    Json(Report { status: "ok", causes: vec![] })
}

async fn ready(State(health): State<Health>) -> (StatusCode, Json<Report>) {
    let mut causes: Vec<String> = health.store.failure().into_iter().collect();
    if health.stopping.load(Ordering::Relaxed) {
        causes.push("the node is shutting down".to_owned());
    } else if health.store.draining().is_some_and(|asked| asked.borrow().is_some()) {
        causes.push("the node is being drained".to_owned());
    }
    if causes.is_empty() {
        (StatusCode::OK, Json(Report { status: "ok", causes }))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(Report { status: "not ready", causes }))
    }
}
