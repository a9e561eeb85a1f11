//! mbsync, which keeps a Maildir and mailboxes alike in both directions.

use std::path::{Path, PathBuf};

use super::common::tools::{has, private_file, run};
use super::common::{Service, Site, message, text};
use super::{alice, fill};

/// A Maildir tree with the configuration that ties it to alice's mailboxes.
struct Mirror {
    config: PathBuf,
    root: PathBuf,
}

impl Mirror {
    fn new(site: &Site, name: &str, service: Service, account: &str) -> Self {
        let root = site.dir().join(name);
        std::fs::create_dir_all(&root).unwrap();
        let (host, port, shown) = (site.host(), site.port(service), root.display());
        let config = format!(
            "IMAPAccount a\nHost {host}\nPort {port}\nUser alice\nPass demo\n{account}\n\
             IMAPStore remote\nAccount a\n\n\
             MaildirStore local\nPath {shown}/\nInbox {shown}/INBOX\nSubFolders Verbatim\n\n\
             Channel all\nFar :remote:\nNear :local:\nPatterns *\nCreate Both\nRemove Both\nExpunge Both\nSync All\nSyncState *\n"
        );
        let config = private_file(&root.with_extension("rc"), &config);
        Self { config, root }
    }

    fn sync(&self) {
        run("mbsync", &["-c", self.config.to_str().unwrap(), "all"]).ok();
    }

    /// The files of a mailbox.
    fn files(&self, mailbox: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for folder in ["new", "cur"] {
            let entries = std::fs::read_dir(self.root.join(mailbox).join(folder)).unwrap();
            found.extend(entries.map(|entry| entry.unwrap().path()));
        }
        found
    }

    /// The one file that holds this subject.
    fn find(&self, mailbox: &str, subject: &str) -> PathBuf {
        let line = format!("Subject: {subject}\n");
        let mut found = self.files(mailbox);
        found.retain(|path| text(&std::fs::read(path).unwrap()).contains(&line));
        assert_eq!(found.len(), 1, "{subject}: {found:?}");
        found.remove(0)
    }

    /// Gives a message other flags.
    fn mark(&self, mailbox: &str, subject: &str, flags: &str) {
        let path = self.find(mailbox, subject);
        let name = path.file_name().unwrap().to_str().unwrap();
        let base = name.split(":2,").next().unwrap();
        let to = self
            .root
            .join(mailbox)
            .join("cur")
            .join(format!("{base}:2,{flags}"));
        std::fs::rename(path, to).unwrap();
    }
}

fn flags_of(path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.split_once(":2,")
        .map(|(_, flags)| flags.to_owned())
        .unwrap_or_default()
}

#[test]
fn mbsync_keeps_both_sides_alike() {
    if !has("mbsync") {
        return;
    }
    let mut site = Site::started("");
    let sent = fill(&site, "mb", 4);
    let mirror = Mirror::new(
        &site,
        "mirror",
        Service::Imap,
        "SSLType None\nAuthMechs LOGIN\n",
    );
    mirror.sync();
    assert_eq!(mirror.files("INBOX").len(), 4);
    let first = text(&std::fs::read(mirror.find("INBOX", "mb-1")).unwrap());
    // mbsync adds a field of its own.
    let lines = first.lines().filter(|line| !line.starts_with("X-TUID: "));
    let plain: String = lines.map(|line| format!("{line}\n")).collect();
    assert!(
        plain.ends_with(&text(&sent[0]).replace("\r\n", "\n")),
        "{first}"
    );

    // From here to there: flags, a removal, a new message, a new mailbox.
    mirror.mark("INBOX", "mb-1", "S");
    mirror.mark("INBOX", "mb-2", "ST");
    mirror.mark("INBOX", "mb-3", "FR");
    let local = text(&message("mb-local", "from the Maildir")).replace("\r\n", "\n");
    std::fs::write(mirror.root.join("INBOX/cur/1.1.here:2,D"), &local).unwrap();
    for folder in ["Box/new", "Box/cur", "Box/tmp"] {
        std::fs::create_dir_all(mirror.root.join(folder)).unwrap();
    }
    std::fs::write(
        mirror.root.join("Box/new/2.1.here"),
        local.replace("mb-local", "mb-box"),
    )
    .unwrap();
    mirror.sync();
    let mut imap = alice(&site, "INBOX");
    let flags = imap
        .say("FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        .unwrap()
        .ok();
    let of = |subject: &str| {
        let held = flags.untagged.iter().find(|response| {
            response.text.contains(subject)
                || response
                    .literals
                    .iter()
                    .any(|literal| text(literal).contains(subject))
        });
        held.map(|response| response.text.clone())
    };
    assert!(of("mb-1").unwrap().contains("\\Seen"));
    assert_eq!(of("mb-2"), None, "it was expunged");
    let third = of("mb-3").unwrap();
    assert!(
        third.contains("\\Flagged") && third.contains("\\Answered"),
        "{third}"
    );
    assert!(of("mb-local").unwrap().contains("\\Draft"));
    assert_eq!(alice(&site, "Box").bodies("").unwrap().len(), 1);

    // From there to here: flags, a removal, a new message, a new mailbox.
    fill(&site, "mb-late", 1);
    for command in [
        "STORE 1 -FLAGS (\\Seen)",
        "STORE 2 FLAGS (\\Seen)",
        "STORE 3 +FLAGS (\\Deleted)",
        "EXPUNGE",
        "CREATE Other",
        "COPY 1 Other",
    ] {
        imap.say(command).unwrap().ok();
    }
    mirror.sync();
    assert_eq!(flags_of(&mirror.find("INBOX", "mb-1")), "");
    assert_eq!(flags_of(&mirror.find("INBOX", "mb-3")), "S");
    assert_eq!(mirror.files("INBOX").len(), 4);
    mirror.find("INBOX", "mb-late-1");
    mirror.find("Other", "mb-1");
    mirror.sync();
    assert_eq!(
        mirror.files("INBOX").len(),
        4,
        "a second run changes nothing"
    );
    site.stop();
}

#[test]
fn mbsync_pulls_over_tls() {
    if !has("mbsync") {
        return;
    }
    let mut site = Site::started("");
    fill(&site, "mt", 2);
    let certificate = site.certificate();
    let shown = certificate.display();
    for (name, service, kind) in [
        ("starttls", Service::Imap, "STARTTLS"),
        ("imaps", Service::Imaps, "IMAPS"),
    ] {
        let account = format!(
            "SSLType {kind}\nSystemCertificates no\nCertificateFile {shown}\nAuthMechs PLAIN\n"
        );
        let mirror = Mirror::new(&site, name, service, &account);
        mirror.sync();
        assert_eq!(mirror.files("INBOX").len(), 2, "{name}");
    }
    site.stop();
}
