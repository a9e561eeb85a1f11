//! TLS as the configuration wants it: which certificate is shown, whether clients are asked for one, what is fetched.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nightmail_certs::acme::{Acme, AcmeError, AcmeOptions, Challenge, Wanted};
use nightmail_certs::{
    CertificateFiles, CertificateStore, ClientAuthorities, FilePair, ServedName,
};
use nightmail_cluster::Leases;
use nightmail_engine::Engine;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::{error, info};

pub use nightmail_certs::CertificateError as TlsError;
pub(crate) use nightmail_certs::read_certificates;

use crate::config::{AcmeChallenge, Certificate, ClientCertificates, Config, Protocol};
use crate::metrics;
use crate::net::Transport;
use crate::shutdown::Shutdown;

/// The server's side of TLS. Cheap to clone; all clones see a reload.
#[derive(Clone, Debug)]
pub struct TlsContext {
    server: Arc<ServerConfig>,
    /// Where users connect; it may ask for certificates.
    users: Arc<ServerConfig>,
    store: CertificateStore,
    clients: Option<ClientAuthorities>,
}

impl TlsContext {
    /// Loads the certificates of a configuration, or makes the self-signed one.
    pub fn load(config: &Config) -> Result<Self, TlsError> {
        let store = CertificateStore::load(certificate_files(config)?)?;
        let clients = match config.tls.client_certificates {
            ClientCertificates::Off => None,
            ClientCertificates::Optional => {
                let path = config.tls.client_authorities.clone();
                let path = path.ok_or(TlsError::NoClientAuthorities)?;
                Some(ClientAuthorities::load(path)?)
            }
        };
        let server = server_config(&store, Arc::new(NoClientAuth))?;
        let users = match &clients {
            None => Arc::clone(&server),
            Some(clients) => server_config(&store, clients.asking())?,
        };
        metrics::plain_gauge(metrics::TLS_CERTIFICATE_GOOD).set(1.0);
        Ok(Self {
            server,
            users,
            store,
            clients,
        })
    }

    /// What `Transport::start_tls` takes where other sites connect: no client is asked for a certificate. It stays valid
    /// over reloads.
    pub const fn server_config(&self) -> &Arc<ServerConfig> {
        &self.server
    }

    /// The same for listeners of a protocol: users may show a certificate where they log in.
    pub const fn config_for(&self, protocol: Protocol) -> &Arc<ServerConfig> {
        match protocol {
            Protocol::Submission | Protocol::Odmr | Protocol::Imap | Protocol::Pop3 => &self.users,
            Protocol::Smtp | Protocol::Lmtp | Protocol::Admin => &self.server,
        }
    }

    /// All certificates.
    pub const fn store(&self) -> &CertificateStore {
        &self.store
    }

    /// The certificate that a connection's client was shown, for binding a login to it.
    pub fn shown_to(&self, transport: &Transport) -> Arc<CertifiedKey> {
        self.store.certificate_for(transport.asked_name())
    }

    /// The certificate of a connection's client, as DER, where one of the configured authorities vouches for it now.
    /// Any other counts as none.
    pub fn verified_client<'a>(
        &self,
        transport: &'a Transport,
    ) -> Option<&'a CertificateDer<'static>> {
        let chain = transport.client_certificates();
        let verified = self.clients.as_ref()?.verify(chain);
        chain.first().filter(|_| verified)
    }

    /// Reads all files again. What cannot be used keeps its predecessor; the first such error is returned.
    pub fn reload(&self) -> Result<(), TlsError> {
        let clients = self
            .clients
            .as_ref()
            .map_or(Ok(()), ClientAuthorities::reload);
        self.judge(self.store.reload().and(clients))
    }

    /// Reads those files again that changed since the last look. Whether there were any.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let stale = self.clients.as_ref().filter(|clients| clients.is_stale());
        let looked = self.store.reload_if_changed();
        let clients = stale.map_or(Ok(()), ClientAuthorities::reload);
        let result = looked.and_then(|changed| clients.map(|()| changed || stale.is_some()));
        match result {
            Ok(false) => Ok(false),
            result => self.judge(result),
        }
    }

    fn judge<T>(&self, result: Result<T, TlsError>) -> Result<T, TlsError> {
        let good = f64::from(u8::from(result.is_ok()));
        metrics::plain_gauge(metrics::TLS_CERTIFICATE_GOOD).set(good);
        result
    }

    /// Reads the files again and logs how that went.
    pub fn reload_and_log(&self) {
        match self.reload() {
            Ok(()) => info!("certificates reloaded"),
            Err(error) => error!(%error, "not all certificates reloaded: those in use stay"),
        }
    }

    /// Looks at the files every `interval` until aborting begins.
    pub async fn watch(self, interval: Duration, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.aborting() => return,
                () = tokio::time::sleep(interval) => {}
            }
            match self.reload_if_changed() {
                Ok(true) => info!("certificate files changed: reloaded"),
                Ok(false) => {}
                Err(error) => error!(%error, "not all certificates reloaded: those in use stay"),
            }
        }
    }

    /// What fetches the certificates of `[acme]`; `None` where none are to be fetched.
    pub fn acme(
        &self,
        config: &Config,
        rows: Arc<dyn Engine>,
        leases: Leases,
    ) -> Result<Option<Acme>, AcmeError> {
        acme_options(config)?
            .map(|options| Acme::new(rows, leases, self.store.clone(), options))
            .transpose()
    }
}

fn server_config(
    store: &CertificateStore,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let resolver: Arc<dyn ResolvesServerCert> = Arc::new(store.clone());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    // Tickets keep sessions resumable without any memory here.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// The files that certificates come from.
pub fn certificate_files(config: &Config) -> Result<CertificateFiles, TlsError> {
    let pair = |certificate: &Option<PathBuf>, key: &Option<PathBuf>| {
        Some(FilePair {
            certificate: certificate.clone()?,
            key: key.clone()?,
        })
    };
    let further = config.certificates.iter().filter_map(|it: &Certificate| {
        let pair = pair(&it.certificate, &it.key)?;
        let names = it.names.iter().map(|name| ServedName::parse(name));
        Some(names.collect::<Result<_, _>>().map(|names| (pair, names)))
    });
    Ok(CertificateFiles {
        hostname: config.server.hostname.as_str().to_owned(),
        own: pair(&config.tls.certificate, &config.tls.key),
        self_signed: FilePair::self_signed(&config.server.data),
        further: further.collect::<Result<_, _>>()?,
    })
}

/// The authorities of a configuration that are trusted beside the public ones.
pub fn read_authorities(config: &Config) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    authorities(config.tls.authorities.as_deref())
}

fn authorities(path: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    path.map_or(Ok(Vec::new()), read_certificates)
}

/// `[acme]`; `None` where nothing is to be fetched.
fn acme_options(config: &Config) -> Result<Option<AcmeOptions>, AcmeError> {
    let acme = &config.acme;
    let Some(directory) = &acme.directory else {
        return Ok(None);
    };
    let settings = |error: &dyn std::fmt::Display| AcmeError::Settings(format!("[acme]: {error}"));
    let challenge = match acme.challenge {
        AcmeChallenge::Http => Challenge::Http,
        AcmeChallenge::TlsAlpn => Challenge::TlsAlpn,
        AcmeChallenge::Dns => {
            let hook = acme.dns_hook.clone();
            let hook = hook.ok_or_else(|| settings(&"\"dns-01\" needs a `dns_hook`"))?;
            Challenge::Dns { hook }
        }
    };
    Ok(Some(AcmeOptions {
        directory: directory.clone(),
        certificates: wanted(config)
            .collect::<Result<_, _>>()
            .map_err(|error| settings(&error))?,
        contact: acme.contact.as_ref().map(ToString::to_string),
        terms_agreed: acme.terms_agreed,
        challenge,
        renew_before: acme.renew_before,
        authorities: authorities(acme.authorities.as_deref()).map_err(|error| settings(&error))?,
        interval: config.tls.reload_interval,
    }))
}

/// The certificates to be fetched: that of the hostname where none is named.
fn wanted(
    config: &Config,
) -> impl Iterator<Item = Result<Wanted, nightmail_certs::acme::WantedError>> {
    let named = config.acme.certificates.iter().map(String::as_str);
    let own = config.acme.certificates.is_empty();
    let own = own.then(|| config.server.hostname.as_str());
    named.chain(own).map(Wanted::parse)
}

/// What is wrong with the certificates of a configuration, as far as a look at it and its files tells: errors, and
/// warnings.
pub(crate) fn look_over(
    config: &Config,
    mut error: impl FnMut(String),
    mut warn: impl FnMut(String),
) {
    for certificate in &config.certificates {
        for name in &certificate.names {
            if let Err(problem) = ServedName::parse(name) {
                error(format!("`names` in [[certificate]]: {problem}"));
            }
        }
    }
    if config.tls.client_certificates == ClientCertificates::Optional
        && config.tls.client_authorities.is_none()
    {
        error(TlsError::NoClientAuthorities.to_string());
    }
    let acme = &config.acme;
    let Some(directory) = &acme.directory else {
        return;
    };
    if !directory.starts_with("https://") {
        error("`directory` in [acme] must begin with https://".to_owned());
    }
    for wanted in wanted(config) {
        match wanted {
            Err(problem) => error(format!("`certificates` in [acme]: {problem}")),
            Ok(wanted) if acme.challenge != AcmeChallenge::Dns => {
                if let Some(name) = wanted.names().iter().find(|name| name.is_wildcard()) {
                    error(format!(
                        "`certificates` in [acme]: {name} can be proven by challenge = \"dns-01\" only"
                    ));
                }
            }
            Ok(_) => {}
        }
    }
    if !acme.terms_agreed {
        warn(
            "`terms_agreed` in [acme] is false: most authorities give no certificate without"
                .to_owned(),
        );
    }
    look_over_challenge(config, error, warn);
}

fn look_over_challenge(
    config: &Config,
    mut error: impl FnMut(String),
    mut warn: impl FnMut(String),
) {
    let acme = &config.acme;
    let mut port = |key: &str, port: u16, usual: u16| {
        if port != usual {
            warn(format!(
                "`{key}` in [acme] is port {port}, but the authority asks on port {usual} of every name: something must pass that on"
            ));
        }
    };
    match (acme.challenge, &acme.dns_hook) {
        (AcmeChallenge::Http, _) => port("http", acme.http.port(), 80),
        (AcmeChallenge::TlsAlpn, _) => port("tls_alpn", acme.tls_alpn.port(), 443),
        (AcmeChallenge::Dns, Some(hook)) if !is_executable(hook) => error(format!(
            "`dns_hook` in [acme]: {} is no program that can be run. Check the path, and make it executable (chmod 0755)",
            hook.display()
        )),
        (AcmeChallenge::Dns, _) => {}
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(toml: &str) -> (Vec<String>, Vec<String>) {
        let config = Config::parse(toml).unwrap();
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        look_over(
            &config,
            |text| errors.push(text),
            |text| warnings.push(text),
        );
        (errors, warnings)
    }

    #[test]
    fn a_sound_configuration_is_not_talked_about() {
        let sound = "[server]\nhostname = \"mx.example.org\"\n[acme]\ndirectory = \"https://ca.test/\"\nterms_agreed = true";
        for toml in ["", sound] {
            let (errors, warnings) = told(toml);
            assert!(
                errors.is_empty() && warnings.is_empty(),
                "{errors:?} {warnings:?}"
            );
        }
    }

    #[test]
    fn what_keeps_certificates_from_being_fetched_is_told() {
        let acme = "[acme]\ndirectory = \"https://ca.test/\"\nterms_agreed = true\n";
        for (more, text) in [
            ("certificates = [\"a..b\"]", "no name of a server"),
            ("certificates = [\"*.a.test\"]", "dns-01"),
            ("certificates = [\" \"]", "needs a name"),
            (
                "challenge = \"dns-01\"\ndns_hook = \"/no/such/hook\"",
                "/no/such/hook is no program",
            ),
            (
                "challenge = \"dns-01\"\ndns_hook = \"/etc/passwd\"",
                "make it executable",
            ),
        ] {
            let (errors, _) = told(&format!("{acme}{more}"));
            assert!(
                errors.iter().any(|error| error.contains(text)),
                "{text}: {errors:?}"
            );
        }
        let (errors, warnings) =
            told("[acme]\ndirectory = \"http://ca.test/\"\nhttp = \"127.0.0.1:8080\"");
        assert!(errors[0].contains("https://"), "{errors:?}");
        assert!(warnings[0].contains("terms_agreed") && warnings[1].contains("port 80"));
    }

    #[test]
    fn names_and_authorities_of_clients_are_looked_over() {
        let (errors, _) = told(
            "[tls]\nclient_certificates = \"optional\"\n[[certificate]]\ncertificate = \"/a\"\nkey = \"/b\"\nnames = [\"192.0.2.1\"]",
        );
        assert!(errors[0].contains("no name of a server"), "{errors:?}");
        assert!(errors[1].contains("client_authorities"), "{errors:?}");
    }
}
