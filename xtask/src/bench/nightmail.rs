//! Nightmail on a temporary folder, with the users that the loads name.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::load::{PASSWORD, USERS, user};
use super::subject::{Stop, Subject, wait_for};
use crate::error::TaskError;

const SMTP: &str = "127.0.0.1:13525";
const IMAP: &str = "127.0.0.1:13143";
const POP3: &str = "127.0.0.1:13110";
const HTTP: &str = "127.0.0.1:13825";

/// Starts the server and adds the users.
pub(super) fn start(program: &Path) -> Result<Subject, TaskError> {
    println!("nightmail");
    let folder = tempfile::tempdir().map_err(|source| TaskError::File {
        path: std::env::temp_dir(),
        source,
    })?;
    let config = folder.path().join("nightmail.toml");
    let text = configuration(&folder.path().join("data"));
    std::fs::write(&config, text).map_err(|source| TaskError::File {
        path: config.clone(),
        source,
    })?;
    let child = Command::new(program)
        .arg("serve")
        .arg("--config")
        .arg(&config)
        .spawn()
        .map_err(|source| TaskError::Start {
            program: program.display().to_string(),
            source,
        })?;
    let subject = Subject {
        name: "nightmail".to_owned(),
        smtp: SMTP.to_owned(),
        imap: IMAP.to_owned(),
        pop3: POP3.to_owned(),
        pid: Some(child.id()),
        metrics: Some(HTTP.to_owned()),
        stop: Some(Stop::Process(child, folder)),
    };
    for address in [SMTP, IMAP, POP3] {
        wait_for(address)?;
    }
    add_users(program, &config)?;
    Ok(subject)
}

fn configuration(data: &Path) -> String {
    let mut text = format!(
        "[server]\nhostname = \"mx.example.test\"\ndata = \"{}\"\n\n[admin]\nhttp = \"{HTTP}\"\n\n[log]\nlevel = \"warn\"\n",
        data.display()
    );
    for (protocol, address) in [("smtp", SMTP), ("imap", IMAP), ("pop3", POP3)] {
        text += &format!(
            "\n[[listener]]\nprotocol = \"{protocol}\"\naddress = \"{address}\"\ntls = \"none\"\nplaintext_auth = true\nconnections_per_address_max = 10000\n"
        );
    }
    text
}

fn add_users(program: &Path, config: &Path) -> Result<(), TaskError> {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).arg("--config").arg(config);
        with_password(&mut command, &arguments.join(" "))
    };
    run(&["domain", "add", "example.test"])?;
    for number in 1..=USERS {
        run(&["account", "add", &user(number)])?;
    }
    Ok(())
}

/// Runs a command that may read the password from its standard input.
fn with_password(command: &mut Command, name: &str) -> Result<(), TaskError> {
    let failed = |source| TaskError::Start {
        program: format!("nightmail {name}"),
        source,
    };
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
            program: format!("nightmail {name}"),
            detail: String::new(),
        }),
    }
}
