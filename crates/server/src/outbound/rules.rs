//! The rules about mail that goes out, from the tables of the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nightmail_pace::{
    DestinationRule, MailSource, PartialSettings, Policies, Precedence, PrecedenceRule,
    Precedences, RateOf, RateRule, ReplyAction, ReplyRule, ReplyRules, Retry, Schedule, Settings,
    Stage, TlsRule, Via, Wildcard,
};
use nightmail_queue::Weights;

use crate::config::{
    self, Config, Destination, OutboundRate, OutboundTls, PrecedenceSource, RateSubject,
    ReplyConsequence, ReplyStage, Route, Switch,
};

/// The name of the relay that `[smarthost]` makes.
pub const SMARTHOST: &str = "smarthost";

/// What holds for each destination.
pub fn policies(config: &Config) -> Policies {
    let schedules: BTreeMap<&str, Arc<Schedule>> = config
        .schedules
        .iter()
        .map(|table| (table.name.as_str(), Arc::new(schedule(table))))
        .collect();
    let rules = config.destinations.iter().map(|table| DestinationRule {
        patterns: table.r#match.clone().unwrap_or_default(),
        settings: partial(table, config, &schedules),
    });
    Policies::new(rules.collect(), usual(config))
}

/// What `[delivery]` says.
fn usual(config: &Config) -> Settings {
    let delivery = &config.delivery;
    let smarthost = config.smarthost.address.as_ref().map(|_| SMARTHOST);
    let relay = delivery.relay.as_deref().or(smarthost);
    Settings {
        route: via(delivery.route, relay, relay).unwrap_or(Via::Mx),
        relay_unknown: delivery.relay_unknown,
        connections_max: delivery.connections_per_destination_max,
        connections_start: delivery.connections_start,
        messages_per_connection: delivery.messages_per_connection,
        connection_lifetime: delivery.connection_lifetime,
        idle: delivery.idle,
        recipients_per_transaction: delivery.recipients_per_transaction,
        rate: None,
        retry: retry(
            &delivery.retry_waits,
            delivery.retry_first,
            delivery.retry_max,
            delivery.retry_jitter_percent,
        ),
        lifetime: delivery.lifetime,
        warn_after: unless_zero(delivery.warn_after),
        bounce_lifetime: delivery.bounce_lifetime,
        tls: tls_rule(delivery.tls),
        dane: delivery.dane && delivery.dnssec,
        mta_sts: delivery.mta_sts,
        source_addresses: delivery.source_addresses.clone(),
        helo: None,
        schedule: None,
        on_request: false,
    }
}

/// What a `[[destination]]` says.
fn partial(
    table: &Destination,
    config: &Config,
    schedules: &BTreeMap<&str, Arc<Schedule>>,
) -> PartialSettings {
    let delivery = &config.delivery;
    let usual_relay = delivery.relay.as_deref().unwrap_or(SMARTHOST);
    let schedule = table.schedule.as_deref();
    PartialSettings {
        route: via(table.route, table.relay.as_deref(), Some(usual_relay)),
        relay_unknown: table.relay_unknown,
        connections_max: table.connections_max,
        connections_start: table.connections_start,
        messages_per_connection: table.messages_per_connection,
        connection_lifetime: table.connection_lifetime,
        idle: table.idle,
        recipients_per_transaction: table.recipients_per_transaction,
        rate: table.rate.as_ref().map(|rate| Switch::on(rate).copied()),
        retry: own_retry(table, delivery),
        lifetime: table.lifetime,
        warn_after: table.warn_after.map(unless_zero),
        bounce_lifetime: table.bounce_lifetime,
        tls: table.tls.map(tls_rule),
        dane: table.dane.map(|dane| dane && delivery.dnssec),
        mta_sts: table.mta_sts,
        source_addresses: table.source_addresses.clone(),
        helo: table.ehlo_name.as_ref().map(|name| Some(name.to_string())),
        schedule: schedule.and_then(|name| schedules.get(name).cloned().map(Some)),
        on_request: table.on_request,
    }
}

/// The way: by `relay` where one is given without more, by the `usual` one where a route needs one and none is given.
fn via(route: Option<Route>, relay: Option<&str>, usual: Option<&str>) -> Option<Via> {
    let name = || relay.or(usual).unwrap_or(SMARTHOST).to_owned();
    match (route, relay) {
        (None, None) => None,
        (Some(Route::Direct), _) => Some(Via::Mx),
        (None | Some(Route::Relay), _) => Some(Via::Relay(name())),
        (Some(Route::DirectThenRelay), _) => Some(Via::MxThenRelay(name())),
    }
}

fn retry(waits: &[Duration], first: Duration, max: Duration, jitter_percent: u8) -> Retry {
    match waits.is_empty() {
        true => Retry::Quadratic {
            first,
            max,
            jitter_percent,
        },
        false => Retry::Steps {
            pauses: waits.to_vec(),
            jitter_percent,
        },
    }
}

/// `None` where the table says nothing of retries. A first or longest wait of its own asks for waits that grow.
fn own_retry(table: &Destination, delivery: &config::Delivery) -> Option<Retry> {
    let grows = table.retry_first.is_some() || table.retry_max.is_some();
    let says = grows || table.retry_waits.is_some() || table.retry_jitter_percent.is_some();
    let usual: &[Duration] = match grows {
        true => &[],
        false => &delivery.retry_waits,
    };
    says.then(|| {
        retry(
            table.retry_waits.as_deref().unwrap_or(usual),
            table.retry_first.unwrap_or(delivery.retry_first),
            table.retry_max.unwrap_or(delivery.retry_max),
            table
                .retry_jitter_percent
                .unwrap_or(delivery.retry_jitter_percent),
        )
    })
}

fn unless_zero(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

const fn tls_rule(tls: OutboundTls) -> TlsRule {
    match tls {
        OutboundTls::None => TlsRule::Never,
        OutboundTls::Opportunistic => TlsRule::Opportunistic,
        OutboundTls::Encrypt => TlsRule::Encrypt,
        OutboundTls::Verify => TlsRule::Verify,
        OutboundTls::Dane => TlsRule::Dane,
    }
}

fn schedule(table: &config::Schedule) -> Schedule {
    Schedule::new(
        &table.weekdays,
        &table.weekend,
        &table.weekend_days,
        table.offset,
    )
}

/// What follows from replies.
pub fn reply_rules(config: &Config) -> ReplyRules {
    let rules = config.reply_rules.iter().map(|table| ReplyRule {
        of: table.r#match.clone(),
        stage: table.stage.map(|stage| match stage {
            ReplyStage::Connection => Stage::Connection,
            ReplyStage::Mail => Stage::Mail,
            ReplyStage::Rcpt => Stage::Recipient,
            ReplyStage::Data => Stage::Content,
        }),
        code: table.code,
        enhanced: table.enhanced.as_deref().map(Wildcard::new),
        text: table.text.as_deref().map(Wildcard::new),
        action: match table.action {
            ReplyConsequence::Slow => ReplyAction::Slow(table.pause),
            ReplyConsequence::OneAtATime => ReplyAction::OneAtATime(table.pause),
            ReplyConsequence::Pause => ReplyAction::Pause(table.pause),
            ReplyConsequence::Defer => ReplyAction::Defer,
            ReplyConsequence::Fail => ReplyAction::Fail,
            ReplyConsequence::NextHost => ReplyAction::NextHost,
            ReplyConsequence::Hold => ReplyAction::Hold,
            ReplyConsequence::Usual => ReplyAction::Usual,
        },
    });
    ReplyRules::new(rules.collect())
}

/// How fast mail of a source or sender may leave.
pub fn rates(config: &Config) -> Vec<RateRule> {
    let rules = config.outbound_rates.iter().filter_map(|table| {
        let (of, rate) = (rate_of(table).ok()?, table.rate?);
        Some(RateRule { of, rate })
    });
    rules.collect()
}

/// What an `[[outbound_rate]]` counts, or what is wrong with its `match`.
pub fn rate_of(table: &OutboundRate) -> Result<RateOf, String> {
    let named = &table.r#match;
    let senders = || {
        let parsed = named.iter().map(|text| text.parse());
        let parsed: Result<Vec<_>, nightmail_pace::SenderPatternError> = parsed.collect();
        parsed.map_err(|error| error.to_string())
    };
    match table.of {
        RateSubject::Sender => senders().map(RateOf::Sender),
        RateSubject::SenderDomain => senders().map(RateOf::SenderDomain),
        RateSubject::Source => {
            let parsed = named.iter().map(|text| {
                let known = text.parse().ok().filter(|it| *it != MailSource::List);
                known.ok_or_else(|| {
                    format!("expected \"submission\", \"relay\" or \"local\", found \"{text}\"")
                })
            });
            parsed.collect::<Result<_, _>>().map(RateOf::Source)
        }
    }
}

/// How urgent mail is.
pub fn precedences(config: &Config) -> Precedences {
    let rules = config.precedence_rules.iter().map(|table| PrecedenceRule {
        source: table.source.map(|source| match source {
            PrecedenceSource::Submission => MailSource::Submission,
            PrecedenceSource::Relay => MailSource::Relay,
            PrecedenceSource::Local => MailSource::Local,
            PrecedenceSource::List => MailSource::List,
        }),
        senders: table.sender.clone(),
        gives: Precedence {
            precedence: table.precedence,
            band: table.band,
        },
    });
    Precedences::new(rules.collect())
}

/// How precedence, size and age are weighed against each other.
pub fn weights(config: &Config) -> Weights {
    let queue = &config.queue;
    Weights {
        precedence: queue.precedence_weight,
        size: queue.size_weight,
        age: queue.age_weight,
        age_band_millis: u32::try_from(queue.age_band.as_millis()).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text).unwrap()
    }

    fn settings(text: &str, domain: &str) -> Arc<Settings> {
        policies(&config(text)).of(domain, &[])
    }

    const PARTNER: &str = "[[relay]]\nname = \"partner\"\nhosts = [\"gw.test:25\"]\n";
    const HOME: &str = "[smarthost]\naddress = \"home.test:587\"\n";

    #[test]
    fn without_any_keys_the_documented_defaults_hold() {
        let expected = Settings {
            dane: false,
            ..Settings::default()
        };
        assert_eq!(*settings("", "a.test"), expected, "DANE needs DNSSEC");
        assert!(settings("[delivery]\ndnssec = true", "a.test").dane);
    }

    #[test]
    fn the_way_follows_from_route_relay_and_smarthost() {
        let direct = "[delivery]\nroute = \"direct\"\n";
        let then = "[delivery]\nroute = \"direct-then-relay\"\n";
        let partner = "[delivery]\nrelay = \"partner\"\n";
        for (text, expected) in [
            (String::new(), Via::Mx),
            (HOME.to_owned(), Via::Relay(SMARTHOST.to_owned())),
            (format!("{direct}{HOME}"), Via::Mx),
            (
                format!("{then}{HOME}"),
                Via::MxThenRelay(SMARTHOST.to_owned()),
            ),
            (
                format!("{partner}{PARTNER}"),
                Via::Relay("partner".to_owned()),
            ),
            (
                format!("{partner}{HOME}{PARTNER}"),
                Via::Relay("partner".to_owned()),
            ),
        ] {
            assert_eq!(settings(&text, "a.test").route, expected, "{text}");
        }
    }

    #[test]
    fn a_destination_has_its_own_way() {
        let text = format!(
            "{HOME}{PARTNER}
            [[destination]]
            match = [\"direct.test\"]
            route = \"direct\"
            [[destination]]
            match = [\".partner.test\"]
            relay = \"partner\"
            [[destination]]
            match = [\"then.test\"]
            route = \"direct-then-relay\"
            relay_unknown = true
            "
        );
        assert_eq!(settings(&text, "direct.test").route, Via::Mx);
        assert_eq!(
            settings(&text, "a.partner.test").route,
            Via::Relay("partner".into())
        );
        let then = settings(&text, "then.test");
        assert_eq!(then.route, Via::MxThenRelay(SMARTHOST.into()));
        assert!(then.relay_unknown);
        assert_eq!(
            settings(&text, "else.test").route,
            Via::Relay(SMARTHOST.into())
        );
    }

    #[test]
    fn every_key_of_a_destination_reaches_its_setting() {
        let text = r#"
            [delivery]
            dnssec = true
            [[schedule]]
            name = "nights"
            weekdays = ["22:00-06:00"]
            weekend = []
            weekend_days = ["friday"]
            offset = "+02:00"
            [[destination]]
            match = ["slow.test"]
            tls = "verify"
            dane = false
            mta_sts = false
            connections_max = 2
            connections_start = 1
            messages_per_connection = 10
            connection_lifetime = "1m"
            idle = "0s"
            recipients_per_transaction = 50
            rate = "600/1h"
            retry_waits = ["10m"]
            retry_jitter_percent = 0
            lifetime = "2d"
            bounce_lifetime = "12h"
            warn_after = "0s"
            source_addresses = ["192.0.2.25", "2001:db8::25"]
            ehlo_name = "bulk.example.org"
            schedule = "nights"
            on_request = true
        "#;
        let hour = Duration::from_secs(3600);
        let nights = Schedule::new(
            &["22:00-06:00".parse().unwrap()],
            &[],
            &["friday".parse().unwrap()],
            "+02:00".parse().unwrap(),
        );
        let expected = Settings {
            route: Via::Mx,
            relay_unknown: false,
            connections_max: 2,
            connections_start: 1,
            messages_per_connection: 10,
            connection_lifetime: Duration::from_secs(60),
            idle: Duration::ZERO,
            recipients_per_transaction: 50,
            rate: Some(nightmail_pace::Rate {
                messages: 600,
                per: hour,
            }),
            retry: Retry::Steps {
                pauses: vec![hour / 6],
                jitter_percent: 0,
            },
            lifetime: 48 * hour,
            warn_after: None,
            bounce_lifetime: 12 * hour,
            tls: TlsRule::Verify,
            dane: false,
            mta_sts: false,
            source_addresses: vec![
                "192.0.2.25".parse().unwrap(),
                "2001:db8::25".parse().unwrap(),
            ],
            helo: Some("bulk.example.org".to_owned()),
            schedule: Some(Arc::new(nights)),
            on_request: true,
        };
        assert_eq!(*settings(text, "slow.test"), expected);
    }

    #[test]
    fn a_rate_can_be_lifted_for_some() {
        let text = "[[destination]]\nmatch = [\"a.test\"]\nrate = \"off\"\n[[destination]]\nmatch = [\"*\"]\nrate = \"1/1s\"";
        assert_eq!(settings(text, "a.test").rate, None);
        assert!(settings(text, "b.test").rate.is_some());
    }

    #[test]
    fn waits_grow_or_stand_as_they_are_given() {
        let quadratic = |first: u64, max: u64, jitter_percent| Retry::Quadratic {
            first: Duration::from_secs(first),
            max: Duration::from_secs(max),
            jitter_percent,
        };
        let steps = |secs: u64, jitter_percent| Retry::Steps {
            pauses: vec![Duration::from_secs(secs)],
            jitter_percent,
        };
        let delivery = "[delivery]\nretry_waits = [\"1s\"]\n";
        let table = "[[destination]]\nmatch = [\"a.test\"]\n";
        for (text, expected) in [
            (
                "[delivery]\nretry_first = \"1m\"\nretry_max = \"9m\"".to_owned(),
                quadratic(60, 540, 20),
            ),
            (delivery.to_owned(), steps(1, 20)),
            (
                format!("{delivery}{table}retry_jitter_percent = 5"),
                steps(1, 5),
            ),
            (
                format!("{delivery}{table}retry_first = \"1m\""),
                quadratic(60, 14_400, 20),
            ),
            (
                format!("{delivery}{table}retry_waits = []"),
                quadratic(300, 14_400, 20),
            ),
            (format!("{table}retry_waits = [\"3s\"]"), steps(3, 20)),
        ] {
            assert_eq!(settings(&text, "a.test").retry, expected, "{text}");
        }
    }

    #[test]
    fn reply_rules_go_before_the_built_in_ones() {
        let text = r#"
            [[reply_rule]]
            match = ["mx:.provider.test"]
            stage = "rcpt"
            code = "55."
            enhanced = "5.7.*"
            text = "*listed*"
            action = "pause"
            pause = "1h"
        "#;
        let rules = reply_rules(&config(text));
        let facts = nightmail_pace::Facts {
            domain: "a.test",
            host: "mx.provider.test",
            stage: Stage::Recipient,
            code: 554,
            enhanced: Some("5.7.1"),
            text: "you are listed",
        };
        let action = rules.decide(&facts).map(|rule| rule.action);
        assert_eq!(action, Some(ReplyAction::Pause(Duration::from_secs(3600))));
        let busy = nightmail_pace::Facts {
            code: 421,
            text: "too many connections",
            ..facts
        };
        assert!(matches!(
            rules.decide(&busy).map(|rule| rule.action),
            Some(ReplyAction::Slow(_))
        ));
    }

    #[test]
    fn rates_count_by_what_they_name() {
        let text = r#"
            [[outbound_rate]]
            of = "source"
            match = ["relay"]
            rate = "5/1m"
            [[outbound_rate]]
            of = "sender-domain"
            match = ["@.us.test"]
            rate = "6/1m"
        "#;
        let found = rates(&config(text));
        assert_eq!(found[0].of, RateOf::Source(vec![MailSource::Relay]));
        assert_eq!(
            found[1].of,
            RateOf::SenderDomain(vec!["@.us.test".parse().unwrap()])
        );
        assert_eq!(found[1].rate.messages, 6);
    }

    #[test]
    fn precedence_and_weights_are_those_given() {
        let text = r#"
            [queue]
            precedence_weight = 3
            size_weight = 4
            age_weight = 5
            age_band = "30s"
            [[precedence]]
            source = "list"
            sender = ["@news.test"]
            precedence = 500
            band = 7
        "#;
        let config = config(text);
        let weights = weights(&config);
        let numbers = (
            weights.precedence,
            weights.size,
            weights.age,
            weights.age_band_millis,
        );
        assert_eq!(numbers, (3, 4, 5, 30_000));
        let sender = nightmail_core::Address::parse("a@news.test").unwrap();
        let sender = nightmail_core::ReversePath::Address(sender);
        let of = |in_bulk| precedences(&config).of(MailSource::Relay, in_bulk, &sender, 0);
        assert_eq!(
            of(true),
            Precedence {
                precedence: 500,
                band: 7
            }
        );
        assert_eq!(of(false), Precedence::default());
    }
}
