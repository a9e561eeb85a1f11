//! `nightmail serve`: the server in the foreground, until a signal stops it.

use std::process::ExitCode;
use std::sync::Arc;

use nightmail_admin::{AdminContext, bind_socket, router};
use nightmail_server::ServerError;
use nightmail_server::backend::Backend;
use nightmail_server::config::{Config, preflight};
use nightmail_server::metrics::Metrics;
use nightmail_server::node::{AdminApi, serve};
use nightmail_server::shutdown::Ended;

use crate::cli::Place;
use crate::error::CommandError;
use crate::operator::{admin_context, load_config};

/// Runs the server of a configuration file.
pub(crate) async fn run(place: &Place) -> Result<ExitCode, CommandError> {
    if place.data.is_some() || place.socket.is_some() {
        return Err(CommandError::Usage(
            "serve needs --config FILE; write one with `nightmail config example`".to_owned(),
        ));
    }
    let config = load_config(place)?;
    let started = Started::open(config).await?;
    started.serve(|| {}).await
}

/// A server whose store is open and that does not listen yet.
pub(crate) struct Started {
    config: Config,
    backend: Backend,
    metrics: Metrics,
    /// What requests of the operator are carried out on.
    pub(crate) admin: AdminContext,
}

impl Started {
    /// Sets up log and metrics and opens the store.
    pub(crate) async fn open(config: Config) -> Result<Self, CommandError> {
        nightmail_server::log::init(&config.log).map_err(ServerError::from)?;
        let found = preflight(&config);
        for finding in &found.findings {
            eprintln!("nightmail: {finding}");
        }
        if !found.is_ready() {
            return Err(ServerError::Preflight("see above".to_owned()).into());
        }
        let metrics = Metrics::install().map_err(ServerError::from)?;
        let backend = Backend::join(&config).await?;
        let rendered = metrics.clone();
        let admin =
            admin_context(&config, &backend)?.with_metrics(Arc::new(move || rendered.render()));
        Ok(Self {
            config,
            backend,
            metrics,
            admin,
        })
    }

    /// Listens until stopped; `ready` is called once it does.
    pub(crate) async fn serve(self, ready: impl FnOnce()) -> Result<ExitCode, CommandError> {
        let socket = self.config.admin_socket();
        let says = format!(
            "cannot listen on the admin socket {}; its directory must exist and belong to the server's user",
            socket.display()
        );
        let api = AdminApi {
            socket: bind_socket(&socket).map_err(CommandError::io(says))?,
            compactor: Arc::clone(&self.admin.compactor),
            routes: router(self.admin),
        };
        let ended = serve(self.config, self.backend, self.metrics, api, ready).await;
        // Nobody listens there any more; the next server would replace it as well.
        let _ = std::fs::remove_file(&socket);
        Ok(match ended? {
            Ended::Drained | Ended::Aborted => ExitCode::SUCCESS,
            Ended::Failed => ExitCode::FAILURE,
        })
    }
}
