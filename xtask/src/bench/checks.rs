//! What the checks of mail from other sites cost: the same load with every one of them on, and with none.
//!
//! The name server is on this machine. Every message is signed, and every client, name, sender and signature is good,
//! so that none is turned away early.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use nightmail_testbed::dns::NameServer;

use super::load::{self, Client, Scale};
use super::nightmail::start_with;
use crate::error::TaskError;

const SENDER: &str = "sender.example.org";
const SIGN: &str = "--sign=s1@sender.example.org";
/// The record of the key that the load signs with.
const KEY: &str = "v=DKIM1; k=ed25519; p=6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=";
/// How messages whose signature holds are counted.
const PASSED: &str = "nightmail_dkim_total{result=\"pass\"}";

/// Messages a second with every check on, for each one with none.
pub(super) fn measure(program: &Path, client: &Client, scale: &Scale) -> Result<f64, TaskError> {
    println!("every check on, and none");
    let names = names();
    let plain = start_with(program, scale.users, OFF)?;
    let none = load::signed(client, &plain, scale, SIGN)?;
    drop(plain);
    let all = start_with(program, scale.users, &settings(&names))?;
    let every = load::signed(client, &all, scale, SIGN)?;
    let passed = load::counted(&all, &[PASSED]).unwrap_or(0.0);
    if passed < every.messages {
        let what = format!("of {} signatures {passed} were found good", every.messages);
        return Err(TaskError::Found(what));
    }
    Ok(every.per_second / none.per_second)
}

/// Nothing is asked of anybody.
const OFF: &str = r#"
[receiving]
early_talker = "off"
reverse_dns = "off"
helo = "off"
sender_domain = "off"
dns_list_reject = 0

[authentication]
spf = "off"
dkim = false
dmarc = "off"
arc = false
"#;

fn settings(names: &NameServer) -> String {
    let mut text = format!(
        r#"
[delivery]
dns_servers = ["{}"]

[receiving]
reverse_dns = "reject"
helo = "tag"
sender_domain = "reject"
greylist = "suspect"
connections_per_minute = 1000000
messages_per_hour = 100000000

[authentication]
spf = "reject"
dkim = true
dmarc = "reject"
arc = true
dmarc_reports = true
"#,
        names.address()
    );
    for (zone, of) in [
        ("bl1.test", "client"),
        ("bl2.test", "client"),
        ("names.test", "sender"),
    ] {
        text += &format!("\n[[dns_list]]\nzone = \"{zone}\"\nof = \"{of}\"\n");
    }
    for number in 0..20 {
        text += &format!(
            "\n[[access]]\nname = \"rule {number}\"\nstage = \"rcpt\"\nclient = [\"192.0.2.{number}\"]\nsender = [\"@spam{number}.test\"]\naction = \"reject\"\ntext = \"no\"\n"
        );
    }
    text
}

/// A name server that knows the load's client and sender.
fn names() -> NameServer {
    let names = NameServer::start();
    names.keep_for(3600, 3600);
    let client = format!("client.{SENDER}");
    names
        .ptr(IpAddr::V4(Ipv4Addr::LOCALHOST), &client)
        .a(&client, Ipv4Addr::LOCALHOST)
        .mx(SENDER, 10, &client)
        .txt(SENDER, "v=spf1 ip4:127.0.0.1 -all")
        .txt(&format!("s1._domainkey.{SENDER}"), KEY)
        .txt(
            &format!("_dmarc.{SENDER}"),
            &format!("v=DMARC1; p=reject; rua=mailto:dmarc@{SENDER}"),
        );
    names
}
