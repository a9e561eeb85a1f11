//! Nodes that share a store: deliveries through PostgreSQL, and what a second node adds.
//!
//! PostgreSQL commits synchronously and forces its log to the disk; the messages are packs in a folder that is synced
//! as well. For the second figure PostgreSQL is some milliseconds away, as across a data centre, so that it is not the
//! limit: one node then waits for its answers, and two wait less.

use std::path::Path;
use std::time::Duration;

use nightmail_testbed::postgres::{Options, Postgres};
use nightmail_testbed::proxy::Proxy;

use super::load::{self, Client, Figures, ROUND_TRIPS, SHARED, Scale, TWO_NODES};
use super::nightmail::{Node, add_users, folder, launch, operate, write};
use super::subject::Subject;
use crate::error::TaskError;

const HOSTS: [(&str, &str); 2] = [("n1", "127.0.0.1"), ("n2", "127.0.0.2")];
/// Mailboxes the load is spread over: two nodes that write to the same one get in each other's way.
const USERS: u32 = 1_000;
/// How far away PostgreSQL is for the second figure, one way.
const FAR: Duration = Duration::from_millis(3);

/// Measures; nothing, said visibly, where PostgreSQL is not installed.
pub(super) fn measure(
    program: &Path,
    client: &Client,
    scale: &Scale,
) -> Result<Figures, TaskError> {
    println!("nodes over PostgreSQL");
    let options = Options {
        fsync: true,
        tls: None,
        settings: [
            "synchronous_commit = on",
            "shared_buffers = 256MB",
            "max_wal_size = 4GB",
        ]
        .map(str::to_owned)
        .into(),
    };
    let scale = &scale.over(USERS);
    let mut figures = Figures::new();
    let Some(postgres) = Postgres::start_with(&options) else {
        println!("nodes skipped: PostgreSQL is not installed");
        return Ok(figures);
    };
    let site = Site::new()?;
    let nodes = site.start(program, &postgres.url(), 1)?;
    let before = load::round_trips(&nodes);
    let done = load::deliveries(client, &nodes, scale)?;
    figures.insert(SHARED, done.per_second);
    if let Some((before, after)) = before.zip(load::round_trips(&nodes)) {
        figures.insert(ROUND_TRIPS, (after - before) / done.messages.max(1.0));
    }
    drop(nodes);

    let proxy = Proxy::start(postgres.address());
    proxy.delay(FAR, FAR);
    let [near, far] = [postgres.address(), proxy.address()].map(|address| address.to_string());
    let url = postgres.url().replace(&near, &far);
    let one = load::deliveries(client, &site.start(program, &url, 1)?, scale)?;
    let two = load::deliveries(client, &site.start(program, &url, 2)?, scale)?;
    figures.insert(TWO_NODES, two.per_second / one.per_second);
    Ok(figures)
}

/// The nodes' folders.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Result<Self, TaskError> {
        Ok(Self { folder: folder()? })
    }

    /// Starts `count` nodes over the database at `url`. The first time it makes the tables and adds the users.
    fn start(&self, program: &Path, url: &str, count: usize) -> Result<Vec<Subject>, TaskError> {
        let packs = self.folder.path().join("packs");
        let settings = format!(
            "\n[store]\nengine = \"postgresql\"\n\n[postgresql]\nurl = \"{url}\"\ntls = \"none\"\n\n[objects]\nurl = \"file://{}\"\n\n[auth]\nargon2_memory = \"1MiB\"\nargon2_iterations = 1\n",
            packs.display()
        );
        let fresh = !packs.exists();
        if fresh {
            std::fs::create_dir(&packs).map_err(|source| TaskError::File {
                path: packs.clone(),
                source,
            })?;
        }
        let mut nodes = Vec::new();
        for (name, host) in HOSTS.into_iter().take(count) {
            let settings = format!("{settings}\n[node]\nname = \"{name}\"\n");
            let node = Node {
                name,
                host,
                settings: &settings,
            };
            let config = write(&node, self.folder.path())?;
            operate(program, &config, &["cluster", "init"])?;
            nodes.push(launch(program, &node, &config)?);
            if fresh && nodes.len() == 1 {
                add_users(program, &config, USERS)?;
            }
        }
        Ok(nodes)
    }
}
