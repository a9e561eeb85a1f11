//! The example of a cluster: it comes up, takes mail through its front, serves it on every node, outlives a node that is
//! killed, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Imap, Smtp, eventually, message};
use nightmail_testbed::programs::{find, skip};

/// The example in a folder of its own; stopped when dropped.
struct Example {
    folder: PathBuf,
}

impl Example {
    fn run(&self, script: &str, arguments: &[&str]) -> Output {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/cluster");
        Command::new("timeout")
            .args(["-k", "5s", "120s"])
            .arg(scripts.join(script))
            .args(arguments)
            .env("NIGHTMAIL", env!("CARGO_BIN_EXE_nightmail"))
            .env("NIGHTMAIL_CLUSTER", &self.folder)
            .env("NIGHTMAIL_GARAGE", "")
            .output()
            .unwrap()
    }

    fn up(&self) {
        let up = self.run("up", &[]);
        assert!(up.status.success(), "{up:?}");
    }

    fn nodes(&self) -> String {
        let mut nodes = Command::new(env!("CARGO_BIN_EXE_nightmail"));
        nodes.arg("--config").arg(self.folder.join("n1.toml"));
        let listed = nodes.args(["node", "list"]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let down = self.run("down", &["--remove"]);
        if !std::thread::panicking() {
            assert!(down.status.success(), "{down:?}");
            assert!(!self.folder.exists());
        }
    }
}

fn deliver(subject: &str) {
    let front = "127.20.0.1:2525".parse().unwrap();
    let sent = message(subject, "through the front");
    // The front may have to learn first which nodes are there.
    eventually("a node takes the message", || {
        let mut smtp = Smtp::connect(front).ok()?;
        let reply = smtp.send("a@far.test", &["bob@example.test"], &sent).ok()?;
        (reply.code == 250).then_some(())
    });
}

fn messages(host: &str) -> usize {
    let address = format!("{host}:14325").parse().unwrap();
    let mut imap = Imap::open(address, "bob", "demo", "INBOX").unwrap();
    imap.bodies("").unwrap().len()
}

#[test]
fn the_example_of_a_cluster_works_and_outlives_a_node() {
    if find("haproxy", &["/usr/sbin"]).is_none() {
        return skip("haproxy is not installed");
    }
    let Some(postgres) = nightmail_testbed::postgres::Postgres::start() else {
        return;
    };
    drop(postgres);
    let folder = std::env::temp_dir().join(format!("nightmail-example-{}", std::process::id()));
    let example = Example { folder };
    example.up();
    deliver("one");
    assert_eq!(messages("127.20.0.1"), 1, "by the front");

    let pid = std::fs::read_to_string(example.folder.join("n3.pid")).unwrap();
    let killed = Command::new("kill").args(["-9", pid.trim()]).status();
    assert!(killed.unwrap().success());
    deliver("two");
    eventually("the others have shut the dead node out", || {
        let nodes = example.nodes();
        nodes.contains("fenced").then_some(())
    });
    example.up();
    assert!(!example.nodes().contains("fenced"), "it is back");
    deliver("three");
    for node in ["127.20.0.11", "127.20.0.12", "127.20.0.13"] {
        assert_eq!(messages(node), 3, "{node}");
    }
}
