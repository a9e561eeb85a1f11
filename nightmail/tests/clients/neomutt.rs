//! neomutt in batch: sending, and working on a mailbox by a macro of keys.

use std::path::{Path, PathBuf};

use super::common::tools::{Done, has, private_file, run_with};
use super::common::{Service, Site, text};
use super::{alice, fill, only};

fn config(site: &Site, settings: &str) -> PathBuf {
    let dir = site.dir().display();
    let text = format!(
        "set folder = \"{dir}\"\nset record = \"\"\nset sendmail = \"\"\nset header_cache = \"\"\nset certificate_file = \"{}\"\n\
         set ssl_verify_host = no\nset ssl_verify_dates = no\nset use_envelope_from = yes\nset from = \"alice@example.test\"\n\
         set realname = \"Alice\"\nset quit = yes\nset delete = yes\nset move = no\nset confirm_append = no\nset confirm_create = no\n\
         set wait_key = no\nset mark_old = no\n{settings}",
        site.certificate().display()
    );
    private_file(&site.dir().join("neomuttrc"), &text)
}

fn neomutt(home: &Path, arguments: &[&str], input: &str) -> Done {
    run_with(
        "neomutt",
        arguments,
        input.as_bytes(),
        &[("HOME", home), ("TERM", Path::new("vt100"))],
    )
}

#[test]
fn neomutt_sends() {
    if !has("neomutt") {
        return;
    }
    let mut site = Site::started("");
    for (subject, scheme, service, tls) in [
        (
            "nm-plain",
            "smtp",
            Service::Submission,
            "set ssl_starttls = no\n",
        ),
        (
            "nm-starttls",
            "smtp",
            Service::Submission,
            "set ssl_starttls = yes\nset ssl_force_tls = yes\n",
        ),
        ("nm-tls", "smtps", Service::Submissions, ""),
    ] {
        let url = format!(
            "set smtp_url = \"{scheme}://alice@{}\"\n",
            site.address(service)
        );
        let settings =
            format!("{url}set smtp_pass = \"demo\"\nset smtp_authenticators = \"plain\"\n{tls}");
        let file = config(&site, &settings);
        let arguments = [
            "-n",
            "-F",
            file.to_str().unwrap(),
            "-s",
            subject,
            "--",
            "bob@example.test",
        ];
        neomutt(site.dir(), &arguments, "Gr\u{fc}\u{df}e\n").ok();
        let got = text(&only(&site, "bob", subject));
        assert!(
            got.contains("From: Alice <alice@example.test>\r\n"),
            "{got}"
        );
    }
    site.stop();
}

#[test]
fn neomutt_reads_saves_and_flags_in_an_imap_mailbox() {
    if !has("neomutt") || !has("script") {
        return;
    }
    let mut site = Site::started("");
    fill(&site, "nr", 3);
    let saved = site.dir().join("saved");
    for (number, scheme, service) in [(1, "imap", Service::Imap), (2, "imaps", Service::Imaps)] {
        let settings = "set imap_pass = \"demo\"\nset imap_authenticators = \"plain\"\nset ssl_starttls = no\nset mbox_type = mbox\n";
        let file = config(&site, settings);
        let url = format!("{scheme}://alice@{}/INBOX", site.address(service));
        let keys = format!(
            "push \"<limit>~s nr-{number}<enter><flag-message><copy-message><kill-line>{}<enter><sync-mailbox><exit>\"",
            saved.display()
        );
        // neomutt works on a mailbox only in front of a terminal.
        let command = format!("neomutt -n -F '{}' -f '{url}' -e '{keys}'", file.display());
        let arguments = ["-qec", &command, "/dev/null"];
        run_with(
            "script",
            &arguments,
            b"",
            &[("HOME", site.dir()), ("TERM", Path::new("vt100"))],
        )
        .ok();
        let content = text(&std::fs::read(&saved).unwrap());
        assert_eq!(
            content.matches(&format!("Subject: nr-{number}\n")).count(),
            1,
            "{content}"
        );
    }
    let mut imap = alice(&site, "INBOX");
    let flagged = imap.say("SEARCH FLAGGED").unwrap().ok();
    assert_eq!(flagged.untagged[0].text, "* SEARCH 1 2");
    site.stop();
}
