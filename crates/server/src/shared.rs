//! The store that nodes share: the database, the packs of messages, and what carries events.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nightmail_commit::{EventHub, next_pack_writer};
use nightmail_events::{
    Bridge, BridgeOptions, Bus, Channel, NatsBus, NatsLogin, NatsOptions, NatsTls, PostgresBus,
};
use nightmail_heap::{Heap, ObjectPacks, ObjectsOptions, PackOptions, PackStore};
use nightmail_postgres::{PostgresEngine, PostgresOptions, PostgresTls, SchemaError};
use nightmail_store::StoreError;

use crate::backend::OpenError;
use crate::config::{Config, DatabaseTls, EventBus, read_secret};
use crate::error::ServerError;
use crate::tls::read_certificates;

/// Between two looks whether the database answers, while a node starts.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The parts of a shared store.
pub(crate) struct SharedStore {
    pub(crate) engine: Arc<PostgresEngine>,
    pub(crate) heap: Heap,
    options: PostgresOptions,
}

/// Makes the tables of the shared store, or brings them up to date; says what was done.
pub async fn init(config: &Config) -> Result<String, ServerError> {
    let options = database(config)?;
    let report = nightmail_postgres::init(&options)
        .await
        .map_err(OpenError::Database)?;
    let to = report.to;
    Ok(match report.from {
        None => format!("the tables are made, in version {to}"),
        Some(from) if from == to => format!("the tables are there already, in version {to}"),
        Some(from) => format!("the tables are brought from version {from} to {to}"),
    })
}

impl SharedStore {
    /// Opens the store. A database that does not answer is waited for where `patient`.
    pub(crate) async fn open(config: &Config, patient: bool) -> Result<Self, ServerError> {
        let options = database(config)?;
        let engine = Arc::new(open_engine(&options, patient).await?);
        let packs: Arc<dyn PackStore> = match &config.objects.url {
            Some(url) => objects(config, url)?,
            None => Arc::new(engine.packs()),
        };
        let data = &config.server.data;
        let cache = config.objects.cache.get();
        let writer = next_pack_writer(&*engine).await;
        let pack_options = PackOptions {
            // Of this start alone: object stores that write one object over another make it needed.
            writer: Some(writer.map_err(StoreError::from)?),
            cache_dir: (cache > 0).then(|| data.join("cache")),
            cache_bytes: cache,
            ..PackOptions::new(data.join("spool"))
        };
        let heap = Heap::open_packs(packs, engine.heap_key(), pack_options)
            .map_err(|error| OpenError::Heap(data.display().to_string(), error))?;
        Ok(Self {
            engine,
            heap,
            options,
        })
    }

    /// Joins the hub of this node with those of the others.
    pub(crate) fn bridge(&self, config: &Config, hub: EventHub) -> Result<Bridge, ServerError> {
        let wrong = |error: &dyn std::fmt::Display| OpenError::Settings(error.to_string());
        let channel = Channel::parse(&config.events.cluster).map_err(|error| wrong(&error))?;
        let bus: Arc<dyn Bus> = match config.events.bus {
            EventBus::Postgresql => Arc::new(PostgresBus::start(self.options.clone(), channel)),
            EventBus::Nats => Arc::new(NatsBus::start(nats(config, channel)?)),
        };
        Ok(Bridge::start(
            hub,
            bus,
            BridgeOptions::new(config.node_name()),
        ))
    }
}

async fn open_engine(
    options: &PostgresOptions,
    patient: bool,
) -> Result<PostgresEngine, OpenError> {
    let mut told = false;
    loop {
        match PostgresEngine::open(options.clone()).await {
            Ok(engine) => return Ok(engine),
            Err(error @ (SchemaError::Connect(_) | SchemaError::Sql(_))) if patient => {
                if !told {
                    tracing::warn!(%error, "waiting for the database");
                    told = true;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(error) => return Err(OpenError::Database(error)),
        }
    }
}

fn database(config: &Config) -> Result<PostgresOptions, ServerError> {
    let settings = &config.postgresql;
    let Some(url) = &settings.url else {
        let says = "engine = \"postgresql\" in [store] and a `url` in [postgresql] are wanted";
        return Err(OpenError::Settings(says.to_owned()).into());
    };
    let mut server: tokio_postgres::Config = url
        .parse()
        .map_err(|error| OpenError::Settings(format!("`url` in [postgresql]: {error}")))?;
    if let Some(file) = &settings.password_file {
        server.password(secret(file)?);
    }
    let tls = match (settings.tls, &settings.authorities) {
        (DatabaseTls::None, _) => PostgresTls::None,
        (DatabaseTls::Verify, None) => PostgresTls::Verify(Vec::new()),
        (DatabaseTls::Verify, Some(file)) => PostgresTls::Verify(read_certificates(file)?),
    };
    let mut options = PostgresOptions::new(server, tls);
    options.connections_max = settings.connections_max;
    options.acquire_timeout = settings.acquire_timeout;
    options.statement_timeout = settings.statement_timeout;
    Ok(options)
}

fn objects(config: &Config, url: &str) -> Result<Arc<dyn PackStore>, ServerError> {
    let settings = &config.objects;
    let mut options = ObjectsOptions::new(url);
    options.endpoint.clone_from(&settings.endpoint);
    options.region = Some(settings.region.clone());
    options.access_key.clone_from(&settings.access_key);
    options.secret_key = settings
        .secret_key_file
        .as_deref()
        .map(secret)
        .transpose()?;
    options.request_timeout = settings.request_timeout;
    // Whoever writes http:// means it.
    options.allow_http = settings
        .endpoint
        .as_deref()
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    let opened = ObjectPacks::connect(&options);
    Ok(opened.map_err(|error| OpenError::Settings(format!("[objects]: {error}")))?)
}

fn nats(config: &Config, channel: Channel) -> Result<NatsOptions, ServerError> {
    let settings = &config.events;
    let servers = settings.nats_servers.iter().map(ToString::to_string);
    let mut options = NatsOptions::new(servers, channel)
        .map_err(|error| OpenError::Settings(format!("[events]: {error}")))?;
    if let (Some(name), Some(file)) = (&settings.nats_user, &settings.nats_password_file) {
        options.login = NatsLogin::User {
            name: name.clone(),
            password: secret(file)?,
        };
    }
    if settings.nats_tls {
        options.tls = NatsTls::Required(config.tls.authorities.clone());
    }
    Ok(options)
}

/// The first line of a file that holds a secret.
fn secret(file: &Path) -> Result<String, ServerError> {
    let read = read_secret(file).map_err(|source| ServerError::Io {
        what: "a secret cannot be read",
        source,
    })?;
    Ok(read.expose().to_owned())
}
