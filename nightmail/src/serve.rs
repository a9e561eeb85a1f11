//! `nightmail serve`: the server in the foreground, until a signal stops it.

use std::process::ExitCode;
use std::sync::Arc;

use nightmail_admin::{AdminContext, bind_socket, router};
use nightmail_server::ServerError;
use nightmail_server::backend::Backend;
use nightmail_server::config::{Config, preflight};
use nightmail_server::metrics::Metrics;
use nightmail_server::net::Sockets;
use nightmail_server::node::{AdminApi, serve};
use nightmail_server::shutdown::{Ended, Signals};
use nightmail_server::system::{self, Confinement, Identity};

use crate::cli::Place;
use crate::error::CommandError;
use crate::operator::{admin_context, load_config};

/// Reads the configuration, and gives up the files that it does not need. No other thread may have been started.
pub(crate) fn prepare(place: &Place) -> Result<(Config, Confinement), CommandError> {
    if place.data.is_some() || place.socket.is_some() {
        return Err(CommandError::Usage(
            "serve needs --config FILE; write one with `nightmail config example`".to_owned(),
        ));
    }
    let config = load_config(place)?;
    system::make_data_directory(&config).map_err(ServerError::from)?;
    let confinement = system::confine(&config).map_err(ServerError::from)?;
    Ok((config, confinement))
}

/// Runs the server of a configuration file.
pub(crate) async fn run(
    config: Config,
    confinement: Confinement,
) -> Result<ExitCode, CommandError> {
    let mut signals = taken_over()?;
    let started = tokio::select! {
        started = Box::pin(Started::open(config)) => started?,
        // A database may be waited for.
        () = signals.told_to_stop() => return Ok(ExitCode::SUCCESS),
    };
    confinement.report();
    Box::pin(started.serve(signals, || {})).await
}

/// The signals, which this process obeys in its own way from now on.
pub(crate) fn taken_over() -> Result<Signals, CommandError> {
    Signals::take_over().map_err(CommandError::io("cannot take over signals"))
}

/// A server whose ports are bound and whose store is open, and that does not serve yet.
pub(crate) struct Started {
    config: Config,
    sockets: Sockets,
    backend: Backend,
    metrics: Metrics,
    /// What requests of the operator are carried out on.
    pub(crate) admin: AdminContext,
}

impl Started {
    /// Sets up log and metrics, becomes the server's user, opens the store and binds the ports.
    pub(crate) async fn open(config: Config) -> Result<Self, CommandError> {
        nightmail_server::log::init(&config.log).map_err(ServerError::from)?;
        let bound = become_user(&config)?;
        let found = preflight(&config);
        for finding in &found.findings {
            eprintln!("nightmail: {finding}");
        }
        if !found.is_ready() {
            return Err(ServerError::Preflight("see above".to_owned()).into());
        }
        let metrics = Metrics::install().map_err(ServerError::from)?;
        let backend = Backend::join(&config).await?;
        let sockets = match bound {
            Some(sockets) => sockets,
            None => Sockets::bind(&config, None).map_err(ServerError::from)?,
        };
        let rendered = metrics.clone();
        let admin =
            admin_context(&config, &backend)?.with_metrics(Arc::new(move || rendered.render()));
        Ok(Self {
            config,
            sockets,
            backend,
            metrics,
            admin,
        })
    }

    /// Listens until stopped; `ready` is called once it does.
    pub(crate) async fn serve(
        self,
        signals: Signals,
        ready: impl FnOnce(),
    ) -> Result<ExitCode, CommandError> {
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
        let ended = serve(
            self.config,
            self.sockets,
            self.backend,
            self.metrics,
            api,
            signals,
            ready,
        )
        .await;
        // Nobody listens there any more; the next server would replace it as well.
        let _ = std::fs::remove_file(&socket);
        Ok(match ended? {
            Ended::Drained | Ended::Aborted => ExitCode::SUCCESS,
            Ended::Failed => ExitCode::FAILURE,
        })
    }
}

/// Becomes the user of the configuration, where that is somebody else. What only root may bind is bound before.
fn become_user(config: &Config) -> Result<Option<Sockets>, ServerError> {
    let Some(identity) = Identity::wanted(config)? else {
        return Ok(None);
    };
    let sockets = Sockets::bind(config, Some(&identity))?;
    identity.assume()?;
    Ok(Some(sockets))
}
