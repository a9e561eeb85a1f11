//! PostgreSQL: a server, its synchronous replica, restarts and failover.
//!
//! PostgreSQL refuses to run as root, so root's tests run it as the user `postgres`.

#![expect(
    clippy::expect_used,
    reason = "a test whose server does not start must end, as tests do"
)]

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::programs;

/// How long anything may take that PostgreSQL does.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether it has been done.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a server is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether the log is forced to the disk: only for measurements, a killed process loses nothing without.
    pub fsync: bool,
    /// Certificate chain and key, in PEM, for connections over TLS beside those without.
    pub tls: Option<(String, String)>,
    /// More settings, a line each.
    pub settings: Vec<String>,
}

/// A PostgreSQL server with a superuser `nightmail` and an empty database `nightmail`. It ends when it is dropped.
pub struct Postgres {
    programs: Programs,
    folder: TempDir,
    port: u16,
    server: Option<Child>,
    paused: Vec<u32>,
}

/// Where PostgreSQL's programs are, and whom they run as.
#[derive(Clone)]
struct Programs {
    folder: PathBuf,
    /// User and group, when this process is root.
    run_as: Option<(u32, u32)>,
}

impl Postgres {
    /// A server that forgets on a power loss, and on nothing less. `None`, said visibly, where PostgreSQL is not
    /// installed.
    ///
    /// # Panics
    ///
    /// When the server does not start.
    pub fn start() -> Option<Self> {
        Self::start_with(&Options::default())
    }

    /// The same with a certificate and its key, in PEM; connections without TLS are taken as well.
    ///
    /// # Panics
    ///
    /// When the server does not start.
    pub fn start_with_tls(certificate: &str, key: &str) -> Option<Self> {
        Self::start_with(&Options {
            tls: Some((certificate.to_owned(), key.to_owned())),
            ..Options::default()
        })
    }

    /// The same with `options`.
    ///
    /// # Panics
    ///
    /// When the server does not start.
    pub fn start_with(options: &Options) -> Option<Self> {
        let programs = Programs::find()?;
        let folder = programs.folder_of_its_own();
        let data = folder.path().join("data");
        let mut initdb = programs.command("initdb");
        initdb.args(["--username=nightmail", "--auth=trust", "--encoding=UTF8"]);
        initdb.args(["--locale=C", "--no-sync", "--pgdata"]);
        run(initdb.arg(&data));
        programs.configure(&data, options);
        let mut postgres = Self::new(programs, folder);
        postgres.launch();
        postgres.psql_in("postgres", "CREATE DATABASE nightmail");
        Some(postgres)
    }

    fn new(programs: Programs, folder: TempDir) -> Self {
        Self {
            programs,
            folder,
            port: free_port(),
            server: None,
            paused: Vec::new(),
        }
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The port of [`Postgres::address`].
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Where the database is, for a client.
    pub fn url(&self) -> String {
        url_of(&[self.port])
    }

    /// Where the database is when it may be on this server or on `other`.
    pub fn url_with(&self, other: &Self) -> String {
        url_of(&[self.port, other.port])
    }

    /// The folder of the server's Unix socket.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the server has logged since it was made.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Runs SQL in the database; columns of the answer are split by `|`, rows by line feeds.
    ///
    /// # Panics
    ///
    /// When the server refuses it.
    pub fn psql(&self, sql: &str) -> String {
        self.psql_in("nightmail", sql)
    }

    fn psql_in(&self, database: &str, sql: &str) -> String {
        let mut psql = self.programs.command("psql");
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"]);
        psql.args(["-U", "nightmail", "-d", database, "-p"]);
        psql.arg(self.port.to_string()).args(["-c", sql]);
        let output = run(&mut psql);
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    }

    /// Stops the server as an administrator does: open transactions end, everything is written.
    pub fn stop_fast(&mut self) {
        self.stop("INT");
    }

    /// Stops the server as a crash of it does: nothing more is written.
    pub fn kill(&mut self) {
        self.stop("QUIT");
    }

    /// Starts the server again, on the same port, after it was stopped.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn restart(&mut self) {
        if self.server.is_some() {
            self.stop_fast();
        }
        self.launch();
    }

    /// Stops all processes of the server in their tracks: connections stay open and silent.
    pub fn pause(&mut self) {
        let Some(main) = self.server.as_ref().map(Child::id) else {
            return;
        };
        signal("STOP", &[main]);
        self.paused = children(main);
        signal("STOP", &self.paused);
        self.paused.push(main);
    }

    /// Lets a paused server go on.
    pub fn resume(&mut self) {
        signal("CONT", &std::mem::take(&mut self.paused));
    }

    /// A standby that streams from this server. Every commit here then waits until it is on the standby's disk too.
    ///
    /// # Panics
    ///
    /// When it does not start or does not follow.
    pub fn start_replica(&self) -> Self {
        let folder = self.programs.folder_of_its_own();
        let mut backup = self.programs.command("pg_basebackup");
        backup.args(["-h", "127.0.0.1", "-U", "nightmail", "-X", "stream"]);
        backup.args([
            "-R",
            "--checkpoint=fast",
            "--no-sync",
            "-p",
            &self.port.to_string(),
        ]);
        run(backup.arg("-D").arg(folder.path().join("data")));
        let mut replica = Self::new(self.programs.clone(), folder);
        replica.launch();
        let state = |column: &str| self.psql(&format!("SELECT {column} FROM pg_stat_replication"));
        wait_until("the standby streams", || state("state") == "streaming");
        self.psql("ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.psql("SELECT pg_reload_conf()");
        wait_until("the standby is synchronous", || {
            state("sync_state") == "sync"
        });
        replica
    }

    /// Makes a standby a server of its own, which takes writes when this returns.
    ///
    /// # Panics
    ///
    /// When it does not become one.
    pub fn promote(&self) {
        assert_eq!(self.psql("SELECT pg_promote(true, 60)"), "t");
    }

    /// Says that commits no longer wait for a standby.
    pub fn release_replica(&self) {
        self.psql("ALTER SYSTEM SET synchronous_standby_names = ''");
        self.psql("SELECT pg_reload_conf()");
    }

    fn launch(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .expect("a log file");
        let mut command = self.programs.command("postgres");
        command.arg("-D").arg(self.folder.path().join("data"));
        command.arg("-k").arg(self.folder.path());
        command.arg("-p").arg(self.port.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let server = command.stderr(log).spawn().expect("postgres starts");
        self.server = Some(server);
        let mut ready = self.programs.command("pg_isready");
        ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        wait_until("PostgreSQL is ready", || {
            let ended = self.server.as_mut().is_none_or(has_ended);
            assert!(!ended, "PostgreSQL has ended:\n{}", self.log());
            let status = ready.status().expect("pg_isready runs");
            status.success()
        });
    }

    fn stop(&mut self, name: &str) {
        self.resume();
        let Some(mut server) = self.server.take() else {
            return;
        };
        signal(name, &[server.id()]);
        let begin = Instant::now();
        while !has_ended(&mut server) {
            if begin.elapsed() > PATIENCE {
                signal("KILL", &children(server.id()));
                let _ = server.kill();
                let _ = server.wait();
                return;
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Programs {
    fn find() -> Option<Self> {
        let mut folders: Vec<String> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .map(|version| version.path().join("bin").display().to_string())
            .collect();
        folders.sort();
        folders.reverse();
        let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
        let Some(initdb) = programs::find("initdb", &folders) else {
            programs::skip("PostgreSQL is not installed");
            return None;
        };
        let run_as = is_root().then(|| user_of("postgres"));
        // What is on the path may be a link to one of many versions.
        let initdb = fs::canonicalize(initdb).expect("a path that was found");
        Some(Self {
            folder: initdb.parent()?.to_owned(),
            run_as,
        })
    }

    /// A folder in which the user who runs PostgreSQL may write.
    fn folder_of_its_own(&self) -> TempDir {
        let folder = tempfile::Builder::new()
            .prefix("nightmail-pg-")
            .tempdir()
            .expect("a folder for PostgreSQL");
        self.give(folder.path());
        folder
    }

    fn give(&self, path: &Path) {
        if let Some((user, group)) = self.run_as {
            chown(path, Some(user), Some(group)).expect("root may give files away");
        }
    }

    fn command(&self, program: &str) -> Command {
        let path = self.folder.join(program);
        let mut command = match self.run_as {
            None => Command::new(path),
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={user}"));
                command.arg(format!("--regid={group}"));
                command.args(["--clear-groups", "--"]).arg(path);
                command
            }
        };
        command.current_dir("/").env("LC_ALL", "C");
        for variable in ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGDATABASE"] {
            command.env_remove(variable);
        }
        command
    }

    fn configure(&self, data: &Path, options: &Options) {
        let mut lines = vec![
            "listen_addresses = '127.0.0.1'".to_owned(),
            "max_connections = 200".to_owned(),
            "shared_buffers = '32MB'".to_owned(),
            "max_wal_senders = 8".to_owned(),
            "synchronous_commit = on".to_owned(),
            "log_line_prefix = '%m [%p] '".to_owned(),
        ];
        let forced = if options.fsync { "on" } else { "off" };
        lines.push(format!("fsync = {forced}"));
        lines.push(format!("full_page_writes = {forced}"));
        if let Some((certificate, key)) = &options.tls {
            lines.push("ssl = on".to_owned());
            self.write(&data.join("server.crt"), certificate);
            self.write(&data.join("server.key"), key);
        }
        lines.extend(options.settings.iter().cloned());
        let path = data.join("postgresql.conf");
        let mut text = fs::read_to_string(&path).expect("initdb wrote a configuration");
        for line in lines {
            text.push_str(&line);
            text.push('\n');
        }
        fs::write(&path, text).expect("the configuration can be written");
    }

    /// A file that only the user who runs PostgreSQL may read.
    fn write(&self, path: &Path, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        fs::write(path, text).expect("a file can be written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("a file's owner");
        self.give(path);
    }
}

fn url_of(ports: &[u16]) -> String {
    let hosts: Vec<String> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    format!("postgres://nightmail@{}/nightmail", hosts.join(","))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    listener
        .local_addr()
        .expect("a bound port has an address")
        .port()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn user_of(name: &str) -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").expect("a list of users");
    users
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let named = fields.next() == Some(name);
            let user = fields.nth(1)?.parse().ok()?;
            let group = fields.next()?.parse().ok()?;
            named.then_some((user, group))
        })
        .next()
        .expect("the user that PostgreSQL's package makes")
}

fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

fn has_ended(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}

fn signal(name: &str, processes: &[u32]) {
    if processes.is_empty() {
        return;
    }
    let processes = processes.iter().map(u32::to_string);
    let sent: io::Result<Output> = Command::new("kill")
        .arg(format!("-{name}"))
        .args(processes)
        .output();
    sent.expect("signals can be sent");
}

/// The processes whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let is_child = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // The name in parentheses may hold anything; state and parent follow it.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let found = after_name.split_whitespace().nth(1);
        found.and_then(|found| found.parse().ok()) == Some(parent)
    };
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(is_child)
        .collect()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "in time {what}");
        thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_keeps_its_rows_over_a_crash_and_a_failover() {
        let Some(mut primary) = Postgres::start() else {
            return;
        };
        primary.psql("CREATE TABLE t (n int); INSERT INTO t VALUES (1)");
        primary.kill();
        primary.restart();
        let replica = primary.start_replica();
        primary.psql("INSERT INTO t VALUES (2)");
        primary.pause();
        replica.promote();
        assert_eq!(replica.psql("SELECT sum(n) FROM t"), "3");
        replica.psql("INSERT INTO t VALUES (4)");
        primary.resume();
        primary.stop_fast();
        assert_eq!(replica.psql("SELECT sum(n) FROM t"), "7");
        assert!(replica.log().contains("standby"));
    }
}
