//! A full disk: mail is put off and nothing is lost; with space again, mail is taken again, without a restart.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::site::private_dir;
use common::{Imap, Pop3, Service, Site, Smtp, eventually, message, skip};

/// A file system of 40 MB; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=40m,mode=0700", "nightmail-test"])
            .arg(at)
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then(|| Self(at.to_owned()))
    }

    /// Leaves no space; the file that takes it all is to be removed to have some again.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = File::create(&path).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("cannot unmount {}", self.0.display());
        }
    }
}

/// A body that compression does not shrink.
fn noise(seed: u64, octets: usize) -> String {
    let mut state = seed | 1;
    let mut draw = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (b'!' + 1 + ((state >> 33) % 92) as u8) as char
    };
    let line = |draw: &mut dyn FnMut() -> char| (0..76).map(|_| draw()).collect::<String>() + "\n";
    (0..octets / 77).map(|_| line(&mut draw)).collect()
}

#[test]
fn a_full_disk_puts_mail_off_and_loses_none() {
    let dir = private_dir();
    let data = dir.path().join("data");
    let Some(disk) = SmallDisk::mount(&data) else {
        return skip("a file system can be mounted by root only");
    };
    let mut site = Site::on(dir, data, "[store]\nsegment = \"1MiB\"\n");
    site.admin(&["domain", "add", "example.test"]);
    site.add_account("alice");
    site.start();
    let mut accepted = Vec::new();
    let deliver = |site: &Site, number: u64| {
        let sent = message(&format!("full-{number}"), &noise(number, 60_000));
        let mut smtp = Smtp::connect(site.address(Service::Smtp)).unwrap();
        let reply = smtp
            .send("s@far.test", &["alice@example.test"], &sent)
            .unwrap();
        (reply, sent)
    };
    for number in 0..10 {
        let (reply, sent) = deliver(&site, number);
        assert_eq!(reply.code, 250);
        accepted.push(sent);
    }
    for round in 1..=3 {
        let ballast = disk.fill();
        let mut refused = 0;
        for number in 0..10 {
            // Space that is reserved already may still be used; what is taken then counts like any other.
            let (reply, sent) = deliver(&site, round * 100 + number);
            match reply.code {
                250 => accepted.push(sent),
                400..=499 => refused += 1,
                _ => panic!("{reply:?}"),
            }
        }
        assert!(refused > 0, "the disk is not full");
        let readable = read(&site);
        assert_eq!(readable.len(), accepted.len(), "earlier mail can be read");
        let mut imap = Imap::open(site.address(Service::Imap), "alice", "demo", "INBOX").unwrap();
        let appended = imap.append("INBOX", "", &message("full-append", &noise(7, 500_000)));
        assert!(
            appended.unwrap().status.starts_with("NO"),
            "APPEND on a full disk"
        );
        // A server that dies on a full disk comes back and serves what there is.
        site.kill();
        site.start();
        compare(&read(&site), &accepted);
        std::fs::remove_file(ballast).unwrap();
        let sent = eventually("mail is taken again", || {
            let (reply, sent) = deliver(&site, round * 100 + 99);
            assert!(
                reply.code == 250 || (400..500).contains(&reply.code),
                "{reply:?}"
            );
            (reply.code == 250).then_some(sent)
        });
        accepted.push(sent);
    }
    compare(&read(&site), &accepted);
    site.stop();
    site.start();
    compare(&read(&site), &accepted);
    let checked = site.admin(&["check", "--read-messages"]);
    assert_eq!(checked["problems"], serde_json::json!([]), "{checked}");
    site.stop();
}

fn read(site: &Site) -> Vec<Vec<u8>> {
    let mut pop3 = Pop3::login(site.address(Service::Pop3), "alice", "demo").unwrap();
    let count = pop3.count().unwrap();
    let messages = (1..=count).map(|number| pop3.read(&format!("RETR {number}")).unwrap());
    let messages = messages.collect();
    pop3.say("QUIT").unwrap();
    messages
}

/// Everything accepted is there once and in order, and nothing else is.
fn compare(stored: &[Vec<u8>], accepted: &[Vec<u8>]) {
    assert_eq!(stored.len(), accepted.len());
    for (stored, accepted) in stored.iter().zip(accepted) {
        assert!(stored.ends_with(accepted));
    }
}
