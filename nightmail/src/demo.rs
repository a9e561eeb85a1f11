//! `nightmail demo`: a complete server on loopback ports, with two users, to try everything out.
//!
//! **Invariant:** nothing leaves the machine. The demo's smarthost is the demo itself, which refuses mail for other
//! sites, so that their senders get a report.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nightmail_admin::{AdminContext, AdminRequest, DomainSettings, ErrorKind, Password, execute};
use nightmail_core::Domain;
use nightmail_server::config::{
    Config, Consequence, HostPort, ListenAddress, Listener, Protocol, Switch, TlsMode,
};

use crate::cli::Place;
use crate::error::CommandError;
use crate::serve::{Started, taken_over};

const DOMAIN: &str = "example.test";
const USERS: [&str; 2] = ["alice", "bob"];
const PASSWORD: &str = "demo";
const DATA: &str = "nightmail-demo";

const SMTP: u16 = 2525;
const METRICS: u16 = 2080;
const LISTENERS: [(Protocol, u16, TlsMode); 8] = [
    (Protocol::Smtp, SMTP, TlsMode::Starttls),
    (Protocol::Submission, 2587, TlsMode::Starttls),
    (Protocol::Submission, 2465, TlsMode::Implicit),
    (Protocol::Lmtp, 2424, TlsMode::None),
    (Protocol::Imap, 2143, TlsMode::Starttls),
    (Protocol::Imap, 2993, TlsMode::Implicit),
    (Protocol::Pop3, 2110, TlsMode::Starttls),
    (Protocol::Pop3, 2995, TlsMode::Implicit),
];

/// Where the demo listens.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct DemoArgs {
    /// Add this to every port, where another program has one of the usual ones.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u16).range(..=60_000))]
    port_offset: u16,
}

impl DemoArgs {
    const fn port(self, usual: u16) -> u16 {
        usual.saturating_add(self.port_offset)
    }
}

/// Runs the demo until it is stopped.
pub(crate) async fn run(place: &Place, args: DemoArgs) -> Result<ExitCode, CommandError> {
    if place.config.is_some() || place.socket.is_some() {
        return Err(CommandError::Usage(
            "demo takes no configuration; --data DIR says where it keeps everything".to_owned(),
        ));
    }
    let data = place.data.clone().unwrap_or_else(|| PathBuf::from(DATA));
    let signals = taken_over()?;
    let started = Started::open(config(&data, args)?).await?;
    fill(&started.admin).await?;
    let text = instructions(&data, args);
    Box::pin(started.serve(signals, move || println!("{text}"))).await
}

fn config(data: &Path, args: DemoArgs) -> Result<Config, CommandError> {
    let mut config = Config::default();
    config.server.hostname =
        Domain::parse("mx.example.test").map_err(|error| CommandError::Usage(error.to_string()))?;
    config.server.data = data.to_owned();
    config.listeners = LISTENERS
        .map(|(protocol, port, tls)| listener(protocol, args.port(port), tls))
        .into();
    config.admin.http = Switch::On(loopback(args.port(METRICS)));
    config.smarthost.address = Some(HostPort {
        host: Ipv4Addr::LOCALHOST.to_string(),
        port: args.port(SMTP),
    });
    config.smarthost.tls = TlsMode::None;
    // Nothing is asked of DNS.
    config.receiving.reverse_dns = Consequence::Off;
    config.receiving.sender_domain = Consequence::Off;
    config.authentication.spf = Consequence::Off;
    config.authentication.dkim = false;
    config.authentication.dmarc = Consequence::Off;
    config.authentication.arc = false;
    config.log.level = "warn".to_owned();
    Ok(config)
}

fn listener(protocol: Protocol, port: u16, tls: TlsMode) -> Listener {
    Listener {
        protocol,
        address: ListenAddress::Tcp(loopback(port)),
        tls,
        plaintext_auth: true,
        ..Listener::default()
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Adds the domain and its users where they are not there from an earlier start.
async fn fill(admin: &AdminContext) -> Result<(), CommandError> {
    let domain = DOMAIN.to_owned();
    add(
        admin,
        AdminRequest::DomainAdd {
            domain,
            settings: DomainSettings::default(),
        },
    )
    .await?;
    for user in USERS {
        let account = AdminRequest::AccountAdd {
            address: format!("{user}@{DOMAIN}"),
            password: Some(Password::new(PASSWORD)),
            logins: vec![user.to_owned()],
            quota: None,
            full_name: String::new(),
            admin: USERS.first() == Some(&user),
        };
        add(admin, account).await?;
    }
    Ok(())
}

/// Carries a request out whose thing may be there already.
async fn add(admin: &AdminContext, request: AdminRequest) -> Result<(), CommandError> {
    match execute(admin, request).await {
        Err(error) if error.kind != ErrorKind::Refused => Err(error.into()),
        _ => Ok(()),
    }
}

fn instructions(data: &Path, args: DemoArgs) -> String {
    let data = data.display();
    let [
        smtp,
        submission,
        submissions,
        lmtp,
        imap,
        imaps,
        pop3,
        pop3s,
    ] = LISTENERS.map(|(_, port, _)| args.port(port));
    let metrics = args.port(METRICS);
    format!(
        r#"Nightmail is running. Everything is in {data}; Ctrl-C stops it.

  users         alice@{DOMAIN} and bob@{DOMAIN}, password: {PASSWORD}
  SMTP          127.0.0.1:{smtp}
  submission    127.0.0.1:{submission} (STARTTLS), 127.0.0.1:{submissions} (TLS)
  LMTP          127.0.0.1:{lmtp}
  IMAP          127.0.0.1:{imap} (STARTTLS), 127.0.0.1:{imaps} (TLS)
  POP3          127.0.0.1:{pop3} (STARTTLS), 127.0.0.1:{pop3s} (TLS)
  metrics       http://127.0.0.1:{metrics}/metrics

The certificate is self-signed. Mail for other sites is not sent: its sender gets a report.

Send bob a message:
  printf 'From: alice@{DOMAIN}\r\nTo: bob@{DOMAIN}\r\nSubject: Hello\r\n\r\nHello, Bob.\r\n' |
    curl -s smtp://127.0.0.1:{submission} --mail-from alice@{DOMAIN} --mail-rcpt bob@{DOMAIN} \
      --user 'alice@{DOMAIN}:{PASSWORD}' --upload-file -
or
  swaks --server 127.0.0.1:{smtp} --from alice@{DOMAIN} --to bob@{DOMAIN}

Read it:
  curl -s 'imap://127.0.0.1:{imap}/INBOX;MAILINDEX=1' --user 'bob@{DOMAIN}:{PASSWORD}'
  curl -sk 'pop3s://127.0.0.1:{pop3s}/1' --user 'bob@{DOMAIN}:{PASSWORD}'

Operate it:
  nightmail --data {data} status
  nightmail --data {data} account add carol@{DOMAIN} --password secret
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_listens_on_loopback_only_and_sends_nothing_out() {
        let config = config(Path::new("d"), DemoArgs::default()).unwrap();
        for listener in &config.listeners {
            let ListenAddress::Tcp(address) = listener.address else {
                panic!("not TCP")
            };
            assert!(address.ip().is_loopback());
        }
        assert_eq!(config.smarthost.address.unwrap().host, "127.0.0.1");
    }

    #[test]
    fn the_instructions_name_every_port() {
        let text = instructions(Path::new("d"), DemoArgs { port_offset: 10 });
        for (_, port, _) in LISTENERS {
            assert!(text.contains(&format!("127.0.0.1:{}", port + 10)), "{port}");
        }
    }
}
