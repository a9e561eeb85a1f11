//! The keys about mail that goes out: read, and refused where they are wrong.

use std::time::Duration;

use super::*;
use crate::config::{Config, Preflight, preflight};

fn problems(text: &str) -> Vec<String> {
    let problems = Config::parse(text).expect_err("must be refused");
    problems
        .iter()
        .map(|problem| match problem.line {
            Some(line) => format!("{line}: {}", problem.text),
            None => problem.text.clone(),
        })
        .collect()
}

/// A text, what must be said of it, and nothing else.
fn refused(cases: &[(&str, &str)]) {
    for (text, says) in cases {
        let found = problems(text);
        assert!(
            found.len() == 1 && found[0].contains(says),
            "{text}: {found:#?}"
        );
    }
}

#[test]
fn keys_of_the_way_reach_their_fields() {
    let config = Config::parse(
        r#"
        [delivery]
        route = "direct-then-relay"
        relay = "partner"
        relay_unknown = true
        tls = "dane"
        dane = false
        mta_sts = false
        retry_first = "1m"
        retry_max = "2h"
        retry_jitter_percent = 7
        bounce_lifetime = "3h"
        warn_after = "0s"
        connections_start = 3
        connections_per_destination_max = 4
        messages_per_connection = 6
        connection_lifetime = "2m"
        idle = "1s"
        recipients_per_transaction = 9
        source_addresses = ["192.0.2.1", "2001:db8::1"]
        dnssec = true
        trust_anchors = "/root.key"
        [[relay]]
        name = "partner"
        hosts = ["a.test:25", "[2001:db8::2]:2525"]
        tls = "implicit"
        user = "u"
        password_file = "/p"
        client_certificate = "/c"
        client_key = "/k"
        "#,
    )
    .unwrap();
    let delivery = &config.delivery;
    assert_eq!(delivery.route, Some(Route::DirectThenRelay));
    assert!(delivery.relay_unknown && !delivery.dane && !delivery.mta_sts && delivery.dnssec);
    assert_eq!(delivery.tls, OutboundTls::Dane);
    assert_eq!(delivery.retry_first, MINUTE);
    assert_eq!(delivery.retry_max, 2 * HOUR);
    assert_eq!(delivery.retry_jitter_percent, 7);
    assert_eq!(delivery.bounce_lifetime, 3 * HOUR);
    assert_eq!(delivery.warn_after, Duration::ZERO);
    assert_eq!(delivery.connections_start, 3);
    assert_eq!(delivery.messages_per_connection, 6);
    assert_eq!(delivery.connection_lifetime, 2 * MINUTE);
    assert_eq!(delivery.idle, SECOND);
    assert_eq!(delivery.recipients_per_transaction, 9);
    assert_eq!(delivery.source_addresses.len(), 2);
    assert_eq!(delivery.trust_anchors, Some("/root.key".into()));
    let relay = &config.relays[0];
    assert_eq!(
        (relay.name.as_str(), relay.tls),
        ("partner", RelayTls::Implicit)
    );
    let hosts = relay.hosts.as_ref().unwrap();
    assert_eq!(
        (hosts[1].host.as_str(), hosts[1].port),
        ("2001:db8::2", 2525)
    );
    assert!(relay.user.is_some() && relay.password_file.is_some());
    assert!(relay.client_certificate.is_some() && relay.client_key.is_some());
}

#[test]
fn keys_of_the_queue_reach_their_fields() {
    let config = Config::parse(
        r#"
        [queue]
        pending_max = 11
        deferred_max = 12
        double_bounces = "drop"
        verp_from = ["@lists.test", "<>"]
        verp_delimiters = "-="
        [[outbound_rate]]
        of = "source"
        match = ["submission", "local"]
        rate = "10/1s"
        [[precedence]]
        source = "submission"
        sender = ["ann@"]
        precedence = -5
        band = 0
        "#,
    )
    .unwrap();
    let queue = &config.queue;
    assert_eq!((queue.pending_max, queue.deferred_max), (11, 12));
    assert_eq!(queue.double_bounces, DoubleBounces::Drop);
    assert_eq!(
        (queue.verp_from.len(), queue.verp_delimiters.as_str()),
        (2, "-=")
    );
    assert_eq!(config.outbound_rates[0].of, RateSubject::Source);
    let rule = &config.precedence_rules[0];
    assert_eq!(rule.source, Some(PrecedenceSource::Submission));
    assert_eq!((rule.precedence, rule.band, rule.sender.len()), (-5, 0, 1));
    assert_eq!(Config::parse(&config.to_toml()).unwrap(), config);
}

#[test]
fn values_that_are_not_of_their_kind_are_refused() {
    refused(&[
        ("[delivery]\nroute = \"smarthost\"", "\"direct-then-relay\""),
        ("[delivery]\ntls = \"maybe\"", "\"dane\""),
        ("[delivery]\nretry_jitter_percent = 101", "0 to 100"),
        ("[delivery]\nconnections_start = 0", "1 to 1000"),
        ("[delivery]\nmessages_per_connection = 0", "1 to 1000000"),
        ("[delivery]\nconnection_lifetime = \"2h\"", "to \"1h\""),
        ("[delivery]\nidle = \"1h\"", "to \"5m\""),
        ("[delivery]\nrecipients_per_transaction = 0", "1 to 10000"),
        ("[delivery]\nretry_first = \"0s\"", "from \"1s\""),
        ("[delivery]\nretry_max = \"8d\"", "to \"7d\""),
        ("[delivery]\nbounce_lifetime = \"1s\"", "from \"1m\""),
        (
            "[delivery]\nsource_addresses = [\"host\"]",
            "an IP address such as",
        ),
        ("[delivery]\ndnssec = 1", "true or false"),
        ("[queue]\nprecedence_weight = -1", "a whole number"),
        ("[queue]\nage_weight = 0", "from 1 to"),
        ("[queue]\nage_band = \"0s\"", "from \"1s\""),
        ("[queue]\npending_max = 0", "from 1 to"),
        ("[queue]\ndeferred_max = 0", "from 1 to"),
        ("[queue]\ndouble_bounces = \"keep\"", "\"postmaster\""),
        (
            "[queue]\nverp_from = [\"*@a.test\"]",
            "a pattern of senders",
        ),
    ]);
}

#[test]
fn values_of_tables_that_are_not_of_their_kind_are_refused() {
    let destination = "[[destination]]\nmatch = [\"a.test\"]\n";
    for (key, says) in [
        ("match = [\"a b\"]", "a pattern of destinations"),
        ("connections_max = 0", "from 1 to 1000"),
        ("connections_start = 2000", "from 1 to 1000"),
        ("messages_per_connection = 0", "from 1 to"),
        ("connection_lifetime = \"0s\"", "from \"1s\""),
        ("idle = \"1h\"", "to \"5m\""),
        ("recipients_per_transaction = 0", "from 1 to"),
        ("rate = \"0/1h\"", "such as \"600/1h\""),
        ("rate = \"5/0s\"", "such as \"600/1h\""),
        ("rate = \"5\"", "such as \"600/1h\""),
        ("retry_waits = [\"0s\"]", "longer than zero"),
        ("retry_jitter_percent = 101", "0 to 100"),
        ("lifetime = \"61d\"", "to \"60d\""),
        ("warn_after = \"soon\"", "a duration"),
        ("ehlo_name = \"a b\"", "a domain name"),
        ("on_request = \"yes\"", "true or false"),
        ("relays = \"a\"", "did you mean `relay`?"),
    ] {
        let text = match key.starts_with("match") {
            true => format!("[[destination]]\n{key}\n"),
            false => format!("{destination}{key}\n"),
        };
        refused(&[(&text, says)]);
    }
    refused(&[
        (
            "[[relay]]\nname = \"a\"\nhosts = [\"a.test\"]",
            "a host and port",
        ),
        (
            "[[schedule]]\nname = \"a\"\nweekdays = [\"9-17\"]",
            "a window such as",
        ),
        (
            "[[schedule]]\nname = \"a\"\nweekend_days = [\"caturday\"]",
            "a day such as",
        ),
        (
            "[[schedule]]\nname = \"a\"\noffset = \"CET\"",
            "an offset from UTC",
        ),
        ("[[reply_rule]]\ncode = \"42\"", "a reply code"),
        (
            "[[reply_rule]]\ncode = \"421\"\nstage = \"quit\"",
            "\"connection\"",
        ),
        (
            "[[reply_rule]]\ncode = \"421\"\naction = \"stop\"",
            "\"one-at-a-time\"",
        ),
        (
            "[[reply_rule]]\ncode = \"421\"\npause = \"0s\"",
            "from \"1s\"",
        ),
        (
            "[[outbound_rate]]\nof = \"host\"\nrate = \"1/1s\"",
            "\"sender-domain\"",
        ),
        ("[[precedence]]\nsource = \"me\"", "\"submission\""),
        ("[[precedence]]\nprecedence = 10001", "from -10000 to 10000"),
        ("[[precedence]]\nband = 9", "from 0 to 8"),
    ]);
}

#[test]
fn tables_that_lack_what_they_need_are_refused_with_their_line() {
    refused(&[
        (
            "[[destination]]\nidle = \"1s\"",
            "1: [[destination]]: give the destinations",
        ),
        (
            "\n[[relay]]\nhosts = [\"a.test:25\"]",
            "2: [[relay]]: give its `name`",
        ),
        ("[[relay]]\nname = \"a\"", "1: [[relay]]: give its `hosts`"),
        (
            "[[relay]]\nname = \"a\"\nhosts = [\"a.test:25\"]\nuser = \"u\"",
            "both `user` and `password_file`",
        ),
        (
            "[[relay]]\nname = \"a\"\nhosts = [\"a.test:25\"]\nclient_key = \"/k\"",
            "both `client_certificate` and `client_key`",
        ),
        (
            "[[relay]]\nname = \"a\"\nhosts = [\"a.test:25\"]\nclient_key = \"/k\"\nclient_certificate = \"/c\"\ntls = \"none\"",
            "over TLS only",
        ),
        (
            "[[schedule]]\nweekend = []",
            "[[schedule]]: give its `name`",
        ),
        (
            "[[schedule]]\nname = \"a\"\nweekdays = []\nweekend = []",
            "never open",
        ),
        ("[[reply_rule]]\nstage = \"mail\"", "at least one of `code`"),
        ("[[outbound_rate]]\nof = \"sender\"", "give its `rate`"),
        (
            "[[outbound_rate]]\nrate = \"1/1s\"\nmatch = [\"a\"]",
            "`match` with of = \"sender\": \"a\" is no pattern of senders",
        ),
        (
            "[[outbound_rate]]\nrate = \"1/1s\"\nof = \"source\"\nmatch = [\"list\"]",
            "found \"list\"",
        ),
    ]);
}

#[test]
fn names_of_relays_and_schedules_must_be_known_where_they_stand() {
    let partner = "[[relay]]\nname = \"partner\"\nhosts = [\"a.test:25\"]\n";
    let nights = "[[schedule]]\nname = \"nights\"\n";
    refused(&[
        (
            &format!("{partner}[[destination]]\nmatch = [\"a.test\"]\nrelay = \"partnr\""),
            "6: `relay` in [[destination]]: there is no [[relay]] named \"partnr\"; did you mean `partner`?",
        ),
        (
            &format!("{nights}[[destination]]\nmatch = [\"a.test\"]\nschedule = \"night\""),
            "5: `schedule` in [[destination]]: there is no [[schedule]] named \"night\"",
        ),
        (
            "[[destination]]\nmatch = [\"a.test\"]\nroute = \"relay\"",
            "3: `relay` in [[destination]]: [smarthost] has no `address`",
        ),
        (
            "[delivery]\nrelay = \"partner\"",
            "2: `relay` in [delivery]: there is no [[relay]] named \"partner\"",
        ),
        (
            "[delivery]\nroute = \"relay\"",
            "2: `relay` in [delivery]: [smarthost] has no `address`",
        ),
        (
            &format!("{partner}{partner}"),
            "5: two [[relay]] tables are named \"partner\"",
        ),
        (
            &format!("{nights}{nights}"),
            "4: two [[schedule]] tables are named \"nights\"",
        ),
        (
            "[smarthost]\naddress = \"a.test:25\"\n[[relay]]\nname = \"smarthost\"\nhosts = [\"a.test:25\"]",
            "two relays are named \"smarthost\"",
        ),
    ]);
    let home = "[smarthost]\naddress = \"a.test:25\"\n";
    for text in [
        format!("{home}[delivery]\nroute = \"relay\""),
        format!("{home}[[destination]]\nmatch = [\"a.test\"]\nroute = \"direct-then-relay\""),
        format!(
            "{partner}[delivery]\nrelay = \"partner\"\n[[destination]]\nmatch = [\"*\"]\nroute = \"relay\""
        ),
    ] {
        assert!(
            Config::parse(&text).is_ok(),
            "{text}: {:?}",
            problems(&text)
        );
    }
}

#[test]
fn keys_of_the_sending_side_must_fit_each_other() {
    refused(&[
        ("[delivery]\nretry_waits = [\"0s\"]", "longer than zero"),
        (
            "[delivery]\nretry_first = \"1h\"\nretry_max = \"1m\"",
            "at least `retry_first`",
        ),
        ("[delivery]\ntls = \"dane\"", "needs dnssec = true"),
        (
            "[[destination]]\nmatch = [\"a.test\"]\ntls = \"dane\"",
            "needs dnssec = true",
        ),
        (
            "[queue]\nverp_delimiters = \"+\"",
            "two punctuation characters",
        ),
        (
            "[queue]\nverp_delimiters = \"+@\"",
            "two punctuation characters",
        ),
        (
            "[smarthost]\naddress = \"a.test:25\"\n[delivery]\nroute = \"direct\"\nrelay = \"smarthost\"",
            "leave it out",
        ),
        (
            "[smarthost]\naddress = \"a.test:25\"\n[[destination]]\nmatch = [\"a.test\"]\nroute = \"direct\"\nrelay = \"smarthost\"",
            "leave it out",
        ),
    ]);
}

#[test]
fn files_of_relays_and_trust_anchors_must_be_readable() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::parse(
        r#"
        [server]
        hostname = "mx.example.org"
        [delivery]
        trust_anchors = "/no/such/root.key"
        connections_start = 30
        [[relay]]
        name = "partner"
        hosts = ["a.test:25"]
        user = "u"
        tls = "none"
        password_file = "/no/such/password"
        [[relay]]
        name = "gateway"
        hosts = ["a.test:25"]
        client_certificate = "/no/such/pem"
        client_key = "/no/such/key"
        "#,
    )
    .unwrap();
    config.server.data = dir.path().to_owned();
    let found: Preflight = preflight(&config);
    let texts: Vec<String> = found.findings.iter().map(ToString::to_string).collect();
    for says in [
        "error: cannot read /no/such/root.key",
        "error: cannot read /no/such/password",
        "error: cannot read /no/such/pem",
        "error: cannot read /no/such/key",
        "warning: `trust_anchors` in [delivery] is not used",
        "warning: `connections_start` in [delivery]",
        "a password is not sent without TLS",
    ] {
        assert!(
            texts.iter().any(|text| text.contains(says)),
            "{says}: {texts:#?}"
        );
    }
    assert!(!found.is_ready());
}
