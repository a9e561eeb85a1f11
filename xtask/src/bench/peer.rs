//! The peer: Postfix delivering into Dovecot, brought up by scripts.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::subject::{Stop, Subject, succeed, wait_for};
use crate::error::TaskError;

/// Mailbox formats of the peer, each measured from scratch.
pub(super) const FORMATS: [&str; 3] = ["maildir", "sdbox", "mdbox"];
const SMTP: &str = "127.0.0.1:12525";
const IMAP: &str = "127.0.0.1:12143";
const POP3: &str = "127.0.0.1:12110";

/// The folder of the scripts, or why the peer cannot be brought up.
pub(super) fn available(folder: Option<&Path>) -> Result<&Path, String> {
    let folder = folder.ok_or("no --peer-dir given")?;
    if !folder.join("peer-up.sh").is_file() {
        return Err(format!("there is no peer-up.sh in {}", folder.display()));
    }
    let id = Command::new("id").arg("-u").output();
    match id.is_ok_and(|id| id.stdout.trim_ascii() == b"0") {
        true => Ok(folder),
        false => Err("its mailboxes need root".to_owned()),
    }
}

/// Brings the peer up with empty mailboxes.
pub(super) fn start(folder: &Path, format: &str) -> Result<Subject, TaskError> {
    println!("peer: {format}");
    bring_up(folder, format, None)
}

/// Brings the peer up as a relay that hands everything to the SMTP server at `sink`.
pub(super) fn start_relay(folder: &Path, sink: SocketAddr) -> Result<Subject, TaskError> {
    println!("peer: relay");
    let to = format!("smtp:[{}]:{}", sink.ip(), sink.port());
    bring_up(folder, "maildir", Some(to))
}

fn bring_up(folder: &Path, format: &str, relay_to: Option<String>) -> Result<Subject, TaskError> {
    let mut up = Command::new(folder.join("peer-up.sh"));
    up.arg(format);
    if let Some(to) = relay_to {
        up.env("RELAY_TO", to);
    }
    succeed(&mut up, "peer-up.sh")?;
    let stop = Some(Stop::Command(Command::new(folder.join("peer-down.sh"))));
    for address in [SMTP, IMAP, POP3] {
        wait_for(address)?;
    }
    Ok(Subject {
        name: format.to_owned(),
        smtp: SMTP.to_owned(),
        imap: IMAP.to_owned(),
        pop3: POP3.to_owned(),
        pid: None,
        metrics: None,
        stop,
        folder: None,
    })
}
