//! A running server: listeners with their drivers, the outbound channel, and what is done by the clock.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use nightmail_certs::acme::{answer_http, answer_tls};
use nightmail_cluster::LeaseName;
use nightmail_commit::{Compactor, ReclaimOptions, Reclaimer};
use nightmail_delivery::Delivery;
use nightmail_queue::RuleBook;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Mutex;
use tracing::{error, info, warn};

use crate::auth::Logins;
use crate::backend::Backend;
use crate::config::{self, AcmeChallenge, Config, Listener, Protocol, Role, TlsMode};
use crate::drivers::imap::ImapService;
use crate::drivers::pop3::{MaildropLocks, Pop3Service};
use crate::drivers::smtp::SmtpService;
use crate::error::ServerError;
use crate::gate::{Gate, upkeep};
use crate::http::{Readiness, watch_routes};
use crate::jobs;
use crate::journal;
use crate::membership::{Reach, start_membership};
use crate::metrics::{self, Metrics};
use crate::net::{BoundListener, ServiceOptions, Sockets};
use crate::outbound::delivery_options;
use crate::outbound_tls::{self, OutboundTls};
use crate::reports::SwitchedReports;
use crate::services::{Services, SharedServices};
use crate::shutdown::{Ended, Pace, Shutdown, Signals, Stopper, Tasks, shutdown_pair, supervise};
use crate::system;
use crate::tls::TlsContext;

/// How often unreferenced messages are looked for.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60);
/// Segments looked at in one round of maintenance.
const SEGMENTS_PER_ROUND: usize = 4;

/// The admin API that a server serves: made by whoever starts it.
pub struct AdminApi {
    /// The socket that only this server's user may open.
    pub socket: UnixListener,
    /// What is served there, and on listeners of the protocol "admin".
    pub routes: Router,
    /// The compactor of the process, shared with the API.
    pub compactor: Arc<Mutex<Compactor>>,
}

/// Runs a server on its sockets until it is told to stop by a signal. `ready` is called once it accepts connections.
pub async fn serve(
    config: Config,
    sockets: Sockets,
    backend: Backend,
    metrics: Metrics,
    admin: AdminApi,
    signals: Signals,
    ready: impl FnOnce(),
) -> Result<Ended, ServerError> {
    let (stopper, shutdown) = shutdown_pair();
    let services = Arc::new(Services {
        store: backend.store.clone(),
        directory: backend.directory.clone(),
        switch: backend.switch.clone(),
        queue: Arc::clone(&backend.queue),
        delivery: Arc::clone(&backend.delivery),
        journal: backend.journal.clone(),
        gate: Gate::new(&config, &backend)?,
        logins: Logins::new(&config)?,
        tls: TlsContext::load(&config)?,
        cluster: Arc::clone(&backend.cluster),
        maildrops: MaildropLocks::default(),
        config,
    });
    let mut tasks = Tasks::default();
    Box::pin(start_certificates(
        sockets.challenges,
        &services,
        &backend,
        &shutdown,
        &mut tasks,
    ))
    .await?;
    for listener in sockets.listeners {
        start_listener(listener, &services, &admin, &shutdown, &mut tasks);
    }
    let reach = start_membership(&services, &backend, &stopper, &shutdown, &mut tasks);
    start_watch(
        sockets.watch,
        &metrics,
        &backend,
        reach,
        &shutdown,
        &mut tasks,
    );
    if services.config.has_role(Role::Admin) {
        let settings = &services.config.store;
        start_maintenance(settings, &backend, admin.compactor, &shutdown, &mut tasks);
    }
    start_upkeep(&services, &shutdown, &mut tasks);
    start_admin(admin.socket, admin.routes, &shutdown, &mut tasks);
    let outbound_tls = start_outbound_tls(&services, &backend, &shutdown, &mut tasks)?;
    if services.config.has_role(Role::Delivery) {
        start_delivery(&services, &backend, &outbound_tls, &shutdown, &mut tasks)?;
    }
    let reload = services.tls.clone();
    let obeying = signals.obey(stopper.clone(), move || reload.reload_and_log());
    tasks.background.spawn(obeying);
    let interval = services.config.tls.reload_interval;
    tasks
        .background
        .spawn(services.tls.clone().watch(interval, shutdown.clone()));
    info!(hostname = %services.hostname(), listeners = services.config.listeners.len(), "ready");
    system::notify("READY=1");
    ready();
    Ok(finish(tasks, &stopper, services, backend).await)
}

/// What is done from time to time for the gate and for mailboxes.
fn start_upkeep(services: &SharedServices, shutdown: &Shutdown, tasks: &mut Tasks) {
    let gate = upkeep(Arc::clone(services), shutdown.clone());
    tasks.background.spawn(gate);
    jobs::sign_replies(services);
    let jobs = jobs::upkeep(Arc::clone(services), shutdown.clone());
    tasks.background.spawn(jobs);
}

/// How long a server that ends waits for a store that is away. Of what does not reach it flag changes of the last moments
/// are lost, and the other nodes wait for the lease.
const LAST_WORDS_MAX: Duration = Duration::from_secs(10);

/// Waits for the end, and brings to disk what need not have been until now.
async fn finish(
    tasks: Tasks,
    stopper: &Stopper,
    services: SharedServices,
    backend: Backend,
) -> Ended {
    let settings = &services.config.server;
    let pace = Pace {
        drain_delay: settings.drain_delay,
        grace: settings.shutdown_grace,
    };
    let ended = supervise(tasks, stopper, pace).await;
    system::notify("STOPPING=1");
    if tokio::time::timeout(LAST_WORDS_MAX, last_words(&backend))
        .await
        .is_err()
    {
        error!("the store does not answer: this ends without it, as a crash would");
    }
    info!(?ended, "stopped");
    ended
}

async fn last_words(backend: &Backend) {
    if let Err(error) = backend.journal.flush().await {
        error!(%error, "the last events are lost");
    }
    if let Err(error) = backend.engine.sync().await {
        error!(%error, "the last flag changes could not be synced");
    }
    if let Err(error) = backend.cluster.leave().await {
        warn!(%error, "the other nodes go on with the work of this one when its lease has run out");
    }
}

fn start_listener(
    listener: BoundListener,
    services: &SharedServices,
    admin: &AdminApi,
    shutdown: &Shutdown,
    tasks: &mut Tasks,
) {
    let config: &Listener = listener.config();
    let options = ServiceOptions {
        implicit_tls: (config.tls_mode() == TlsMode::Implicit)
            .then(|| Arc::clone(services.tls.config_for(config.protocol))),
        handshake_timeout: services.config.timeouts.tls_handshake,
        write_timeout: services.config.timeouts.write,
    };
    let shared = Arc::clone(services);
    let shutdown = shutdown.clone();
    match config.protocol {
        Protocol::Smtp | Protocol::Submission | Protocol::Lmtp | Protocol::Odmr => {
            let service = Arc::new(SmtpService::new(shared, config));
            tasks
                .draining
                .spawn(listener.serve(service, options, shutdown));
        }
        Protocol::Imap => {
            let service = Arc::new(ImapService::new(shared, config));
            tasks
                .draining
                .spawn(listener.serve(service, options, shutdown));
        }
        Protocol::Pop3 => {
            let service = Arc::new(Pop3Service::new(shared, config));
            tasks
                .draining
                .spawn(listener.serve(service, options, shutdown));
        }
        Protocol::Admin => {
            let served = listener.serve_http(admin.routes.clone(), shutdown);
            tasks.background.spawn(report("admin API", served));
        }
    }
}

/// Fetches certificates and answers what their authority asks, until draining begins.
async fn start_certificates(
    challenges: Option<TcpListener>,
    services: &SharedServices,
    backend: &Backend,
    shutdown: &Shutdown,
    tasks: &mut Tasks,
) -> Result<(), ServerError> {
    let config = &services.config;
    let leases = backend.cluster.leases().clone();
    let rows = Arc::clone(&backend.engine);
    let Some(mut acme) = services.tls.acme(config, Arc::clone(&rows), leases)? else {
        return Ok(());
    };
    // Whoever connects first is to see them already.
    acme.pick_up().await;
    let mut stopping = shutdown.clone();
    tasks.background.spawn(async move {
        acme.run(stopping.draining()).await;
        stopping.aborting().await;
    });
    let Some(listener) = challenges else {
        return Ok(());
    };
    let by_tls = config.acme.challenge == AcmeChallenge::TlsAlpn;
    let mut stopping = shutdown.clone();
    tasks.background.spawn(async move {
        let answering = async {
            match by_tls {
                true => answer_tls(listener, rows).await,
                false => answer_http(listener, rows).await,
            }
        };
        tokio::select! {
            () = answering => {}
            () = stopping.aborting() => {}
        }
    });
    Ok(())
}

async fn report(what: &'static str, task: impl Future<Output = std::io::Result<()>>) {
    if let Err(error) = task.await {
        error!(what, %error, "failed");
    }
}

fn start_watch(
    listener: Option<BoundListener>,
    metrics: &Metrics,
    backend: &Backend,
    reach: Option<Reach>,
    shutdown: &Shutdown,
    tasks: &mut Tasks,
) {
    let counted = backend.clone();
    metrics.add_source(move || publish_stats(&counted));
    if let Some(listener) = listener {
        let readiness = Readiness::new(shutdown.clone());
        if let Some(reach) = reach {
            readiness.add_check("store", move || reach.check());
        }
        let routes = watch_routes(metrics.clone(), readiness);
        let served = listener.serve_http(routes, shutdown.clone());
        tasks.background.spawn(report("metrics", served));
    }
}

/// Brings the figures of engine and heap into the metrics.
fn publish_stats(backend: &Backend) {
    let engine = backend.engine.stats();
    let heap = backend.heap.stats();
    for (name, value) in [
        (metrics::ENGINE_COMMITS, engine.commits),
        (metrics::ENGINE_SYNCS, engine.syncs),
        (metrics::ENGINE_OCTETS_WRITTEN, engine.bytes_written),
        (metrics::ENGINE_CONFLICTS, engine.conflicts),
        (metrics::HEAP_RECORDS, heap.records),
        (metrics::HEAP_SYNCS, heap.syncs),
        (metrics::HEAP_OCTETS_WRITTEN, heap.bytes_written),
    ] {
        metrics::plain_counter(name).absolute(value);
    }
    metrics::plain_gauge(metrics::HEAP_OCTETS).set(heap.segment_bytes as f64);
}

fn start_admin(socket: UnixListener, routes: Router, shutdown: &Shutdown, tasks: &mut Tasks) {
    let mut stopping = shutdown.clone();
    let stop = async move { stopping.aborting().await };
    let served = axum::serve(socket, routes).with_graceful_shutdown(stop);
    tasks
        .background
        .spawn(report("admin API", async { served.await }));
}

fn start_maintenance(
    settings: &config::Store,
    backend: &Backend,
    compactor: Arc<Mutex<Compactor>>,
    shutdown: &Shutdown,
    tasks: &mut Tasks,
) {
    let grace_millis = i64::try_from(settings.reclaim_grace.as_millis()).unwrap_or(i64::MAX);
    let options = ReclaimOptions {
        grace_millis,
        ..ReclaimOptions::default()
    };
    let reclaimer = Reclaimer::new(Arc::clone(&backend.engine), options);
    let backend = backend.clone();
    let mut stopping = shutdown.clone();
    tasks.background.spawn(async move {
        loop {
            tokio::select! {
                () = stopping.draining() => break,
                () = tokio::time::sleep(MAINTENANCE_INTERVAL) => {}
            }
            // One node at a time does it; on a single machine that is this one.
            let Some(_hold) = backend.cluster.leases().hold(LeaseName::Maintenance) else {
                continue;
            };
            if backend.is_shared()
                && let Err(error) = backend.purge_doomed().await
            {
                warn!(%error, "mailboxes that were being deleted could not be removed");
            }
            maintain(&reclaimer, &compactor).await;
            journal::sweep(&backend.journal).await;
        }
        stopping.aborting().await;
    });
}

async fn maintain(reclaimer: &Reclaimer, compactor: &Mutex<Compactor>) {
    let now = nightmail_commit::now();
    let mut compactor = compactor.lock().await;
    match reclaimer.run_once(now).await {
        Ok(done) if done.reclaimed > 0 => {
            info!(
                messages = done.reclaimed,
                octets = done.reclaimed_bytes,
                "unreferenced messages reclaimed"
            );
            compactor.recount();
        }
        Ok(_) => {}
        Err(error) => warn!(%error, "unreferenced messages could not be reclaimed"),
    }
    match compactor.run_once(now, SEGMENTS_PER_ROUND).await {
        Ok(done) if done.removed > 0 => {
            info!(
                segments = done.removed,
                octets = done.reclaimed_bytes,
                "segments compacted"
            );
        }
        Ok(_) => {}
        Err(error) => warn!(%error, "segments could not be compacted"),
    }
}

/// What is known of TLS with other sites. It is tended on every node: which one does that for all is not known before.
fn start_outbound_tls(
    services: &SharedServices,
    backend: &Backend,
    shutdown: &Shutdown,
    tasks: &mut Tasks,
) -> Result<Arc<OutboundTls>, ServerError> {
    let tls = OutboundTls::new(&services.config, services.gate.dns(), &backend.engine)?;
    let tls = Arc::new(tls);
    let tended = outbound_tls::upkeep(Arc::clone(services), Arc::clone(&tls), shutdown.clone());
    tasks.background.spawn(tended);
    Ok(tls)
}

fn start_delivery(
    services: &SharedServices,
    backend: &Backend,
    outbound_tls: &OutboundTls,
    shutdown: &Shutdown,
    tasks: &mut Tasks,
) -> Result<(), ServerError> {
    let mut options = delivery_options(&services.config, services.gate.dns().clone())?;
    outbound_tls.equip(&mut options);
    let rules = RuleBook::new(backend.queue.committer().clone());
    options.journal = backend.journal.clone();
    options.standing = Some(Arc::new(rules));
    let reports = Arc::new(SwitchedReports {
        switch: backend.switch.clone(),
        precedence: services.gate.precedences.of_reports(),
    });
    let delivery = Delivery::start(Arc::clone(&backend.queue), reports, options)?;
    let delivery = Arc::new(delivery);
    // One channel runs in a process, and it is started once.
    let _ = services.delivery.set(Arc::clone(&delivery));
    let grace = services.config.server.shutdown_grace;
    let mut stopping = shutdown.clone();
    tasks.draining.spawn(async move {
        stopping.draining().await;
        delivery.stop(grace).await;
    });
    Ok(())
}
