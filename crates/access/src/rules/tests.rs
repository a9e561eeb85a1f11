//! Rules as a site writes them, and what they decide.

use super::*;

fn rule(name: &str, stage: Stage, action: Action) -> Rule {
    Rule {
        name: name.into(),
        stage,
        client: Vec::new(),
        client_name: Vec::new(),
        helo: Vec::new(),
        sender: Vec::new(),
        recipient: Vec::new(),
        tls: None,
        authenticated: None,
        tagged: Vec::new(),
        action,
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).into()).collect()
}

fn reject(text: &str) -> Action {
    Action::Reject(text.into())
}

fn facts<'a>(tags: &'a Tags) -> Facts<'a> {
    Facts {
        client: Some("192.0.2.1".parse().unwrap()),
        client_name: None,
        helo: Some("mail.example.org"),
        sender: None,
        recipient: None,
        tls: false,
        authenticated: false,
        tags,
    }
}

/// The rule that decides, and the tags given.
fn decided(rules: &Rules, stage: Stage, facts: &Facts<'_>) -> (Option<String>, Vec<String>) {
    let mut tags = facts.tags.clone();
    let decision = rules.decide(stage, facts, &mut tags);
    let rule = match decision {
        Decision::Pass => None,
        Decision::Accept { rule }
        | Decision::Discard { rule }
        | Decision::Reject { rule, .. }
        | Decision::Defer { rule, .. }
        | Decision::Route { rule, .. } => Some(rule.to_string()),
    };
    (rule, tags.iter().map(str::to_owned).collect())
}

#[test]
fn the_first_rule_that_fits_decides() {
    let rules = Rules::new(vec![
        Rule {
            client: vec!["198.51.100.0/24".parse().unwrap()],
            ..rule("elsewhere", Stage::Helo, Action::Accept)
        },
        Rule {
            client: vec!["192.0.2.0/24".parse().unwrap()],
            ..rule("near", Stage::Helo, reject("no"))
        },
        rule("rest", Stage::Helo, Action::Accept),
    ])
    .unwrap();
    let tags = Tags::default();
    let near = rules.decide(Stage::Helo, &facts(&tags), &mut Tags::default());
    assert_eq!(
        near,
        Decision::Reject {
            rule: "near".into(),
            text: "no".into()
        }
    );
    let local = Facts {
        client: None,
        ..facts(&tags)
    };
    assert_eq!(decided(&rules, Stage::Helo, &local).0.unwrap(), "rest");
    assert_eq!(decided(&rules, Stage::Mail, &local).0, None);
    assert!(rules.is_empty_at(Stage::Mail) && !rules.is_empty_at(Stage::Helo));
}

#[test]
fn all_conditions_must_hold_and_of_a_list_one() {
    let rules = Rules::new(vec![Rule {
        client_name: strings(&["*.example.org", "unknown"]),
        helo: strings(&["mail.*"]),
        sender: strings(&["@example.org", "<>"]),
        tls: Some(true),
        authenticated: Some(false),
        ..rule("", Stage::Mail, Action::Discard)
    }])
    .unwrap();
    let tags = Tags::default();
    let (ann, null) = (
        ReversePath::Address("ann@example.org".parse().unwrap()),
        ReversePath::Null,
    );
    let fitting = Facts {
        sender: Some(&ann),
        tls: true,
        ..facts(&tags)
    };
    let fits = |facts: &Facts<'_>| decided(&rules, Stage::Mail, facts).0.is_some();
    assert_eq!(decided(&rules, Stage::Mail, &fitting).0.unwrap(), "#1");
    for (facts, expected) in [
        (
            Facts {
                sender: Some(&null),
                ..fitting
            },
            true,
        ),
        (
            Facts {
                client_name: Some("a.example.org"),
                ..fitting
            },
            true,
        ),
        (
            Facts {
                client_name: Some("a.example.net"),
                ..fitting
            },
            false,
        ),
        (
            Facts {
                helo: None,
                ..fitting
            },
            false,
        ),
        (
            Facts {
                helo: Some("pc"),
                ..fitting
            },
            false,
        ),
        (
            Facts {
                sender: None,
                ..fitting
            },
            false,
        ),
        (
            Facts {
                tls: false,
                ..fitting
            },
            false,
        ),
        (
            Facts {
                authenticated: true,
                ..fitting
            },
            false,
        ),
    ] {
        assert_eq!(fits(&facts), expected, "{facts:?}");
    }
}

#[test]
fn a_tag_goes_on_and_later_rules_see_it() {
    let rules = Rules::new(vec![
        rule("mark", Stage::Rcpt, Action::Tag("partner".into())),
        Rule {
            tagged: strings(&["spf-fail", "partner"]),
            recipient: strings(&["@here.test"]),
            ..rule(
                "partners",
                Stage::Rcpt,
                Action::Route("q@here.test".parse().unwrap()),
            )
        },
        rule("never", Stage::Rcpt, Action::Tag("late".into())),
    ])
    .unwrap();
    let tags: Tags = ["helo"].into_iter().collect();
    let recipient = ForwardPath::Address("bob@here.test".parse().unwrap());
    let facts = Facts {
        recipient: Some(&recipient),
        ..facts(&tags)
    };
    let (rule, given) = decided(&rules, Stage::Rcpt, &facts);
    assert_eq!(rule.unwrap(), "partners");
    assert_eq!(given, ["helo", "partner"]);
    let elsewhere = ForwardPath::Address("bob@there.test".parse().unwrap());
    let facts = Facts {
        recipient: Some(&elsewhere),
        ..facts
    };
    let (rule, given) = decided(&rules, Stage::Rcpt, &facts);
    assert_eq!((rule, given), (None, strings(&["helo", "late", "partner"])));
}

#[test]
fn a_tag_of_a_check_counts_as_one_of_a_rule() {
    let rules = Rules::new(vec![Rule {
        tagged: strings(&["dmarc-fail"]),
        ..rule("forged", Stage::Data, Action::Defer("later".into()))
    }])
    .unwrap();
    let tags: Tags = [crate::tag::DMARC_FAIL].into_iter().collect();
    let decision = rules.decide(Stage::Data, &facts(&tags), &mut Tags::default());
    assert!(matches!(decision, Decision::Defer { .. }));
}

#[test]
fn explaining_says_for_each_rule_why() {
    let rules = Rules::new(vec![
        rule("mark", Stage::Mail, Action::Tag("seen".into())),
        Rule {
            client: vec!["198.51.100.0/24".parse().unwrap(), "::1".parse().unwrap()],
            ..rule("far", Stage::Mail, Action::Accept)
        },
        Rule {
            tagged: strings(&["seen"]),
            sender: strings(&["@example.org"]),
            ..rule("ours", Stage::Mail, reject("no"))
        },
        Rule {
            tls: Some(true),
            ..rule("plain", Stage::Mail, Action::Accept)
        },
        rule("late", Stage::Mail, Action::Tag("late".into())),
    ])
    .unwrap();
    let ann = ReversePath::Address("ann@example.org".parse().unwrap());
    let given = Tags::default();
    let facts = Facts {
        sender: Some(&ann),
        ..facts(&given)
    };
    let mut tags = Tags::default();
    let lines: Vec<String> = rules
        .explain(Stage::Mail, &facts, &mut tags)
        .into_iter()
        .map(|line| {
            format!(
                "{} {} {} {}: {}",
                line.rule, line.fits, line.decides, line.action, line.because
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            "mark true false tag \"seen\": it has no conditions",
            "far false false accept: the client 192.0.2.1 is not in 198.51.100.0/24, ::1",
            "ours true true reject \"no\": it is tagged \"seen\", and the sender <ann@example.org> fits \"@example.org\"",
            "plain false false accept: the client does not use TLS",
            "late true false tag \"late\": it has no conditions",
        ]
    );
    assert_eq!(tags.iter().collect::<Vec<_>>(), ["seen"]);
}

#[test]
fn explaining_agrees_with_deciding() {
    let rules = Rules::new(vec![
        Rule {
            client_name: strings(&["unknown"]),
            ..rule("nameless", Stage::Connect, Action::Tag("nameless".into()))
        },
        Rule {
            tagged: strings(&["nameless"]),
            ..rule("no", Stage::Connect, reject("no"))
        },
        rule("yes", Stage::Connect, Action::Accept),
    ])
    .unwrap();
    assert!(rules.wants_client_name_at(Stage::Connect));
    let tags = Tags::default();
    for name in [None, Some("a.test")] {
        let facts = Facts {
            client_name: name,
            ..facts(&tags)
        };
        let explained = rules.explain(Stage::Connect, &facts, &mut Tags::default());
        let decides = explained.into_iter().find(|line| line.decides);
        assert_eq!(
            decides.map(|line| line.rule),
            decided(&rules, Stage::Connect, &facts).0
        );
    }
}

#[test]
fn a_wrong_rule_is_named_with_its_pattern() {
    let at = |stage| rule("r", stage, Action::Accept);
    for (rule, error) in [
        (
            Rule {
                sender: strings(&["@a.test", "nonsense"]),
                ..at(Stage::Mail)
            },
            "access rule \"r\": \"nonsense\" is not a pattern of sender",
        ),
        (
            Rule {
                recipient: strings(&["<>"]),
                ..at(Stage::Rcpt)
            },
            "access rule \"r\": \"<>\" is not a pattern of recipient",
        ),
        (
            Rule {
                recipient: strings(&["@a.test"]),
                ..at(Stage::Mail)
            },
            "access rule \"r\": recipient is not known at the stage \"mail\"",
        ),
        (
            Rule {
                recipient: strings(&["@a.test"]),
                ..at(Stage::Data)
            },
            "access rule \"r\": recipient is not known at the stage \"data\"",
        ),
        (
            Rule {
                sender: strings(&["@a.test"]),
                ..at(Stage::Helo)
            },
            "access rule \"r\": sender is not known at the stage \"helo\"",
        ),
        (
            Rule {
                helo: strings(&["a"]),
                ..at(Stage::Connect)
            },
            "access rule \"r\": helo is not known at the stage \"connect\"",
        ),
        (
            Rule {
                tagged: strings(&["a b"]),
                ..at(Stage::Connect)
            },
            "access rule \"r\": \"a b\" is not a pattern of tagged",
        ),
        (
            Rule {
                action: Action::Tag("a\r\nb".into()),
                ..at(Stage::Connect)
            },
            "access rule \"r\": \"a\r\nb\" cannot be a tag",
        ),
        (
            Rule {
                action: reject("a\r\nb"),
                ..at(Stage::Connect)
            },
            "access rule \"r\": its text holds control characters",
        ),
    ] {
        assert_eq!(Rules::new(vec![rule]).unwrap_err().to_string(), error);
    }
}
