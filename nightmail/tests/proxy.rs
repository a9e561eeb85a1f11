//! The server behind a proxy: whose address it knows, and how it leaves without anybody being turned away.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use common::line::Lines;
use common::site::own_addresses;
use common::tools::{Done, has, run};
use common::{Imap, PATIENCE, Pop3, Service, Site, Smtp, eventually, message, text};
use nightmail_testbed::programs;

/// What a proxy sends for a client at 203.0.113.9, port 4711, and for one at 2001:db8::9.
const V1: &[u8] = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 25\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\xc0\0\x02\x01\x12\x67\0\x19";
const V1_IPV6: &[u8] = b"PROXY TCP6 2001:db8::9 2001:db8::1 4711 25\r\n";

/// Listeners beside those that every site has.
#[derive(Clone, Copy)]
enum Behind {
    Smtp,
    Submissions,
    Imap,
    Imaps,
    /// Of a proxy that is elsewhere.
    SmtpElsewhere,
    /// Not a listener for mail: health and metrics.
    Watch,
    /// Where HAProxy listens.
    Front,
    FrontImaps,
}

/// A site with further listeners behind a proxy on 127.0.0.0/24.
struct Proxied {
    site: Site,
    host: Ipv4Addr,
    port: u16,
}

impl Proxied {
    fn new(hostname: &str, drain_delay: &str) -> Self {
        let (host, port) = own_addresses();
        let place = |listener: Behind| SocketAddr::from((host, port + listener as u16));
        let near = "127.0.0.0/24";
        let listeners = [
            (Behind::Smtp, "smtp", "starttls", near),
            (Behind::Submissions, "submission", "implicit", near),
            (Behind::Imap, "imap", "starttls", near),
            (Behind::Imaps, "imap", "implicit", near),
            (Behind::SmtpElsewhere, "smtp", "starttls", "192.0.2.0/24"),
        ];
        let settings = listeners.map(|(listener, protocol, tls, proxies)| {
            format!(
                "[[listener]]\nprotocol = \"{protocol}\"\naddress = \"{}\"\ntls = \"{tls}\"\n\
                 plaintext_auth = true\nproxy_protocol_from = [\"{proxies}\"]\n",
                place(listener)
            )
        });
        let site = Site::new(&settings.concat());
        let toml = std::fs::read_to_string(site.config()).unwrap();
        let toml = toml
            .replace(
                "http = \"off\"",
                &format!("http = \"{}\"", place(Behind::Watch)),
            )
            .replace("mx.example.test", hostname)
            .replace(
                "shutdown_grace",
                &format!("drain_delay = \"{drain_delay}\"\nshutdown_grace"),
            );
        std::fs::write(site.config(), toml).unwrap();
        let mut proxied = Self { site, host, port };
        proxied.site.start();
        proxied
    }

    fn address(&self, listener: Behind) -> SocketAddr {
        SocketAddr::from((self.host, self.port + listener as u16))
    }

    /// A connection on which a proxy has sent its header.
    fn connect(&self, listener: Behind, header: &[u8]) -> Lines {
        let mut lines = Lines::connect(self.address(listener)).unwrap();
        lines.write(header).unwrap();
        lines
    }

    /// What is answered to a GET for a path.
    fn get(&self, path: &str) -> String {
        let mut lines = Lines::connect(self.address(Behind::Watch)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        lines.write(request.as_bytes()).unwrap();
        text(&lines.rest().unwrap())
    }

    /// The one message in alice's inbox with this subject.
    #[track_caller]
    fn only(&self, subject: &str) -> String {
        let mut pop3 = Pop3::login(self.site.address(Service::Pop3), "alice", "demo").unwrap();
        let count = pop3.count().unwrap();
        let line = format!("Subject: {subject}\r\n");
        let all = (1..=count).map(|number| text(&pop3.read(&format!("RETR {number}")).unwrap()));
        let mut found: Vec<_> = all.filter(|message| message.contains(&line)).collect();
        pop3.say("QUIT").unwrap();
        assert_eq!(found.len(), 1, "{count} messages, {subject}");
        found.remove(0)
    }

    fn send(&self, smtp: &mut Smtp, subject: &str) {
        let sent = message(subject, "text");
        let reply = smtp.send("far@far.test", &["alice@example.test"], &sent);
        assert_eq!(reply.unwrap().code, 250);
    }
}

/// A session on a connection, greeted and with EHLO said.
#[track_caller]
fn hello(lines: Lines) -> Smtp {
    let mut smtp = Smtp { lines };
    assert_eq!(smtp.reply().unwrap().code, 220);
    assert_eq!(smtp.say("EHLO client.test").unwrap().code, 250);
    smtp
}

/// A proxy for one connection, which begins with `header`.
fn proxy_once(server: SocketAddr, header: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let mut upstream = TcpStream::connect(server).unwrap();
        upstream.write_all(header).unwrap();
        let back = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
        let down = std::thread::spawn(move || pass(back.0, back.1));
        pass(client, upstream);
        down.join().unwrap();
    });
    address
}

/// Passes octets on until one side ends.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut octets = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut octets) {
        if to.write_all(&octets[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn curl(arguments: &[&str]) -> Done {
    run(
        "curl",
        &[&["-sS", "-k", "--max-time", "55"][..], arguments].concat(),
    )
}

/// Sends a message to alice with curl.
fn curl_sends(site: &Site, url: &str, subject: &str, extra: &[&str]) {
    let path = site.dir().join(subject);
    std::fs::write(&path, message(subject, "text")).unwrap();
    let upload = ["--upload-file", path.to_str().unwrap()];
    let envelope = [
        "--mail-from",
        "alice@example.test",
        "--mail-rcpt",
        "alice@example.test",
    ];
    curl(&[&[url][..], &upload, &envelope, extra].concat()).ok();
}

#[test]
fn mail_is_marked_with_the_address_that_the_proxy_names() {
    let behind = Proxied::new("mx.example.test", "0s");
    for (subject, header, from) in [
        ("v1", V1, "([203.0.113.9])"),
        ("v2", V2, "([203.0.113.9])"),
        ("ipv6", V1_IPV6, "([IPv6:2001:db8::9])"),
    ] {
        let lines = behind.connect(Behind::Smtp, header);
        let mut smtp = hello(lines);
        behind.send(&mut smtp, subject);
        let received = behind.only(subject);
        assert!(
            received.contains(&format!("Received: from client.test {from}\r\n")),
            "{received}"
        );
    }
}

#[test]
fn the_address_is_known_before_and_behind_tls() {
    if !has("curl") {
        return;
    }
    let behind = Proxied::new("mx.example.test", "0s");
    let login: &[&str] = &["--user", "alice:demo"];
    let starttls: &[&str] = &["--ssl-reqd"];
    let starttls_login: &[&str] = &["--user", "alice:demo", "--ssl-reqd"];
    for (version, header) in [("v1", V1), ("v2", V2)] {
        for (name, scheme, listener, extra, with) in [
            ("plain", "smtp", Behind::Smtp, &[][..], "with ESMTP "),
            ("starttls", "smtp", Behind::Smtp, starttls, "with ESMTPS "),
            ("tls", "smtps", Behind::Submissions, login, "with ESMTPSA "),
        ] {
            let front = proxy_once(behind.address(listener), header);
            let subject = format!("{version}-{name}");
            let url = format!("{scheme}://{front}/client.test");
            curl_sends(&behind.site, &url, &subject, extra);
            let received = behind.only(&subject);
            let from = "Received: from client.test ([203.0.113.9])\r\n";
            assert!(
                received.contains(from) && received.contains(with),
                "{received}"
            );
        }
        for (scheme, listener, extra) in [
            ("imap", Behind::Imap, login),
            ("imap", Behind::Imap, starttls_login),
            ("imaps", Behind::Imaps, login),
        ] {
            let logins = || {
                behind
                    .site
                    .log()
                    .matches("peer=203.0.113.9:4711 user=alice@")
                    .count()
            };
            let before = logins();
            let front = proxy_once(behind.address(listener), header);
            let listed = curl(&[&[&*format!("{scheme}://{front}/")][..], extra].concat()).ok();
            assert!(listed.out().contains("INBOX"), "{}", listed.all());
            eventually("the login is logged", || (logins() > before).then_some(()));
        }
    }
}

#[test]
fn a_header_is_demanded_of_a_proxy_and_believed_of_nobody_else() {
    let behind = Proxied::new("mx.example.test", "0s");
    for listener in [
        Behind::Smtp,
        Behind::Submissions,
        Behind::Imap,
        Behind::Imaps,
    ] {
        let mut lines = behind.connect(listener, b"EHLO client.test\r\n");
        // What was sent and never read makes the close a reset.
        assert_eq!(lines.rest().unwrap_or_default(), b"");
    }
    eventually("the proxy's fault is logged", || {
        let log = behind.site.log();
        log.contains("does not begin with a PROXY header")
            .then_some(())
    });
    for (protocol, count) in [("smtp", 1), ("submission", 1), ("imap", 2)] {
        let line =
            format!("nightmail_proxy_headers_refused_total{{protocol=\"{protocol}\"}} {count}");
        let metrics = behind.get("/metrics");
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }

    let usual = behind.site.address(Service::Smtp);
    for (subject, address) in [
        ("elsewhere", behind.address(Behind::SmtpElsewhere)),
        ("usual", usual),
    ] {
        let mut smtp = Smtp::connect(address).unwrap();
        let header = text(V1);
        assert_eq!(smtp.say(header.trim_end()).unwrap().code, 500);
        behind.send(&mut smtp, subject);
        let received = behind.only(subject);
        assert!(
            received.contains("from client.test ([127.0.0.1])\r\n"),
            "{received}"
        );
    }
    let mut imap = Imap::connect(behind.site.address(Service::Imap)).unwrap();
    imap.lines.write(V1).unwrap();
    assert!(imap.response().unwrap().text.contains("BAD"));
}

/// HAProxy, until it is dropped.
struct HaProxy(Child);

impl HaProxy {
    /// In front of the sites: SMTP and IMAP over TLS, on the addresses of the first one. Each new connection goes to
    /// a site that says that it is ready. `None` when there is no HAProxy.
    fn start(sites: &[&Proxied]) -> Option<Self> {
        let Some(program) = programs::find("haproxy", &["/usr/sbin"]) else {
            programs::skip("haproxy is not installed");
            return None;
        };
        let mut config =
            "global\n  maxconn 200\ndefaults\n  mode tcp\n  balance roundrobin\n  retries 0\n  \
                          timeout connect 20s\n  timeout client 120s\n  timeout server 120s\n  \
                          option httpchk GET /readyz\n  http-check expect status 200\n"
                .to_owned();
        for (name, front, back) in [
            ("smtp", Behind::Front, Behind::Smtp),
            ("imaps", Behind::FrontImaps, Behind::Imaps),
        ] {
            config += &format!("listen {name}\n  bind {}\n", sites[0].address(front));
            for (number, site) in sites.iter().enumerate() {
                let (back, watch) = (site.address(back), site.address(Behind::Watch));
                config += &format!(
                    "  server site{number} {back} source 127.0.0.8 send-proxy-v2 proxy-v2-options crc32c \
                     check addr {} port {} inter 100ms fall 1 rise 1\n",
                    watch.ip(),
                    watch.port()
                );
            }
        }
        let path = sites[0].site.dir().join("haproxy.cfg");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(&path).stdin(Stdio::null());
        let proxy = Self(command.spawn().unwrap());
        let front = sites[0].address(Behind::Front);
        eventually("HAProxy listens", || TcpStream::connect(front).ok());
        Some(proxy)
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn haproxy_passes_the_address_of_its_client_on() {
    let behind = Proxied::new("mx.example.test", "0s");
    if !has("curl") {
        return;
    }
    let Some(_haproxy) = HaProxy::start(&[&behind]) else {
        return;
    };
    let front = behind.address(Behind::Front);
    let here: &[&str] = &["--interface", "127.0.0.77"];
    for (subject, extra) in [("plain", &[][..]), ("starttls", &["--ssl-reqd"])] {
        let url = format!("smtp://{front}/client.test");
        curl_sends(&behind.site, &url, subject, &[here, extra].concat());
        let received = behind.only(subject);
        assert!(
            received.contains("Received: from client.test ([127.0.0.77])\r\n"),
            "{received}"
        );
    }
    let url = format!("imaps://{}/", behind.address(Behind::FrontImaps));
    curl(&[&[url.as_str(), "--user", "alice:demo"], here].concat()).ok();
    eventually("the login is logged", || {
        let log = behind.site.log();
        log.lines()
            .any(|line| line.contains("peer=127.0.0.77:") && line.contains("logged in"))
            .then_some(())
    });
}

/// The name in the greeting of a connection, which must be one.
#[track_caller]
fn greeted(front: SocketAddr) -> (Lines, String) {
    let mut lines = Lines::connect(front).unwrap();
    let greeting = text(&lines.line().unwrap());
    assert!(greeting.starts_with("220 "), "{greeting}");
    let name = greeting.split(' ').nth(1).unwrap().to_owned();
    (lines, name)
}

#[test]
fn a_site_that_leaves_turns_nobody_away() {
    let mut leaving = Proxied::new("one.example.test", "10m");
    let staying = Proxied::new("two.example.test", "0s");
    let Some(_haproxy) = HaProxy::start(&[&leaving, &staying]) else {
        return;
    };
    let front = leaving.address(Behind::Front);
    let (lines, _) = eventually("both sites are used", || {
        let (first, second) = (greeted(front), greeted(front));
        let both = [first, second];
        let names = both.each_ref().map(|(_, name)| name.as_str());
        (names[0] != names[1]).then_some(())?;
        both.into_iter()
            .find(|(_, name)| name == "one.example.test")
    });
    let mut session = Smtp { lines };
    assert_eq!(session.say("EHLO client.test").unwrap().code, 250);
    assert!(leaving.get("/readyz").starts_with("HTTP/1.1 200"));

    leaving.site.terminate();
    eventually("readiness ends", || {
        let ready = leaving.get("/readyz");
        (ready.starts_with("HTTP/1.1 503") && ready.ends_with("\r\n\r\nstopping\n")).then_some(())
    });
    assert!(leaving.get("/healthz").starts_with("HTTP/1.1 200"));
    // Whoever comes is served, by one site or the other, until all go to the other.
    let mut elsewhere = 0;
    eventually("clients are sent elsewhere", || {
        let (_, name) = greeted(front);
        elsewhere = if name == "two.example.test" {
            elsewhere + 1
        } else {
            0
        };
        (elsewhere == 10).then_some(())
    });
    // Nobody who is there already has noticed anything, and who comes straight is still served.
    leaving.send(&mut session, "while-leaving");
    leaving.only("while-leaving");
    let lines = leaving.connect(Behind::Smtp, V2);
    leaving.send(&mut hello(lines), "straight");

    leaving.site.terminate();
    let farewell = session.reply().unwrap();
    assert_eq!(farewell.code, 421, "{farewell:?}");
    drop(session);
    assert_eq!(leaving.site.ended().code(), Some(0));
    assert_eq!(greeted(front).1, "two.example.test");
}

#[test]
fn the_delay_ends_by_itself() {
    let mut leaving = Proxied::new("mx.example.test", "1s");
    let lines = leaving.connect(Behind::Smtp, V1);
    let mut session = hello(lines);
    leaving.site.terminate();
    session.lines.patience(PATIENCE);
    assert_eq!(session.reply().unwrap().code, 421);
    drop(session);
    assert_eq!(leaving.site.ended().code(), Some(0));
}
