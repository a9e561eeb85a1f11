//! Services over an empty store, for tests of what is done without a client.

use std::path::Path;

use nightmail_commit::Intent;
use nightmail_core::{AccountId, Address, Domain};
use nightmail_directory::{NewAccount, NewDomain};
use nightmail_testbed::dns::NameServer;

use crate::auth::Logins;
use crate::backend::Backend;
use crate::config::Config;
use crate::drivers::pop3::MaildropLocks;
use crate::gate::Gate;
use crate::services::Services;
use crate::tls::TlsContext;

/// Services that ask `dns` and send reports, with the domain bank.test and the account alice.
pub(crate) async fn services(data: &Path, dns: &NameServer) -> (Services, AccountId) {
    let toml = format!(
        "[server]\nhostname = \"mx.example.test\"\ndata = \"{}\"\n\
         [authentication]\ndmarc_reports = true\n\
         [tls_reports]\nsend = true\nfrom = \"tls@bank.test\"\n\
         [delivery]\ndns_servers = [\"{}\"]\n\
         [auth]\nargon2_memory = \"1MiB\"\nargon2_iterations = 1\n",
        data.display(),
        dns.address()
    );
    let config = Config::parse(&toml).unwrap();
    let backend = Backend::open(&config).await.unwrap();
    let domain = NewDomain::named(Domain::parse("bank.test").unwrap());
    backend.directory.add_domain(domain).await.unwrap();
    let address = Address::parse("alice@bank.test").unwrap();
    let account = backend.directory.add_account(NewAccount::at(address));
    let account = account.await.unwrap();
    let made = Intent::synced(move |tx| nightmail_store::tx::create_account(tx, account));
    backend.store.committer().submit(made).await.unwrap();
    let services = Services {
        gate: Gate::new(&config, &backend).unwrap(),
        logins: Logins::new(&config).unwrap(),
        tls: TlsContext::load(&config).unwrap(),
        store: backend.store,
        directory: backend.directory,
        switch: backend.switch,
        queue: backend.queue,
        delivery: backend.delivery,
        journal: backend.journal,
        cluster: backend.cluster,
        maildrops: MaildropLocks::default(),
        config,
    };
    (services, account)
}
