//! The admin API over HTTP: `POST /v1/COMMAND` with the request's fields as a JSON object.
//!
//! `200` carries an [`AdminResponse`], anything else an [`AdminError`]: `400` for usage, `409` for a refusal, `503`
//! for a failure.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Map, Value};
use tokio::net::UnixListener;

use crate::context::AdminContext;
use crate::error::{AdminError, ErrorKind};
use crate::execute::execute;
use crate::request::AdminRequest;

/// Bytes of a request.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// The routes of the admin API. Serve them on a socket of [`bind_socket`] only.
pub fn router(context: AdminContext) -> Router {
    Router::new()
        .route("/v1/{command}", post(command))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(context)
}

async fn command(
    State(context): State<AdminContext>,
    UrlPath(command): UrlPath<String>,
    body: Bytes,
) -> Response {
    let done = match parse(&command, &body) {
        Ok(request) => run(context, request).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(response) => axum::Json(response).into_response(),
        Err(error) => {
            match error.kind {
                ErrorKind::Failed => tracing::warn!(command, %error, "an admin request failed"),
                _ => tracing::info!(command, %error, "an admin request was refused"),
            }
            (status_of(error.kind), axum::Json(error)).into_response()
        }
    }
}

/// Carries the request out to its end, even if whoever asked goes away.
async fn run(
    context: AdminContext,
    request: AdminRequest,
) -> Result<crate::AdminResponse, AdminError> {
    tracing::info!(?request, "admin request");
    let task = tokio::spawn(async move { execute(&context, request).await });
    task.await
        .map_err(|error| AdminError::failed(error.to_string()))?
}

fn parse(command: &str, body: &[u8]) -> Result<AdminRequest, AdminError> {
    let fields = match body {
        [] => Map::new(),
        body => serde_json::from_slice(body).map_err(|error| {
            AdminError::usage(format!("the request is no JSON object: {error}"))
        })?,
    };
    let mut fields: Map<String, Value> = fields;
    fields.insert("command".to_owned(), Value::String(command.to_owned()));
    serde_json::from_value(Value::Object(fields))
        .map_err(|error| AdminError::usage(format!("{command}: {error}")))
}

fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Usage => StatusCode::BAD_REQUEST,
        ErrorKind::Refused => StatusCode::CONFLICT,
        ErrorKind::Failed => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Listens at `path`, where a socket left by a dead server may lie. Only this user can ever connect: the socket is
/// made in a private directory and moved into place with its final permissions (0600).
///
/// The caller holds the store, so that no live server's socket is taken away.
pub fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let private = parent
        .unwrap_or(Path::new("."))
        .join(format!(".admin-{}", std::process::id()));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&private)?;
    let bound = bind_private(&private.join("s"), path);
    let removed = std::fs::remove_dir_all(&private);
    bound.and_then(|listener| removed.map(|()| listener))
}

fn bind_private(draft: &Path, path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(draft)?;
    std::fs::set_permissions(draft, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(draft, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_comes_from_the_path() {
        let request = parse(
            "domain-show",
            br#"{"command": "status", "domain": "x.test"}"#,
        );
        assert_eq!(
            request,
            Ok(AdminRequest::DomainShow {
                domain: "x.test".to_owned()
            })
        );
        assert_eq!(parse("status", b""), Ok(AdminRequest::Status));
    }

    #[test]
    fn what_is_no_request_is_told_why() {
        for (command, body, says) in [
            ("status", &b"["[..], "no JSON object"),
            ("nonsense", b"", "unknown variant"),
            ("domain-show", b"{}", "missing field `domain`"),
            ("domain-show", br#"{"domain": 3}"#, "expected a string"),
        ] {
            let error = parse(command, body).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Usage);
            assert!(error.message.contains(says), "{}", error.message);
        }
    }
}
