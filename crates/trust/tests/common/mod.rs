//! A receiving site over a name server of its own.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use nightmail_core::{Address, Timestamp};
use nightmail_dns::{Dns, DnsOptions};
use nightmail_testbed::dns::NameServer;
use nightmail_trust::{Context, Inspected, Inspector, SpfQuery, Trust, TrustOptions, Verdict};

/// The client of every message.
pub const CLIENT: &str = "192.0.2.1";
/// When everything happens.
pub const NOW: Timestamp = Timestamp::from_secs(1_795_364_520);

/// A site that checks mail.
pub struct Site {
    pub server: NameServer,
    pub trust: Trust,
}

impl Site {
    pub fn new(server: NameServer) -> Self {
        Self::with(server, TrustOptions::default())
    }

    pub fn with(server: NameServer, options: TrustOptions) -> Self {
        let dns = Dns::new(&DnsOptions {
            name_servers: vec![server.address()],
            timeout: Duration::from_millis(500),
            attempts: 1,
            ..DnsOptions::default()
        });
        let options = TrustOptions {
            authserv_id: "mx.here.test".to_owned(),
            ..options
        };
        let trust = Trust::new(dns.unwrap(), options);
        Self { server, trust }
    }

    pub fn inspect(&self, message: &[u8]) -> Inspected {
        let mut inspector = Inspector::new(&self.trust).also_to_sign();
        message.chunks(100).for_each(|chunk| inspector.push(chunk));
        inspector.finish()
    }

    pub async fn verify(&self, message: &[u8]) -> Verdict {
        self.verify_from(message, None).await
    }

    pub async fn verify_from(&self, message: &[u8], sender: Option<&str>) -> Verdict {
        let sender = sender.map(|sender| Address::parse(sender).unwrap());
        let query = SpfQuery {
            client: CLIENT.parse().unwrap(),
            helo: "client.test",
            sender: sender.as_ref(),
        };
        let spf = self.trust.spf(&query, NOW).await;
        let context = Context {
            client: query.client,
            helo: query.helo,
            reverse_dns: None,
            authenticated: None,
            now: NOW,
        };
        self.trust
            .verify(&self.inspect(message), &spf, &context)
            .await
    }
}
