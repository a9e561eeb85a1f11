//! Conditions as an operator writes them, held against messages.

use bytes::Bytes;
use nightmail_core::{AccountId, Address, BlobId, QueueId, ReversePath, Timestamp};
use proptest::prelude::*;

use super::test::{Field, Operator, SourceKind, Test, Value};
use super::{Expression, Selection};
use crate::destination::{Destination, RelayName};
use crate::rank::Rank;
use crate::record::{
    Attempt, BodyType, Notify, QueueMessage, Recipient, RecipientState, Source, Waiting,
};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);
const DAY_MILLIS: i64 = 86_400_000;

fn recipient(address: &str) -> Recipient {
    Recipient {
        address: address.parse().unwrap(),
        notify: Notify::Unspecified,
        orcpt: None,
        state: RecipientState::Pending { next_attempt: NOW },
        attempts: 3,
        last: Some(Attempt::new(
            NOW,
            Some("mx.far.test"),
            "4.7.0",
            Some("421 Too many connections"),
            "",
        )),
        delay_reported: false,
        waiting: Waiting::Retry,
        relay: None,
        hold: None,
    }
}

/// Three days old, 20 kB, from an account.
fn message() -> QueueMessage {
    QueueMessage {
        created: NOW.plus_millis(-3 * DAY_MILLIS),
        reverse_path: ReversePath::Address("Ann@us.test".parse::<Address>().unwrap()),
        blob: BlobId::new([0; 32]),
        prefix: Bytes::new(),
        blob_size: 20_000,
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
        source: Source::Submission(AccountId::new(1)),
        recipients: vec![recipient("Bob@Far.Test")],
        demands: Default::default(),
        unrouted: None,
        rank: Rank::new(Rank::NORMAL, NOW, 0),
    }
}

#[track_caller]
fn fits_with(text: &str, message: &QueueMessage) -> bool {
    let selection = Selection::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    selection.fits(message, QueueId::new(0x2a), &message.recipients[0], NOW)
}

#[track_caller]
fn fits(text: &str) -> bool {
    fits_with(text, &message())
}

#[test]
fn each_field_is_compared_as_what_it_is() {
    for text in [
        "all",
        "domain = far.test",
        "domain=FAR.test",
        "domain ~ *.test",
        "domain != near.test",
        "sender = ann@us.test",
        "sender ~ *@us.test",
        "sender != \"\"",
        "recipient = BOB@far.test",
        "reply ~ *too*connections",
        "status = 4.7.0",
        "status ~ 4.*",
        "relay = \"\"",
        "source = submission",
        "age > 2d",
        "age >= 3d",
        "age < 80h",
        "size > 19k",
        "size <= 20000",
        "attempts = 3",
        "attempts >= 3",
        "priority = 0",
        "priority > -1",
        "id = q2a",
        "q2a",
        "not held",
        "held = no",
        "held != yes",
    ] {
        assert!(fits(text), "{text}");
        assert!(!fits(&format!("not ({text})")), "{text}");
    }
    for text in [
        "domain ~ far",
        "domain = a.far.test",
        "sender = \"\"",
        "age > 3d",
        "size >= 1M",
        "status ~ 5.*",
        "source = relay",
        "q2b",
        "held",
    ] {
        assert!(!fits(text), "{text}");
    }
}

#[test]
fn what_is_rerouted_held_or_without_a_sender_is_found_by_that() {
    let mut message = message();
    message.reverse_path = ReversePath::Null;
    message.recipients[0].relay = RelayName::new("Hub");
    message.recipients[0].hold = Some("by hand".into());
    message.recipients[0].last = None;
    for text in [
        "sender = <>",
        "sender = \"\"",
        "sender != ann@us.test",
        "relay = Hub",
        "relay ~ H*",
        "held",
        "reply = \"\" and status = \"\"",
    ] {
        assert!(fits_with(text, &message), "{text}");
    }
    assert!(!fits_with("relay = hub", &message));
}

#[test]
fn not_binds_before_and_which_binds_before_or() {
    assert!(fits("held and held or all"));
    assert!(!fits("held and (held or all)"));
    assert!(!fits("not all and all"));
    assert!(fits("not (all and held)"));
    assert!(fits("NOT held AND ALL"));
    assert!(fits("not not all"));
}

#[test]
fn values_with_spaces_stand_in_quotes() {
    assert!(fits(r#"reply = "421 too many connections""#));
    assert!(fits(r#"(domain = "far.test")and(age>1d)"#));
    let parsed = Selection::parse(r#"reply = "say \"a\\b\"""#).unwrap();
    assert_eq!(parsed.to_string(), r#"reply = "say \"a\\b\"""#);
}

#[test]
fn errors_name_the_place_and_the_remedy() {
    let deep = format!("{}all{}", "(".repeat(60), ")".repeat(60));
    let long = "x".repeat(5000);
    for (text, place, says) in [
        ("", 1, "expected a field"),
        ("domian = x", 1, "no field `domian`"),
        ("domain", 7, "expected one of `!=` `=` `~`"),
        ("domain < x", 8, "not compared by `<`"),
        ("domain = ", 10, "a value is missing"),
        ("domain = x y", 12, "expected `and`"),
        ("domain = a..b", 10, "a..b"),
        ("age > 2", 7, "30m, 12h or 2d"),
        ("age > 2y", 7, "30m, 12h or 2d"),
        ("size > big", 8, "500, 20k or 10M"),
        ("size > 9999999999999G", 8, "500, 20k or 10M"),
        ("attempts = x", 12, "whole number"),
        ("held = maybe", 8, "yes, no"),
        ("source = web", 10, "submission, relay, local"),
        ("id = zz", 6, "queue id"),
        ("recipient = bob", 13, "write `~`"),
        ("(all", 5, "expected `)`"),
        ("all)", 4, "no `(`"),
        ("reply = \"é", 9, "not closed"),
        ("reply = é and x = 1", 15, "no field `x`"),
        ("all and", 8, "expected a field"),
        (&deep, 52, "too deep"),
        (&long, 1, "longer than"),
    ] {
        let error = Selection::parse(text).unwrap_err();
        assert_eq!(error.place, place, "{text}: {error}");
        assert!(error.problem.contains(says), "{text}: {error}");
    }
}

#[test]
fn what_every_match_must_go_to_is_known_beforehand() {
    let parse = |text| Selection::parse(text).unwrap();
    let domain = Destination::Domain("far.test".parse().unwrap());
    let relay = Destination::Relay(RelayName::new("hub").unwrap());
    for (text, destination) in [
        ("domain = far.test", Some(&domain)),
        ("age > 1d and domain = far.test", Some(&domain)),
        ("domain = far.test and relay = hub", Some(&relay)),
        ("domain = far.test and relay = \"\"", Some(&domain)),
        ("domain != far.test", None),
        ("domain ~ far.test", None),
        ("not domain = far.test", None),
        ("domain = far.test or all", None),
    ] {
        assert_eq!(parse(text).destination().as_ref(), destination, "{text}");
    }
    let [one, other] = [1, 2].map(QueueId::new);
    assert_eq!(parse("q1").ids(), Some(vec![one]));
    assert_eq!(
        parse("q2 or (id = q1 and all) or q1").ids(),
        Some(vec![one, other])
    );
    assert_eq!(parse("held and q2").ids(), Some(vec![other]));
    for text in ["id != q1", "q1 or all", "not q1"] {
        assert_eq!(parse(text).ids(), None, "{text}");
    }
    assert!(parse("all").may_be_held() && parse("held").may_be_held());
    assert!(!parse("domain = x and held = no").may_be_held());
    assert!(!parse("held != yes").may_be_held());
    assert!(parse("not (relay = x or all)").tests_relay() && !parse("all").tests_relay());
}

fn text() -> impl Strategy<Value = String> {
    "[ -~é]{0,12}".prop_map(|text| text.to_lowercase())
}

fn value(field: Field, operator: Operator) -> BoxedStrategy<Value> {
    if operator == Operator::Like {
        return text().prop_map(Value::Text).boxed();
    }
    match field {
        Field::Domain => "[a-z]{1,5}(\\.[a-z]{1,5})?"
            .prop_map(|name| Value::Domain(name.parse().unwrap()))
            .boxed(),
        Field::Sender | Field::Recipient => "([a-zA-Z]{1,5}|\"[ a-z)=]{1,5}\")@[a-z]{1,5}"
            .prop_map(|name| Value::Address(name.parse().unwrap()))
            .boxed(),
        Field::Reply | Field::Status | Field::Relay => text().prop_map(Value::Text).boxed(),
        Field::Source => prop::sample::select(&SourceKind::ALL[..])
            .prop_map(|(kind, _)| Value::Source(kind))
            .boxed(),
        Field::Age | Field::Size => {
            let unit = prop::sample::select(vec![1, 60, 3600, 86_400, 604_800, 1 << 10, 1 << 30]);
            (0..100_000_i64, unit)
                .prop_map(|(count, unit)| Value::Number(count * unit))
                .boxed()
        }
        Field::Attempts | Field::Priority => any::<i64>().prop_map(Value::Number).boxed(),
        Field::Id => any::<u64>()
            .prop_map(|id| Value::Id(QueueId::new(id)))
            .boxed(),
        Field::Held => any::<bool>().prop_map(Value::Flag).boxed(),
    }
}

fn test() -> impl Strategy<Value = Test> {
    let field = prop::sample::select(&Field::ALL[..]);
    let operator = prop::sample::select(&Operator::ALL[..]);
    (field, operator)
        .prop_filter("taken", |((field, _), (operator, _))| {
            field.takes(*operator)
        })
        .prop_flat_map(|((field, _), (operator, _))| {
            value(field, operator).prop_map(move |value| Test {
                field,
                operator,
                value,
            })
        })
}

fn expression() -> impl Strategy<Value = Expression> {
    let leaf = prop_oneof![Just(Expression::All), test().prop_map(Expression::Test)];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let parts = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            inner.prop_map(|inner| Expression::Not(Box::new(inner))),
            parts.clone().prop_map(Expression::And),
            parts.prop_map(Expression::Or),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(expression in expression()) {
        let printed = Selection(expression.clone()).to_string();
        prop_assume!(printed.len() <= super::SELECTION_OCTETS_MAX);
        prop_assert_eq!(Selection::parse(&printed), Ok(Selection(expression)), "{}", printed);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        let _ = Selection::parse(&text);
    }

    #[test]
    fn nothing_like_an_expression_makes_the_reader_panic(text in "[aedno l()\"=<~\\\\q*]{0,40}") {
        if let Ok(selection) = Selection::parse(&text) {
            prop_assert_eq!(Selection::parse(&selection.to_string()), Ok(selection));
        }
    }
}
