//! Who is let in by which mechanism, and who is not any more.

use std::time::{Duration, Instant};

use nightmail_core::Address;
use nightmail_directory::{AccountChange, DomainChange, PasswordHash};
use nightmail_sasl::client::{Binding, Scram};
use nightmail_sasl::{Password, ScramHash, decode, encode};

use super::harness::{Client, Server};

/// Leads a SCRAM exchange: the server's first message, and how the command ended.
fn scram(client: &mut Client, hash: ScramHash, name: &str, password: &str) -> (String, String) {
    let mechanism = match hash {
        ScramHash::Sha1 => "SCRAM-SHA-1",
        ScramHash::Sha256 => "SCRAM-SHA-256",
    };
    let user = (name, Password::new(password));
    let mut scram = Scram::new(hash, user, "clients-nonce", Binding::None);
    let first = encode(&scram.first());
    let tag = client.begin(format!("AUTHENTICATE {mechanism} {first}").as_bytes());
    let challenge = challenge(client);
    let last = encode(&scram.last(challenge.as_bytes()).unwrap());
    client.send(format!("{last}\r\n").as_bytes());
    let response = client.response().text;
    let Some(signature) = response.strip_prefix("+ ") else {
        return (challenge, response);
    };
    assert!(scram.accepts(&decode(signature).unwrap()), "{response}");
    client.send(b"\r\n");
    let ended = client.finish(&tag).pop().unwrap().text;
    (challenge, ended)
}

fn challenge(client: &mut Client) -> String {
    let response = client.response().text;
    let text = response.strip_prefix("+ ").unwrap();
    String::from_utf8(decode(text).unwrap()).unwrap()
}

/// The salt and the count of a challenge.
fn salted(challenge: &str) -> &str {
    challenge.split_once(",s=").unwrap().1
}

fn says_ok(response: &str) -> bool {
    response.starts_with("OK ")
}

#[test]
fn a_password_set_before_scram_works_after_one_plain_login() {
    let server = Server::start();
    let mut client = server.connect();
    let (before, ended) = scram(&mut client, ScramHash::Sha256, "ann@test", "secret");
    assert!(ended.contains("NO [AUTHENTICATIONFAILED]"), "{ended}");
    drop(server.client());
    for hash in [ScramHash::Sha1, ScramHash::Sha256] {
        let (after, ended) = scram(&mut server.connect(), hash, "ANN@test", "secret");
        assert!(says_ok(&ended), "{ended}");
        assert_ne!(salted(&before), salted(&after));
        let mut client = server.connect();
        let (_, ended) = scram(&mut client, hash, "ann@test", "Secret");
        assert!(ended.contains("NO [AUTHENTICATIONFAILED]"), "{ended}");
        assert!(says_ok(&client.tagged("LOGIN ann@test secret")));
    }
}

#[test]
fn an_unknown_user_looks_like_another_one_with_a_wrong_password() {
    let server = Server::start();
    let ask = |name: &str| {
        let mut client = server.connect();
        let (challenge, ended) = scram(&mut client, ScramHash::Sha256, name, "secret");
        assert!(
            ended.contains("NO [AUTHENTICATIONFAILED] Invalid credentials"),
            "{ended}"
        );
        salted(&challenge).to_owned()
    };
    let nobody = ask("nobody@test");
    assert_eq!(nobody, ask("Nobody@test"), "always the same for a name");
    assert_ne!(nobody, ask("nobody2@test"));
    assert!(nobody.ends_with("==,i=15000"), "{nobody}");
}

#[test]
fn a_new_password_and_a_disabled_account_end_scram() {
    let server = Server::start();
    drop(server.client());
    let (_, ended) = scram(
        &mut server.connect(),
        ScramHash::Sha256,
        "ann@test",
        "secret",
    );
    assert!(says_ok(&ended));
    let directory = &server.services.directory;
    let disable = DomainChange {
        enabled: Some(false),
        ..DomainChange::default()
    };
    let domain = Address::parse("ann@test").unwrap().domain().clone();
    let changed = directory.update_domain(domain.clone(), disable);
    server.runtime.block_on(changed).unwrap();
    let (_, ended) = scram(
        &mut server.connect(),
        ScramHash::Sha256,
        "ann@test",
        "secret",
    );
    assert!(
        ended.contains("NO [AUTHENTICATIONFAILED] The account is disabled"),
        "{ended}"
    );
    let enable = DomainChange {
        enabled: Some(true),
        ..DomainChange::default()
    };
    let changed = directory.update_domain(domain, enable);
    server.runtime.block_on(changed).unwrap();

    let change = AccountChange {
        password: Some(Some(PasswordHash::new("$argon2id$none"))),
        ..AccountChange::default()
    };
    let changed = directory.update_account(server.account, change);
    server.runtime.block_on(changed).unwrap();
    let (_, ended) = scram(
        &mut server.connect(),
        ScramHash::Sha256,
        "ann@test",
        "secret",
    );
    assert!(ended.contains("NO [AUTHENTICATIONFAILED]"), "{ended}");
}

#[test]
fn nobody_acts_as_somebody_else() {
    let server = Server::start();
    let mut client = server.connect();
    let plain = |who: &str| encode(format!("{who}\0ann@test\0secret").as_bytes());
    let refused = client.tagged(&format!("AUTHENTICATE PLAIN {}", plain("bob@test")));
    assert!(refused.contains("NO [AUTHENTICATIONFAILED]"), "{refused}");
    let own = client.tagged(&format!("AUTHENTICATE PLAIN {}", plain("Ann@test")));
    assert!(says_ok(&own), "{own}");
}

#[test]
fn a_client_that_is_wrong_too_often_waits_and_is_then_not_heard() {
    let server = Server::configured(|config| {
        config.auth.failures_per_address_per_hour = 1;
    });
    let mut client = server.connect();
    assert!(
        client
            .tagged("LOGIN ann@test wrong")
            .contains("AUTHENTICATIONFAILED")
    );
    let began = Instant::now();
    assert!(
        client
            .tagged("LOGIN ann@test wrong")
            .contains("AUTHENTICATIONFAILED")
    );
    assert!(began.elapsed() >= Duration::from_secs(2), "it comes late");
    let answer = client.tagged("LOGIN ann@test secret");
    assert!(answer.contains("NO [UNAVAILABLE]"), "{answer}");
}
