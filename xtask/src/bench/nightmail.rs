//! Nightmail on a temporary folder, with the users that the loads name.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::load::{PASSWORD, user};
use super::subject::{Stop, Subject, wait_for};
use crate::error::TaskError;

/// One server to be started.
pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    /// Its loopback address.
    pub(super) host: &'a str,
    /// What its configuration says besides listeners and folder.
    pub(super) settings: &'a str,
}

/// Starts a server that has its store to itself, and adds the users.
pub(super) fn start(program: &Path, users: u32) -> Result<Subject, TaskError> {
    println!("nightmail");
    start_with(program, users, "")
}

/// The same with further settings.
pub(super) fn start_with(program: &Path, users: u32, settings: &str) -> Result<Subject, TaskError> {
    let node = Node {
        name: "nightmail",
        host: "127.0.0.1",
        settings,
    };
    let folder = folder()?;
    let config = write(&node, folder.path())?;
    let mut subject = launch(program, &node, &config)?;
    add_users(program, &config, users)?;
    subject.keep(folder);
    Ok(subject)
}

/// Writes the configuration of a server whose folders are in `folder`.
pub(super) fn write(node: &Node<'_>, folder: &Path) -> Result<PathBuf, TaskError> {
    let config = folder.join(format!("{}.toml", node.name));
    let text = configuration(node, &folder.join(node.name));
    std::fs::write(&config, text).map_err(|source| TaskError::File {
        path: config.clone(),
        source,
    })?;
    Ok(config)
}

/// A new temporary folder.
pub(super) fn folder() -> Result<tempfile::TempDir, TaskError> {
    tempfile::tempdir().map_err(|source| TaskError::File {
        path: std::env::temp_dir(),
        source,
    })
}

/// Starts a server whose configuration has been written.
pub(super) fn launch(program: &Path, node: &Node<'_>, config: &Path) -> Result<Subject, TaskError> {
    spawn(Command::new(program), program, node, config)
}

/// The same with an allocator that keeps nothing that has been given back, so that resident memory tells what is held.
pub(super) fn launch_frugal(
    program: &Path,
    node: &Node<'_>,
    config: &Path,
) -> Result<Subject, TaskError> {
    let mut command = Command::new(program);
    command.env("MIMALLOC_PURGE_DELAY", "0");
    spawn(command, program, node, config)
}

fn spawn(
    mut command: Command,
    program: &Path,
    node: &Node<'_>,
    config: &Path,
) -> Result<Subject, TaskError> {
    let child = command
        .arg("serve")
        .arg("--config")
        .arg(config)
        .spawn()
        .map_err(|source| TaskError::Start {
            program: program.display().to_string(),
            source,
        })?;
    let [smtp, imap, pop3, http] = addresses(node.host);
    let subject = Subject {
        name: node.name.to_owned(),
        pid: Some(child.id()),
        metrics: Some(http),
        stop: Some(Stop::Process(child)),
        folder: None,
        smtp,
        imap,
        pop3,
    };
    for address in [&subject.smtp, &subject.imap, &subject.pop3] {
        wait_for(address)?;
    }
    Ok(subject)
}

/// Where SMTP, IMAP, POP3 and HTTP are.
fn addresses(host: &str) -> [String; 4] {
    [13525, 13143, 13110, 13825].map(|port| format!("{host}:{port}"))
}

fn configuration(node: &Node<'_>, data: &Path) -> String {
    let [smtp, imap, pop3, http] = addresses(node.host);
    let mut text = format!(
        "[server]\nhostname = \"mx.example.test\"\ndata = \"{}\"\n\n[admin]\nhttp = \"{http}\"\n\n[log]\nlevel = \"warn\"\n{}",
        data.display(),
        node.settings
    );
    // The names that loads send from are in no DNS.
    if !node.settings.contains("[receiving]") {
        text += "\n[receiving]\nearly_talker = \"off\"\nsender_domain = \"off\"\nreverse_dns = \"off\"\n\n[authentication]\nspf = \"off\"\ndkim = false\ndmarc = \"off\"\narc = false\n";
    }
    for (protocol, address) in [("smtp", smtp), ("imap", imap), ("pop3", pop3)] {
        text += &format!(
            "\n[[listener]]\nprotocol = \"{protocol}\"\naddress = \"{address}\"\ntls = \"none\"\nplaintext_auth = true\nconnections_per_address_max = 10000\n"
        );
    }
    text
}

/// Adds the users that the loads name.
pub(super) fn add_users(program: &Path, config: &Path, users: u32) -> Result<(), TaskError> {
    operate(program, config, &["domain", "add", "example.test"])?;
    for number in 1..=users {
        operate(program, config, &["account", "add", &user(number)])?;
    }
    Ok(())
}

/// Runs a command of the operator, which may read the password from its standard input.
pub(super) fn operate(program: &Path, config: &Path, arguments: &[&str]) -> Result<(), TaskError> {
    let name = format!("nightmail {}", arguments.join(" "));
    let failed = |source| TaskError::Start {
        program: name.clone(),
        source,
    };
    let mut command = Command::new(program);
    command.args(arguments).arg("--config").arg(config);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that takes no password has closed its input.
        let _ = writeln!(stdin, "{PASSWORD}");
    }
    match child.wait().map_err(failed)?.success() {
        true => Ok(()),
        false => Err(TaskError::Program {
            program: name,
            detail: String::new(),
        }),
    }
}
