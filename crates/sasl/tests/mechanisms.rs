//! Exchanges as clients lead them, with the vectors of the RFCs.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use nightmail_sasl::client::{self, Binding, Scram};
use nightmail_sasl::{
    Answer, Channel, Exchange, Failure, Mechanism, MechanismSet, Password, Question, ScramHash,
    ScramSecret, Step, decode,
};
use proptest::prelude::*;

fn channel() -> Channel {
    Channel {
        bindings: vec![
            ("tls-exporter", b"exported".to_vec()),
            ("tls-server-end-point", b"hashed".to_vec()),
        ],
        certificate: true,
    }
}

fn exchange(mechanism: Mechanism) -> Exchange {
    Exchange::new(mechanism, MechanismSet::all(), channel())
}

/// An exchange where no mechanism with channel binding is offered.
fn unbound(mechanism: Mechanism) -> Exchange {
    let offered = MechanismSet::all().over(&Channel::default());
    Exchange::new(mechanism, offered, Channel::default())
}

fn accepted() -> Answer {
    Answer::Accepted {
        identity: "user@x.test".into(),
    }
}

fn secret(hash: ScramHash, password: &str) -> Answer {
    Answer::Secret {
        secret: ScramSecret::derive(hash, password, b"saltsalt".to_vec(), 4096),
        nonce: "server".into(),
    }
}

fn challenge(step: Step) -> String {
    match step {
        Step::Challenge(octets) => String::from_utf8(octets).unwrap(),
        other => panic!("{other:?}"),
    }
}

struct Vector {
    mechanism: Mechanism,
    hash: ScramHash,
    salt: &'static str,
    nonce: &'static str,
    first: &'static str,
    challenge: &'static str,
    last: &'static str,
    signature: &'static str,
}

/// RFC 5802 §5 and RFC 7677 §3.
const VECTORS: [Vector; 2] = [
    Vector {
        mechanism: Mechanism::ScramSha1,
        hash: ScramHash::Sha1,
        salt: "QSXCR+Q6sek8bf92",
        nonce: "3rfcNHYJY1ZVvWVs7j",
        first: "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        challenge: "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        last: "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        signature: "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    },
    Vector {
        mechanism: Mechanism::ScramSha256,
        hash: ScramHash::Sha256,
        salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
        nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        first: "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        challenge: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        last: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        signature: "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    },
];

#[test]
fn scram_speaks_the_vectors_of_its_rfcs() {
    for vector in &VECTORS {
        let mut exchange = unbound(vector.mechanism);
        let step = exchange.start(Some(vector.first.as_bytes()));
        let question = Question::Scram {
            hash: vector.hash,
            identity: "user".into(),
            authorization: None,
        };
        assert_eq!(step, Step::Ask(question));
        let salt = decode(vector.salt).unwrap();
        let step = exchange.answer(Answer::Secret {
            secret: ScramSecret::derive(vector.hash, "pencil", salt, 4096),
            nonce: vector.nonce.into(),
        });
        assert_eq!(challenge(step), vector.challenge);
        let step = exchange.respond(vector.last.as_bytes());
        let identity = "user".into();
        assert_eq!(step, Step::Ask(Question::Proven { identity }));
        let succeeded = Step::Succeeded {
            identity: "user@x.test".into(),
            data: Some(vector.signature.into()),
        };
        assert_eq!(exchange.answer(accepted()), succeeded);
    }
}

#[test]
fn the_client_speaks_the_vectors_too() {
    for vector in &VECTORS {
        let nonce = vector.first.rsplit_once("r=").unwrap().1;
        let user = ("user", Password::new("pencil"));
        let mut client = Scram::new(vector.hash, user, nonce, Binding::None);
        assert_eq!(client.first(), vector.first.as_bytes());
        let last = client.last(vector.challenge.as_bytes()).unwrap();
        assert_eq!(last, vector.last.as_bytes());
        assert!(client.accepts(vector.signature.as_bytes()));
        assert!(!client.accepts(b"v=AAAA") && !client.accepts(b"e=other-error"));
        assert_eq!(client.last(b"r=other,s=AAAA,i=1"), None, "not our nonce");
    }
}

/// Leads an exchange up to the driver's question about the proof.
fn prove(exchange: &mut Exchange, hash: ScramHash, password: &str, binding: Binding) -> Step {
    let user = ("jörg,=", Password::new(password));
    let mut client = Scram::new(hash, user, "client", binding);
    match exchange.start(Some(&client.first())) {
        Step::Ask(Question::Scram { identity, .. }) => assert_eq!(&*identity, "jörg,="),
        other => return other,
    }
    let Step::Challenge(challenge) = exchange.answer(secret(hash, "pencil")) else {
        panic!("no challenge");
    };
    let last = client.last(&challenge).unwrap();
    exchange.respond(&last)
}

#[test]
fn a_wrong_password_never_succeeds_whatever_is_answered() {
    for answer in [
        accepted(),
        Answer::Refused,
        secret(ScramHash::Sha256, "pencil"),
    ] {
        let mut exchange = unbound(Mechanism::ScramSha256);
        let step = prove(&mut exchange, ScramHash::Sha256, "Pencil", Binding::None);
        assert!(
            matches!(step, Step::Ask(Question::Disproven { .. })),
            "{step:?}"
        );
        assert!(matches!(exchange.answer(answer), Step::Failed(_)));
        assert!(matches!(exchange.answer(accepted()), Step::Failed(_)));
    }
}

#[test]
fn a_binding_ties_the_login_to_its_channel() {
    let bound = |name: &str, data: &[u8]| {
        let mut exchange = exchange(Mechanism::ScramSha256Plus);
        let binding = Binding::Bound(name.to_owned(), data.to_vec());
        prove(&mut exchange, ScramHash::Sha256, "pencil", binding)
    };
    let proven = |step: &Step| matches!(step, Step::Ask(Question::Proven { .. }));
    assert!(proven(&bound("tls-exporter", b"exported")));
    assert!(proven(&bound("tls-server-end-point", b"hashed")));
    let elsewhere = bound("tls-exporter", b"another connection");
    assert_eq!(elsewhere, Step::Failed(Failure::Refused));
    assert_eq!(bound("tls-unique", b""), Step::Failed(Failure::Refused));
}

#[test]
fn a_client_that_was_told_of_no_binding_where_there_is_one_is_refused() {
    let mut offered = exchange(Mechanism::ScramSha1);
    let step = prove(&mut offered, ScramHash::Sha1, "pencil", Binding::Unoffered);
    assert_eq!(step, Step::Failed(Failure::Refused));
    let mut not_offered = unbound(Mechanism::ScramSha1);
    let step = prove(
        &mut not_offered,
        ScramHash::Sha1,
        "pencil",
        Binding::Unoffered,
    );
    assert!(
        matches!(step, Step::Ask(Question::Proven { .. })),
        "{step:?}"
    );
    let mut unable = exchange(Mechanism::ScramSha1);
    let step = prove(&mut unable, ScramHash::Sha1, "pencil", Binding::None);
    assert!(
        matches!(step, Step::Ask(Question::Proven { .. })),
        "{step:?}"
    );
}

#[test]
fn a_header_must_fit_its_mechanism() {
    for (mechanism, first) in [
        (Mechanism::ScramSha256Plus, "n,,n=user,r=abc"),
        (Mechanism::ScramSha256Plus, "y,,n=user,r=abc"),
        (Mechanism::ScramSha256, "p=tls-exporter,,n=user,r=abc"),
        (Mechanism::ScramSha256, "n,,m=x,n=user,r=abc"),
        (Mechanism::ScramSha256, "n,,n=user,r="),
        (Mechanism::ScramSha256, "n,,n=,r=abc"),
        (Mechanism::ScramSha256, "n,,n=us=er,r=abc"),
        (Mechanism::ScramSha256, "n,,n=user,r=a b"),
        (Mechanism::ScramSha256, "n,,n=user,r=abc,nonsense"),
        (Mechanism::ScramSha256, "n=user,r=abc"),
        (Mechanism::ScramSha256, ""),
    ] {
        let mut exchange = exchange(mechanism);
        let step = exchange.start(Some(first.as_bytes()));
        assert!(matches!(step, Step::Failed(_)), "{first}: {step:?}");
        assert!(matches!(exchange.answer(accepted()), Step::Failed(_)));
    }
}

#[test]
fn the_last_message_must_repeat_what_was_agreed() {
    let vector = &VECTORS[1];
    for (from, to) in [
        ("c=biws", "c=eSws"),
        ("c=biws", "c=!"),
        ("r=rOpr", "r=sOpr"),
        ("$k0,", "$k0x,"),
        (",p=d", ",x,p=d"),
        (",p=", ",q="),
        ("p=dHzb", "p=dHz"),
    ] {
        let mut exchange = unbound(vector.mechanism);
        exchange.start(Some(vector.first.as_bytes()));
        exchange.answer(Answer::Secret {
            secret: ScramSecret::derive(vector.hash, "pencil", decode(vector.salt).unwrap(), 4096),
            nonce: vector.nonce.into(),
        });
        let last = vector.last.replacen(from, to, 1);
        assert_ne!(last, vector.last);
        let step = exchange.respond(last.as_bytes());
        assert!(matches!(step, Step::Failed(_)), "{last}: {step:?}");
    }
}

#[test]
fn passwords_are_prepared_before_they_are_hashed() {
    let odd = ScramSecret::derive(ScramHash::Sha256, "I\u{ad}X", vec![1], 10);
    assert_eq!(
        odd,
        ScramSecret::derive(ScramHash::Sha256, "\u{2168}", vec![1], 10)
    );
    assert_ne!(
        odd,
        ScramSecret::derive(ScramHash::Sha256, "ix", vec![1], 10)
    );
}

#[test]
fn plain_and_login_ask_for_the_same() {
    let question = |authorization: Option<&str>| {
        Step::Ask(Question::Password {
            identity: "jörg".into(),
            password: Password::new("p w"),
            authorization: authorization.map(Into::into),
        })
    };
    let response = client::plain("jörg", &Password::new("p w"));
    assert_eq!(
        exchange(Mechanism::Plain).start(Some(&response)),
        question(None)
    );
    let response = "ann\0jörg\0p w".as_bytes();
    let mut plain = exchange(Mechanism::Plain);
    assert_eq!(challenge(plain.start(None)), "");
    assert_eq!(plain.respond(response), question(Some("ann")));
    assert_eq!(
        plain.answer(Answer::Disabled),
        Step::Failed(Failure::Disabled)
    );

    let mut login = exchange(Mechanism::Login);
    assert_eq!(challenge(login.start(None)), "Username:");
    assert_eq!(challenge(login.respond("jörg".as_bytes())), "Password:");
    assert_eq!(login.respond(b"p w"), question(None));
    let succeeded = Step::Succeeded {
        identity: "user@x.test".into(),
        data: None,
    };
    assert_eq!(login.answer(accepted()), succeeded);
}

#[test]
fn malformed_plain_is_invalid() {
    let responses: [&[u8]; 8] = [
        b"",
        b"a",
        b"\0a",
        b"\0a\0",
        b"\0\0p",
        b"\0a\0p\0",
        b"\0\xff\0p",
        b"a\0b\0c\0d",
    ];
    for response in responses {
        let step = exchange(Mechanism::Plain).start(Some(response));
        assert_eq!(step, Step::Failed(Failure::Invalid), "{response:?}");
    }
}

#[test]
fn a_refused_token_is_explained_before_it_fails() {
    for (mechanism, response) in [
        (
            Mechanism::OAuthBearer,
            client::bearer("a,b@x.test", &Password::new("t.o.k")),
        ),
        (
            Mechanism::XOAuth2,
            client::xoauth2("a,b@x.test", &Password::new("t.o.k")),
        ),
    ] {
        let mut exchange = exchange(mechanism);
        let question = Question::Token {
            token: Password::new("t.o.k"),
            identity: Some("a,b@x.test".into()),
        };
        assert_eq!(exchange.start(Some(&response)), Step::Ask(question));
        let json = br#"{"status":"invalid_token"}"#.to_vec();
        let step = exchange.answer(Answer::TokenRefused { json: json.clone() });
        assert_eq!(step, Step::Challenge(json));
        assert_eq!(exchange.respond(b"\x01"), Step::Failed(Failure::Refused));
        assert!(matches!(exchange.answer(accepted()), Step::Failed(_)));
    }
}

#[test]
fn external_needs_a_certificate() {
    let mut with = exchange(Mechanism::External);
    assert_eq!(challenge(with.start(None)), "");
    let authorization = None;
    assert_eq!(
        with.respond(b""),
        Step::Ask(Question::Certificate { authorization })
    );
    let authorization = Some("ann".into());
    let step = exchange(Mechanism::External).start(Some(b"ann"));
    assert_eq!(step, Step::Ask(Question::Certificate { authorization }));
    let offered = MechanismSet::all();
    let mut without = Exchange::new(Mechanism::External, offered, Channel::default());
    assert_eq!(without.start(Some(b"")), Step::Failed(Failure::Refused));
}

#[test]
fn a_mechanism_that_was_not_offered_is_refused() {
    let mut exchange = Exchange::new(Mechanism::Plain, MechanismSet::EMPTY, Channel::default());
    assert_eq!(
        exchange.start(Some(b"\0a\0b")),
        Step::Failed(Failure::Refused)
    );
}

#[test]
fn no_secret_is_shown() {
    let mut exchange = exchange(Mechanism::ScramSha256);
    exchange.start(Some(b"n,,n=user,r=abc"));
    exchange.answer(secret(ScramHash::Sha256, "pencil"));
    let shown = format!("{exchange:?} {:?}", channel());
    assert!(
        !shown.contains("stored") && !shown.contains("exported"),
        "{shown}"
    );
    let question = Question::Password {
        identity: "a".into(),
        password: Password::new("pencil"),
        authorization: None,
    };
    assert!(!format!("{question:?}").contains("pencil"));
}

proptest! {
    #[test]
    fn no_response_makes_an_exchange_panic_or_believe(
        index in 0..Mechanism::ALL.len(),
        responses in proptest::collection::vec(any::<Vec<u8>>(), 1..4),
    ) {
        let mut exchange = exchange(Mechanism::ALL[index]);
        for response in &responses {
            match exchange.respond(response) {
                Step::Succeeded { .. } => prop_assert!(false, "nobody was asked"),
                Step::Ask(_) => {
                    let step = exchange.answer(Answer::Refused);
                    prop_assert_eq!(step, Step::Failed(Failure::Refused));
                }
                Step::Challenge(_) | Step::Failed(_) => {}
            }
        }
    }

    #[test]
    fn whoever_knows_the_password_is_believed(password in "\\PC{1,12}", nonce in "[!-+.-~]{1,30}") {
        let user = ("user", Password::new(password.as_str()));
        let mut client = Scram::new(ScramHash::Sha256, user, &nonce, Binding::None);
        let mut exchange = unbound(Mechanism::ScramSha256);
        exchange.start(Some(&client.first()));
        let secret = ScramSecret::derive(ScramHash::Sha256, &password, vec![7; 16], 3);
        let step = exchange.answer(Answer::Secret { secret, nonce: "n".into() });
        let last = client.last(challenge(step).as_bytes()).unwrap();
        let proven = matches!(exchange.respond(&last), Step::Ask(Question::Proven { .. }));
        prop_assert!(proven);
        let Step::Succeeded { data: Some(data), .. } = exchange.answer(accepted()) else {
            return Err(TestCaseError::fail("not believed"));
        };
        prop_assert!(client.accepts(&data));
    }
}
