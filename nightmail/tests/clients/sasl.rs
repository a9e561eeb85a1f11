//! Logging in without sending a password: SCRAM by gsasl, tokens and certificates by curl.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nightmail_sasl::encode;
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519, SanType, SigningKey,
};

use super::common::tools::{Done, has, run};
use super::common::{Service, Site};

/// What curl exits with when it could not log in.
const NOT_LOGGED_IN: Option<i32> = Some(67);

fn gsasl(site: &Site, service: Service, mechanism: &str, more: &[&str]) -> Done {
    let kind = match service {
        Service::Submission => "--smtp",
        _ => "--imap",
    };
    let connect = format!("--connect={}", site.address(service));
    let mechanism = format!("--mechanism={mechanism}");
    let always = [
        kind,
        &connect,
        &mechanism,
        "--authentication-id=alice@example.test",
        "--quiet",
    ];
    run("gsasl", &[&always[..], more].concat())
}

#[test]
fn gsasl_logs_in_by_scram_with_and_without_binding() {
    if !has("gsasl") {
        return;
    }
    let mut site = Site::started("");
    let right = "--password=demo";
    for service in [Service::Imap, Service::Submission] {
        for mechanism in ["SCRAM-SHA-1", "SCRAM-SHA-256"] {
            gsasl(&site, service, mechanism, &[right, "--no-starttls"]).ok();
            let wrong = ["--password=Demo", "--no-starttls"];
            let refused = gsasl(&site, service, mechanism, &wrong);
            assert_ne!(refused.code, Some(0), "{}", refused.all());

            if service == Service::Submission {
                // Its STARTTLS comes before EHLO, which no server takes.
                continue;
            }
            let tls = [right, "--starttls", "--x509-ca-file="];
            let plus = format!("{mechanism}-PLUS");
            gsasl(&site, service, &plus, &tls).ok();
            let unbound = [&tls[..], &["--no-cb"]].concat();
            gsasl(&site, service, mechanism, &unbound).ok();
            // It could bind and says that it was offered no binding: somebody in between took that out.
            let deceived = gsasl(&site, service, mechanism, &tls);
            assert_ne!(deceived.code, Some(0), "{}", deceived.all());
        }
    }
    site.stop();
}

/// An issuer of tokens whose key is in a file.
struct TokenIssuer {
    key: KeyPair,
}

impl TokenIssuer {
    fn new(dir: &Path) -> (Self, String) {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let path = dir.join("issuer.pem");
        std::fs::write(&path, key.public_key_pem()).unwrap();
        let settings = format!(
            "[[token_issuer]]\nissuer = \"https://id.test\"\naudience = \"nightmail\"\n\
             scope = \"mail\"\nkeys = \"{}\"\n",
            path.display()
        );
        (Self { key }, settings)
    }

    /// A token that ends so many seconds from now.
    fn token(&self, account: &str, scope: &str, lasts: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let end = now.as_secs().cast_signed() + lasts;
        let claims = format!(
            "{{\"iss\":\"https://id.test\",\"aud\":[\"nightmail\"],\"email\":\"{account}\",\
             \"scope\":\"openid {scope}\",\"exp\":{end}}}"
        );
        let message = [r#"{"alg":"EdDSA","typ":"at+jwt"}"#, &claims]
            .map(url_safe)
            .join(".");
        let signature = self.key.sign(message.as_bytes()).unwrap();
        format!("{message}.{}", url_safe(signature))
    }
}

fn url_safe(octets: impl AsRef<[u8]>) -> String {
    let text = encode(octets.as_ref());
    text.trim_end_matches('=')
        .replace('+', "-")
        .replace('/', "_")
}

fn curl(site: &Site, scheme: &str, service: Service, more: &[&str]) -> Done {
    let url = format!("{scheme}://{}/", site.address(service));
    let always = [
        "-sS",
        "--max-time",
        "55",
        "-k",
        "--user",
        "alice@example.test:",
        &url,
    ];
    // Without a message to send it would ask for help.
    let command: &[&str] = if scheme == "smtp" {
        &["-X", "NOOP"]
    } else {
        &[]
    };
    run("curl", &[&always[..], command, more].concat())
}

#[test]
fn curl_logs_in_with_a_token() {
    if !has("curl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (issuer, settings) = TokenIssuer::new(dir.path());
    let mut site = Site::started(&settings);
    let ways = [
        ("imap", Service::Imap),
        ("pop3", Service::Pop3),
        ("imaps", Service::Imaps),
        ("smtp", Service::Submission),
    ];
    let good = issuer.token("alice@example.test", "mail", 600);
    for mechanism in ["OAUTHBEARER", "XOAUTH2"] {
        let option = format!("AUTH={mechanism}");
        let login = |token: &str, (scheme, service)| {
            let options = ["--oauth2-bearer", token, "--login-options", &option];
            curl(&site, scheme, service, &options)
        };
        for way in ways {
            login(&good, way).ok();
        }
        for bad in [
            issuer.token("alice@example.test", "mail", -600),
            issuer.token("alice@example.test", "calendar", 600),
            issuer.token("bob@example.test", "mail", 600),
            issuer.token("nobody@example.test", "mail", 600),
            format!("{}A", good.trim_end_matches(|last| last != '.')),
        ] {
            let refused = login(&bad, ways[0]);
            assert_eq!(refused.code, NOT_LOGGED_IN, "{}", refused.all());
        }
    }
    site.stop();
}

#[test]
fn keys_of_an_issuer_are_read_again_when_they_change() {
    if !has("curl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (old, settings) = TokenIssuer::new(dir.path());
    let mut site = Site::started(&settings);
    let login = |issuer: &TokenIssuer| {
        let token = issuer.token("alice@example.test", "mail", 600);
        let options = [
            "--oauth2-bearer",
            &token,
            "--login-options",
            "AUTH=OAUTHBEARER",
        ];
        curl(&site, "imap", Service::Imap, &options)
    };
    login(&old).ok();
    let (new, _) = TokenIssuer::new(dir.path());
    login(&new).ok();
    assert_eq!(login(&old).code, NOT_LOGGED_IN);
    site.stop();
}

/// A certificate for an address, from an authority of its own, as PEM: authority, certificate, key.
fn certificate(address: &str) -> [String; 3] {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let authority_key = Issuer::new(params, key);
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = vec![SanType::Rfc822Name(address.try_into().unwrap())];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority_key).unwrap().pem();
    [authority, certificate, key.serialize_pem()]
}

#[test]
fn curl_logs_in_with_a_certificate() {
    if !has("curl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let write = |name: &str, [_, certificate, key]: &[String; 3]| {
        std::fs::write(path(&format!("{name}.pem")), certificate).unwrap();
        std::fs::write(path(&format!("{name}.key")), key).unwrap();
    };
    let trusted = certificate("Alice@example.test");
    std::fs::write(path("ca.pem"), &trusted[0]).unwrap();
    write("trusted", &trusted);
    write("stranger", &certificate("alice@example.test"));
    let mut site = Site::started(&format!(
        "[tls]\nclient_certificates = \"optional\"\nclient_authorities = \"{}\"\n",
        path("ca.pem")
    ));
    let login = |name: &str, user: &str, (scheme, service): (&str, Service)| {
        let (certificate, key) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
        let shown = ["--cert", certificate.as_str(), "--key", key.as_str()];
        let rest = [
            "--login-options",
            "AUTH=EXTERNAL",
            "--ssl-reqd",
            "--user",
            user,
        ];
        curl(&site, scheme, service, &[&shown[..], &rest].concat())
    };
    for way in [
        ("imaps", Service::Imaps),
        ("imap", Service::Imap),
        ("pop3s", Service::Pop3s),
        ("smtp", Service::Submission),
    ] {
        login("trusted", "alice@example.test:", way).ok();
        let as_bob = login("trusted", "bob@example.test:", way);
        assert_eq!(as_bob.code, NOT_LOGGED_IN, "{}", as_bob.all());
        let stranger = login("stranger", "alice@example.test:", way);
        assert_eq!(stranger.code, NOT_LOGGED_IN, "{}", stranger.all());
    }
    site.stop();
}
