//! `/metrics`, `/healthz` and `/readyz` over HTTP, for those who watch the server.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use parking_lot::Mutex;

use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Whether the server can do its work and will go on doing it: no check fails and it has not been told to stop.
#[derive(Clone)]
pub struct Readiness {
    shutdown: Shutdown,
    checks: Arc<Mutex<Vec<(&'static str, Check)>>>,
}

impl Readiness {
    /// Readiness without checks.
    pub fn new(shutdown: Shutdown) -> Self {
        Self {
            shutdown,
            checks: Arc::default(),
        }
    }

    /// Adds a check, which must be quick; its error says what is wrong.
    pub fn add_check(
        &self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.checks.lock().push((name, Box::new(check)));
    }

    /// What keeps the server from its work, or will shortly, in one line; `Ok` when nothing does.
    pub fn check(&self) -> Result<(), String> {
        let mut wrong = Vec::new();
        if self.shutdown.is_leaving() {
            wrong.push("stopping".to_owned());
        }
        for (name, check) in self.checks.lock().iter() {
            if let Err(error) = check() {
                wrong.push(format!("{name}: {}", error.replace(['\r', '\n'], " ")));
            }
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(wrong.join("; ")),
        }
    }
}

/// The routes: `/metrics`, `/healthz` (the process answers) and `/readyz` (503 and why, while it cannot work).
pub fn watch_routes(metrics: Metrics, readiness: Readiness) -> Router {
    let scrape = move || async move {
        let kind = [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )];
        (kind, metrics.render())
    };
    let ready = move || async move {
        match readiness.check() {
            Ok(()) => (StatusCode::OK, "ready\n".to_owned()).into_response(),
            Err(wrong) => (StatusCode::SERVICE_UNAVAILABLE, format!("{wrong}\n")).into_response(),
        }
    };
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::config::{Config, Switch};
    use crate::net::BoundListener;
    use crate::shutdown::shutdown_pair;

    async fn fetch(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn health_and_metrics_are_served_and_readiness_ends_before_draining() {
        let (stopper, shutdown) = shutdown_pair();
        let (metrics, _recorder) = Metrics::detached();
        let readiness = Readiness::new(shutdown.clone());
        let full = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = Arc::clone(&full);
        readiness.add_check("store", move || {
            match seen.load(std::sync::atomic::Ordering::Relaxed) {
                true => Err("no space\nleft".to_owned()),
                false => Ok(()),
            }
        });
        let mut config = Config::default();
        config.admin.http = Switch::On("127.0.0.1:0".parse().unwrap());
        let listener = BoundListener::bind(&config.watch_listener().unwrap()).unwrap();
        let address = listener.tcp_address().unwrap();
        let server = tokio::spawn(listener.serve_http(watch_routes(metrics, readiness), shutdown));

        assert!(fetch(address, "/healthz").await.ends_with("ok\n"));
        assert!(fetch(address, "/metrics").await.starts_with("HTTP/1.1 200"));
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(fetch(address, "/other").await.starts_with("HTTP/1.1 404"));
        full.store(true, std::sync::atomic::Ordering::Relaxed);
        let unready = fetch(address, "/readyz").await;
        assert!(unready.starts_with("HTTP/1.1 503") && unready.ends_with("store: no space left\n"));
        stopper.leave();
        let leaving = fetch(address, "/readyz").await;
        assert!(leaving.starts_with("HTTP/1.1 503"), "{leaving}");
        assert!(
            leaving.ends_with("\r\n\r\nstopping; store: no space left\n"),
            "{leaving}"
        );
        assert!(fetch(address, "/healthz").await.ends_with("ok\n"));
        stopper.drain();
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        assert!(fetch(address, "/healthz").await.ends_with("ok\n"));
        stopper.abort();
        server.await.unwrap().unwrap();
    }
}
