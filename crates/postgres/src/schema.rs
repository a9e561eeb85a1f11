//! The tables: how they are made, and what version they have.
//!
//! | table | holds |
//! |---|---|
//! | `nm_cluster` | the version of the schema, and the secret that all nodes share |
//! | `nm_lane` | for each connection the number of its last batch |
//! | `nm_pack` | packs of messages, where there is no object store |
//! | `nm_…` | a space each: key and value |

use nightmail_engine::Space;
use nightmail_heap::HeapKey;
use thiserror::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient};

use crate::connect::{ConnectError, PostgresOptions, connect, describe};
use crate::fault::Fault;
use crate::sql::table;

/// How often the making is tried: two that make the same table at once get in each other's way.
const ATTEMPTS_MAX: usize = 20;

/// What leads from each version to the next, beginning with a database that has none.
const MIGRATIONS: [fn() -> String; 4] = [first_tables, access_tables, relay_tables, mark_tables];

/// The version that this program uses.
pub const SCHEMA_VERSION: u32 = MIGRATIONS.len() as u32;

/// What [`init`] has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InitReport {
    /// The version that was found; `None`: there were no tables.
    pub from: Option<u32>,
    /// The version that there is now.
    pub to: u32,
}

/// A database cannot be used.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// No connection could be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It has no tables yet.
    #[error("the database has no tables of Nightmail: run `nightmail cluster init`")]
    NotInitialized,
    /// Its tables are of an earlier version.
    #[error(
        "the database has version {found}, wanted is {SCHEMA_VERSION}: run `nightmail cluster init`"
    )]
    Older {
        /// Its version.
        found: u32,
    },
    /// Its tables are of a later version than this program knows.
    #[error("the database has version {found}, this program knows {SCHEMA_VERSION} at most")]
    Newer {
        /// Its version.
        found: u32,
    },
    /// What it holds is not what was written.
    #[error("the database is damaged: {0}")]
    Damaged(&'static str),
    /// A statement failed.
    #[error("PostgreSQL refuses: {}", describe(.0))]
    Sql(#[from] tokio_postgres::Error),
    /// The operating system gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(String),
}

/// What a database that can be used says of itself.
pub(crate) struct Opened {
    pub(crate) heap_key: HeapKey,
}

/// Makes the tables, or brings them to the version that this program uses. Does nothing where that is done; two at
/// once are one after the other. Refuses a later version.
pub async fn init(options: &PostgresOptions) -> Result<InitReport, SchemaError> {
    let mut link = connect(options).await?;
    let mut attempt = 1;
    loop {
        match migrate(&mut link.client).await {
            Err(SchemaError::Sql(error)) if attempt < ATTEMPTS_MAX && is_a_race(&error) => {
                attempt += 1;
            }
            done => return done,
        }
    }
}

/// `CREATE TABLE IF NOT EXISTS` looks before it makes; who comes second fails at one of the catalogue's indexes.
fn is_a_race(error: &tokio_postgres::Error) -> bool {
    // A table's row type has its name as well.
    [SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_OBJECT]
        .iter()
        .any(|code| error.code() == Some(code))
        || matches!(Fault::from(error), Fault::Unmet(_) | Fault::Again(_))
}

async fn migrate(client: &mut Client) -> Result<InitReport, SchemaError> {
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS nm_cluster (name text PRIMARY KEY, value bytea NOT NULL)",
        )
        .await?;
    let transaction = client.transaction().await?;
    transaction
        .batch_execute("SET LOCAL synchronous_commit = on; LOCK TABLE nm_cluster IN EXCLUSIVE MODE")
        .await?;
    let from = version(&transaction).await?;
    let found = from.unwrap_or(0);
    if found > SCHEMA_VERSION {
        return Err(SchemaError::Newer { found });
    }
    for migration in MIGRATIONS.iter().skip(found as usize) {
        transaction.batch_execute(&migration()).await?;
    }
    if from.is_none() {
        put(&transaction, "heap_key", &random_key()?).await?;
    }
    let to = SCHEMA_VERSION;
    put(&transaction, "schema", to.to_string().as_bytes()).await?;
    transaction.commit().await?;
    Ok(InitReport { from, to })
}

async fn put(client: &impl GenericClient, name: &str, value: &[u8]) -> Result<(), SchemaError> {
    let text = "INSERT INTO nm_cluster (name, value) VALUES ($1, $2) \
                ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    client.execute(text, &[&name, &value]).await?;
    Ok(())
}

async fn get(client: &impl GenericClient, name: &str) -> Result<Option<Vec<u8>>, SchemaError> {
    let text = "SELECT value FROM nm_cluster WHERE name = $1";
    let row = client.query_opt(text, &[&name]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

async fn version(client: &impl GenericClient) -> Result<Option<u32>, SchemaError> {
    let Some(value) = get(client, "schema").await? else {
        return Ok(None);
    };
    let number = std::str::from_utf8(&value)
        .ok()
        .and_then(|text| text.parse().ok());
    let damaged = SchemaError::Damaged("its version is not a number");
    number.map(Some).ok_or(damaged)
}

fn random_key() -> Result<[u8; 32], SchemaError> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| SchemaError::Random(error.to_string()))?;
    Ok(key)
}

/// Looks whether the database can be used, and forgets the lanes of connections that ended long ago.
pub(crate) async fn open(options: &PostgresOptions) -> Result<Opened, SchemaError> {
    let link = connect(options).await?;
    let found = match version(&link.client).await {
        Err(SchemaError::Sql(error)) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            return Err(SchemaError::NotInitialized);
        }
        found => found?.ok_or(SchemaError::NotInitialized)?,
    };
    match found {
        found if found < SCHEMA_VERSION => return Err(SchemaError::Older { found }),
        found if found > SCHEMA_VERSION => return Err(SchemaError::Newer { found }),
        _ => {}
    }
    let key = get(&link.client, "heap_key").await?.unwrap_or_default();
    let damaged = |_| SchemaError::Damaged("its secret has not 32 bytes");
    let key: [u8; 32] = key.try_into().map_err(damaged)?;
    link.client
        .batch_execute(
            "SET synchronous_commit = off; \
             DELETE FROM nm_lane WHERE at < now() - interval '7 days'",
        )
        .await?;
    Ok(Opened {
        heap_key: HeapKey::new(key),
    })
}

/// The spaces of version 2.
const ACCESS: [Space; 2] = [Space::Access, Space::Report];
/// The spaces of version 3.
const RELAY: [Space; 3] = [Space::Outbound, Space::Journal, Space::Site];

/// The spaces of version 4.
const MARKS: [Space; 2] = [Space::Mark, Space::Attribute];

/// The tables of version 1.
fn first_tables() -> String {
    let later = [ACCESS.as_slice(), &RELAY, &MARKS].concat();
    let spaces = Space::ALL
        .into_iter()
        .filter(|space| !later.contains(space));
    let mut text = String::from(
        "CREATE TABLE nm_lane (id bytea PRIMARY KEY, seq bigint NOT NULL, at timestamptz NOT NULL) \
         WITH (fillfactor = 20);\n\
         CREATE TABLE nm_pack (id bigint PRIMARY KEY, data bytea NOT NULL);\n\
         ALTER TABLE nm_pack ALTER COLUMN data SET STORAGE EXTERNAL;\n",
    );
    text.extend(spaces.map(space_table));
    text
}

/// What version 2 adds.
fn access_tables() -> String {
    ACCESS.map(space_table).concat()
}

/// What version 3 adds.
fn relay_tables() -> String {
    RELAY.map(space_table).concat()
}

/// What version 4 adds.
fn mark_tables() -> String {
    MARKS.map(space_table).concat()
}

fn space_table(space: Space) -> String {
    let table = table(space);
    let options = match space {
        // Rows that change again and again find room for the next version beside them, so that no index grows.
        Space::Meta | Space::Account | Space::Mailbox | Space::Mark => {
            " WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05)"
        }
        // Rows that come and go.
        Space::Queue
        | Space::Due
        | Space::Outbound
        | Space::Condemned
        | Space::Access
        | Space::Report => " WITH (autovacuum_vacuum_scale_factor = 0.05)",
        _ => "",
    };
    format!("CREATE TABLE {table} (k bytea PRIMARY KEY, v bytea NOT NULL){options};\n")
}
