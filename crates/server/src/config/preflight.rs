//! What a configuration needs from the machine: files that can be read, a directory that can be written.
//!
//! Each finding says what is wrong and what the operator can do about it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use super::{Config, EngineKind, IpNetwork, ListenAddress, RelayTls, Setting};
use crate::log::Secret;
use crate::tls::look_over;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The server works, but not as well or as safely as it could.
    Warning,
    /// The server cannot start.
    Error,
}

/// Something about the machine that does not suit the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong and how to mend it.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{word}: {}", self.text)
    }
}

/// All findings about one configuration.
#[derive(Clone, Debug, Default)]
pub struct Preflight {
    /// The findings, in the order of the configuration.
    pub findings: Vec<Finding>,
}

impl Preflight {
    /// Whether nothing keeps the server from starting.
    pub fn is_ready(&self) -> bool {
        !self
            .findings
            .iter()
            .any(|finding| finding.severity == Severity::Error)
    }

    fn warn(&mut self, text: String) {
        self.findings.push(Finding {
            severity: Severity::Warning,
            text,
        });
    }

    fn error(&mut self, text: String) {
        self.findings.push(Finding {
            severity: Severity::Error,
            text,
        });
    }
}

/// Looks at the machine without changing it, except that the data directory is made where it is missing.
pub fn preflight(config: &Config) -> Preflight {
    let mut found = Preflight::default();
    if !config.server.hostname.as_str().contains('.') {
        found.warn(format!(
            "`hostname` in [server] is \"{}\", which is no full name: other sites may refuse mail from it",
            config.server.hostname
        ));
    }
    check_data(&config.server.data, &mut found);
    check_readable("certificate", config.tls.certificate.as_deref(), &mut found);
    check_secret("key", config.tls.key.as_deref(), &mut found);
    check_readable("authorities", config.tls.authorities.as_deref(), &mut found);
    check_secret(
        "password_file",
        config.smarthost.password_file.as_deref(),
        &mut found,
    );
    for certificate in &config.certificates {
        check_readable(
            "certificate",
            certificate.certificate.as_deref(),
            &mut found,
        );
        check_secret("key", certificate.key.as_deref(), &mut found);
    }
    let clients = config.tls.client_authorities.as_deref();
    check_readable("client_authorities", clients, &mut found);
    check_readable(
        "authorities",
        config.acme.authorities.as_deref(),
        &mut found,
    );
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    look_over(config, |text| errors.push(text), |text| warnings.push(text));
    errors.into_iter().for_each(|text| found.error(text));
    warnings.into_iter().for_each(|text| found.warn(text));
    check_shared_store(config, &mut found);
    check_exposure(config, &mut found);
    check_receiving(config, &mut found);
    check_sending(config, &mut found);
    found
}

/// What the sections about mail that goes out name outside the configuration, and what in them works against its purpose.
fn check_sending(config: &Config, found: &mut Preflight) {
    let delivery = &config.delivery;
    check_readable("trust_anchors", delivery.trust_anchors.as_deref(), found);
    for relay in &config.relays {
        check_secret("password_file", relay.password_file.as_deref(), found);
        let certificate = relay.client_certificate.as_deref();
        check_readable("client_certificate", certificate, found);
        check_secret("client_key", relay.client_key.as_deref(), found);
        if relay.tls == RelayTls::None && relay.user.is_some() {
            found.warn(format!(
                "the [[relay]] \"{}\" has a `user` and tls = \"none\": a password is not sent without TLS",
                relay.name
            ));
        }
    }
    if delivery.trust_anchors.is_some() && !delivery.dnssec {
        found.warn("`trust_anchors` in [delivery] is not used without dnssec = true".to_owned());
    }
    if delivery.connections_start > delivery.connections_per_destination_max {
        found.warn(
            "`connections_start` in [delivery] is more than `connections_per_destination_max`, which holds"
                .to_owned(),
        );
    }
}

/// What the sections about mail that comes in name outside the configuration, and what in them works against its purpose.
fn check_receiving(config: &Config, found: &mut Preflight) {
    for issuer in &config.token_issuers {
        check_readable("keys", issuer.keys.as_deref(), found);
    }
    let receiving = &config.receiving;
    let everybody = |networks: &[IpNetwork]| {
        let outside = [
            IpAddr::from([192, 0, 2, 1]),
            IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
        ];
        outside
            .iter()
            .any(|ip| networks.iter().any(|network| network.contains(*ip)))
    };
    if everybody(&receiving.trusted) {
        found.warn(
            "`trusted` in [receiving] holds all the Internet: anybody may relay through this server"
                .to_owned(),
        );
    }
    if everybody(&receiving.xclient_from) {
        found.warn(
            "`xclient_from` in [receiving] holds all the Internet: anybody may pretend to be anybody"
                .to_owned(),
        );
    }
    if receiving.greeting_delay > config.timeouts.smtp_command {
        found.warn(
            "`greeting_delay` in [receiving] is longer than this server itself waits for a command"
                .to_owned(),
        );
    }
    let authentication = &config.authentication;
    let reports = authentication.dmarc_reports || authentication.dmarc_failure_reports;
    if reports && !authentication.dkim {
        found.warn(
            "[authentication]: reports about DMARC say little without `dkim`: signatures are not looked at"
                .to_owned(),
        );
    }
    let lists = config.dns_lists.iter();
    let most: i64 = lists.map(|list| i64::from(list.weight.max(0))).sum();
    let reject = i64::from(receiving.dns_list_reject);
    if !config.dns_lists.is_empty() && reject > 0 && most < reject {
        found.warn(format!(
            "all [[dns_list]] together give {most} points, and {reject} are needed to refuse mail (`dns_list_reject` in [receiving])"
        ));
    }
}

fn check_shared_store(config: &Config, found: &mut Preflight) {
    if config.store.engine == EngineKind::Embedded {
        if config.objects.url.is_some() {
            found.warn(
                "[objects] is not used with engine = \"embedded\" in [store]: messages are kept in the data directory"
                    .to_owned(),
            );
        }
        return;
    }
    let (database, objects) = (&config.postgresql, &config.objects);
    check_secret("password_file", database.password_file.as_deref(), found);
    check_readable("authorities", database.authorities.as_deref(), found);
    check_secret("secret_key_file", objects.secret_key_file.as_deref(), found);
    let secret = config.events.nats_password_file.as_deref();
    check_secret("nats_password_file", secret, found);
    if config.message_size_max() < config.limits.message_size_max {
        found.warn(format!(
            "without [objects] messages are kept in the database, and none larger than {} is taken",
            config.message_size_max().write().unwrap_or_default()
        ));
    }
}

fn check_data(data: &Path, found: &mut Preflight) {
    let shown = data.display();
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(data);
    if let Err(error) = made {
        found.error(format!(
            "cannot make the data directory {shown}: {error}. Make it and give it to the server's user, or set `data` in [server]"
        ));
        return;
    }
    let probe = data.join(".write-probe");
    let written = std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe));
    if let Err(error) = written {
        found.error(format!(
            "cannot write in the data directory {shown}: {error}. Give it to the server's user (chown), or set `data` in [server]"
        ));
    }
    if mode(data).is_ok_and(|mode| mode & 0o007 != 0) {
        found.warn(format!(
            "the data directory {shown} is open to every user of this machine: chmod 0750 {shown}"
        ));
    }
}

fn check_readable(key: &str, path: Option<&Path>, found: &mut Preflight) {
    let Some(path) = path else { return };
    if let Err(error) = std::fs::File::open(path) {
        found.error(format!(
            "cannot read {} (`{key}`): {error}. Check the path, and that the server's user may read the file",
            path.display()
        ));
    }
}

fn check_secret(key: &str, path: Option<&Path>, found: &mut Preflight) {
    check_readable(key, path, found);
    let Some(path) = path else { return };
    if mode(path).is_ok_and(|mode| mode & 0o007 != 0) {
        let shown = path.display();
        found.warn(format!(
            "{shown} (`{key}`) can be read by every user of this machine: chmod 0640 {shown}"
        ));
    }
}

fn mode(path: &Path) -> io::Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode())
}

/// What anyone on the network could read or do.
fn check_exposure(config: &Config, found: &mut Preflight) {
    for listener in &config.listeners {
        let ListenAddress::Tcp(address) = listener.address else {
            continue;
        };
        if address.ip().is_loopback() {
            continue;
        }
        if listener.plaintext_auth {
            found.warn(format!(
                "the {} listener on {address} takes passwords without TLS: anyone on the way can read them",
                listener.protocol
            ));
        }
    }
}

/// Reads the first line of a file that holds a password.
pub fn read_secret(path: &Path) -> io::Result<Secret> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        let says = format!("{} has no password on its first line", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, says));
    }
    Ok(Secret::new(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str, data: &Path) -> Config {
        let mut config = Config::parse(toml).unwrap();
        config.server.data = data.to_owned();
        config
    }

    fn texts(found: &Preflight) -> String {
        found.findings.iter().map(|f| format!("{f}\n")).collect()
    }

    fn private_dir() -> tempfile::TempDir {
        let private = std::fs::Permissions::from_mode(0o700);
        tempfile::Builder::new()
            .permissions(private)
            .tempdir()
            .unwrap()
    }

    #[test]
    fn a_sound_configuration_has_no_findings() {
        let dir = private_dir();
        let found = preflight(&config(
            "[server]\nhostname = \"mx.example.org\"",
            dir.path(),
        ));
        assert_eq!(found.findings, []);
        assert!(found.is_ready());
    }

    #[test]
    fn a_data_directory_that_cannot_be_made_is_an_error() {
        let dir = private_dir();
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let found = preflight(&config("", &file.join("data")));
        assert!(!found.is_ready());
        assert!(texts(&found).contains("cannot make the data directory"));
    }

    #[test]
    fn a_key_that_others_can_read_is_warned_about() {
        let dir = private_dir();
        let key = dir.path().join("key.pem");
        std::fs::write(&key, b"x").unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut config = config("[server]\nhostname = \"a.test\"", dir.path());
        config.tls.key = Some(key.clone());
        let found = preflight(&config);
        assert!(found.is_ready());
        assert!(texts(&found).contains("chmod 0640"), "{}", texts(&found));
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(preflight(&config).findings, []);
    }

    #[test]
    fn a_missing_certificate_is_an_error_that_names_it() {
        let dir = private_dir();
        let mut config = config("", dir.path());
        config.tls.certificate = Some("/no/such/cert.pem".into());
        let found = preflight(&config);
        assert!(!found.is_ready());
        assert!(texts(&found).contains("/no/such/cert.pem (`certificate`)"));
    }

    #[test]
    fn plaintext_passwords_over_the_network_are_warned_about() {
        let dir = private_dir();
        let toml =
            "[[listener]]\nprotocol = \"imap\"\naddress = \"0.0.0.0:143\"\nplaintext_auth = true";
        assert!(texts(&preflight(&config(toml, dir.path()))).contains("without TLS"));
        let toml = toml.replace("0.0.0.0", "127.0.0.1");
        assert!(!texts(&preflight(&config(&toml, dir.path()))).contains("without TLS"));
    }

    #[test]
    fn what_lets_everybody_in_is_warned_about() {
        let dir = private_dir();
        for (toml, says) in [
            (
                "[receiving]\ntrusted = [\"0.0.0.0/0\"]",
                "anybody may relay",
            ),
            (
                "[receiving]\nxclient_from = [\"::/0\"]",
                "pretend to be anybody",
            ),
            (
                "[[dns_list]]\nzone = \"a.test\"\nweight = 3",
                "give 3 points, and 10",
            ),
            (
                "[[token_issuer]]\nissuer = \"a\"\nkeys = \"/no/such/file\"",
                "/no/such/file (`keys`)",
            ),
        ] {
            let found = texts(&preflight(&config(toml, dir.path())));
            assert!(found.contains(says), "{toml}: {found}");
        }
        let near = "[receiving]\ntrusted = [\"10.0.0.0/8\"]";
        assert!(!texts(&preflight(&config(near, dir.path()))).contains("anybody"));
    }

    #[test]
    fn a_secret_is_the_first_line() {
        let dir = private_dir();
        let file = dir.path().join("password");
        std::fs::write(&file, "pass word\nrest\n").unwrap();
        assert_eq!(read_secret(&file).unwrap().expose(), "pass word");
        std::fs::write(&file, "\n").unwrap();
        assert!(read_secret(&file).is_err());
    }
}
