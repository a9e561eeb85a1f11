//! Mail programs that people use, each through its first synchronisation and what follows: Thunderbird, Roundcube,
//! imapflow, OfflineIMAP.

use std::path::Path;

use super::common::tools::{Done, has, private_file, python, run};
use super::common::{Service, Site, require, text};
use super::{alice, fill};

/// The subjects of a mailbox, in its order.
fn subjects(site: &Site, mailbox: &str) -> Vec<String> {
    let bodies = alice(site, mailbox).bodies("").unwrap();
    let subject = |(_, body): &(u32, Vec<u8>)| {
        let body = text(body);
        let line = body.lines().find(|line| line.starts_with("Subject: "));
        line.unwrap_or_default()[9..].trim_end().to_owned()
    };
    bodies.iter().map(subject).collect()
}

/// The untagged response to FETCH FLAGS of a message.
fn flags(site: &Site, mailbox: &str, number: usize) -> String {
    let said = alice(site, mailbox)
        .say(&format!("FETCH {number} (FLAGS)"))
        .unwrap()
        .ok();
    said.untagged[0].text.clone()
}

fn port(site: &Site, service: Service) -> String {
    site.port(service).to_string()
}

/// A folder for a program, within the site's.
fn folder(site: &Site, name: &str) -> String {
    let folder = site.dir().join(name);
    std::fs::create_dir(&folder).unwrap();
    folder.to_str().unwrap().to_owned()
}

#[test]
fn thunderbird_synchronises_changes_and_hears_of_news() {
    if !has("thunderbird") || !has("xvfb-run") {
        return;
    }
    let mut site = Site::started("");
    fill(&site, "bird", 3);
    let (host, folder) = (site.host().to_string(), folder(&site, "thunderbird"));
    let (imap, smtp) = (port(&site, Service::Imap), port(&site, Service::Smtp));
    python("thunderbird.py", &[&host, &imap, &smtp, &folder]).ok();
    assert_eq!(subjects(&site, "INBOX"), ["bird-1", "bird-late"]);
    assert_eq!(subjects(&site, "V&APY-gel"), ["bird-1", "bird-2"]);
    assert_eq!(subjects(&site, "Trash"), ["bird-3"]);
    assert_eq!(subjects(&site, "Drafts"), ["bird-uploaded"]);
    let first = flags(&site, "INBOX", 1);
    assert!(
        first.contains("\\Seen") && first.contains("$label1"),
        "{first}"
    );
    assert!(flags(&site, "V&APY-gel", 2).contains("\\Flagged"));
    site.stop();
}

#[test]
fn roundcube_reads_sorts_and_sends() {
    const PAGES: &str = "/var/lib/roundcube/public_html";
    if !has("php") {
        return;
    }
    if !Path::new(PAGES).exists() {
        return require("Roundcube is not installed");
    }
    let mut site = Site::started("");
    fill(&site, "web", 3);
    let (host, folder) = (site.host().to_string(), folder(&site, "roundcube"));
    let (imap, submission) = (port(&site, Service::Imap), port(&site, Service::Submission));
    python("roundcube.py", &[&host, &imap, &submission, &folder]).ok();
    assert_eq!(subjects(&site, "INBOX"), ["web-1", "web-2"]);
    assert_eq!(subjects(&site, "Reading"), ["web-3"]);
    assert_eq!(subjects(&site, "Sent"), ["from the web"]);
    assert!(flags(&site, "INBOX", 2).contains("\\Flagged"));
    super::only(&site, "bob", "from the web");
    site.stop();
}

#[test]
fn imapflow_synchronises_by_modification_sequences() {
    if !has("node") {
        return;
    }
    let Some(library) = std::env::var_os("NIGHTMAIL_IMAPFLOW") else {
        return require("imapflow is not installed");
    };
    let mut site = Site::started("");
    fill(&site, "flow", 3);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients/imapflow.mjs");
    let (host, library) = (
        site.host().to_string(),
        library.to_str().unwrap().to_owned(),
    );
    let (imap, smtp) = (port(&site, Service::Imap), port(&site, Service::Smtp));
    run(
        "node",
        &[script.to_str().unwrap(), &library, &host, &imap, &smtp],
    )
    .ok();
    assert_eq!(
        subjects(&site, "INBOX"),
        ["flow-1", "flow-3", "flow-4", "flow-late"]
    );
    site.stop();
}

/// Runs OfflineIMAP once over alice's mailboxes and a Maildir tree.
fn offlineimap(site: &Site, folder: &str) -> Done {
    let (host, imap) = (site.host(), site.port(Service::Imap));
    let settings = format!(
        "[general]\naccounts = a\nmetadata = {folder}/state\nui = basic\nsocktimeout = 30\n\
         [Account a]\nlocalrepository = near\nremoterepository = far\nmaxage =\n\
         [Repository near]\ntype = Maildir\nlocalfolders = {folder}/mail\n\
         [Repository far]\ntype = IMAP\nremotehost = {host}\nremoteport = {imap}\nremoteuser = alice\n\
         remotepass = demo\nssl = no\nstarttls = no\nauth_mechanisms = PLAIN\n"
    );
    let settings = settings.replace("maxage =\n", "");
    let file = private_file(&Path::new(folder).join("offlineimaprc"), &settings);
    run("offlineimap", &["-o", "-c", file.to_str().unwrap()]).ok()
}

/// The files of a mailbox of the Maildir tree whose text holds a line.
fn files_with(folder: &str, mailbox: &str, line: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for part in ["new", "cur"] {
        let entries = std::fs::read_dir(format!("{folder}/mail/{mailbox}/{part}")).unwrap();
        found.extend(entries.map(|entry| entry.unwrap().path()));
    }
    found.retain(|path| text(&std::fs::read(path).unwrap()).contains(line));
    found
}

#[test]
fn offlineimap_keeps_both_sides_alike() {
    if !has("offlineimap") {
        return;
    }
    let mut site = Site::started("");
    fill(&site, "off", 3);
    let folder = folder(&site, "offlineimap");
    offlineimap(&site, &folder);
    assert_eq!(files_with(&folder, "INBOX", "Subject: off-").len(), 3);
    assert!(Path::new(&format!("{folder}/mail/Sent")).exists());

    // From here to there: a flag, a removal, a new message.
    let first = files_with(&folder, "INBOX", "Subject: off-1").remove(0);
    let name = first.file_name().unwrap().to_str().unwrap().to_owned();
    let base = name.split(":2,").next().unwrap();
    let seen = format!("{folder}/mail/INBOX/cur/{base}:2,FS");
    std::fs::rename(&first, seen).unwrap();
    std::fs::remove_file(files_with(&folder, "INBOX", "Subject: off-2").remove(0)).unwrap();
    let local = "From: alice@example.test\nDate: Mon, 23 Nov 2026 06:00:00 +0000\nSubject: off-local\n\nhere\n";
    std::fs::write(format!("{folder}/mail/INBOX/new/1.1.here"), local).unwrap();
    offlineimap(&site, &folder);
    assert_eq!(subjects(&site, "INBOX"), ["off-1", "off-3", "off-local"]);
    let first = flags(&site, "INBOX", 1);
    assert!(
        first.contains("\\Seen") && first.contains("\\Flagged"),
        "{first}"
    );

    // From there to here.
    let mut imap = alice(&site, "INBOX");
    for command in [
        "STORE 2 +FLAGS (\\Deleted)",
        "EXPUNGE",
        "CREATE Other",
        "COPY 1 Other",
    ] {
        imap.say(command).unwrap().ok();
    }
    fill(&site, "off-late", 1);
    offlineimap(&site, &folder);
    assert!(files_with(&folder, "INBOX", "Subject: off-3").is_empty());
    assert_eq!(files_with(&folder, "INBOX", "Subject: off-late-1").len(), 1);
    assert_eq!(files_with(&folder, "Other", "Subject: off-1").len(), 1);
    offlineimap(&site, &folder);
    assert_eq!(
        subjects(&site, "INBOX"),
        ["off-1", "off-local", "off-late-1"]
    );
    site.stop();
}
