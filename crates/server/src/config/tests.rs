//! Reading, refusing and printing configurations.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

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

#[test]
fn the_example_reads_back_as_the_defaults() {
    let example = Config::example();
    assert_eq!(Config::parse(&example).unwrap(), Config::default());
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(Config::parse("").unwrap(), Config::default());
}

#[test]
fn the_example_holds_with_every_sample_line_switched_on() {
    let text: String = Config::example()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let config = Config::parse(&text).unwrap();
    assert_eq!(
        config.smarthost.address.as_ref().map(ToString::to_string),
        Some("relay.example.org:587".to_owned())
    );
    assert!(config.tls.key.is_some() && config.admin.socket.is_some());
    assert_eq!(Config::parse(&config.to_toml()).unwrap(), config);
}

#[test]
fn every_key_is_explained_in_the_example() {
    let example = Config::example();
    let mut before = "";
    for line in example.lines() {
        if line.contains(" = ") && !line.starts_with("# ") {
            let alone =
                before.starts_with("# ") || before.starts_with("[[") || before.contains(" = ");
            assert!(alone, "{line:?} follows {before:?}");
        }
        before = line;
    }
}

#[test]
fn values_reach_their_fields() {
    let config = Config::parse(
        r#"
        [server]
        hostname = "MX.Example.org"
        data = "/srv/mail"
        drain_delay = "15s"
        [limits]
        message_size_max = "10MiB"
        [delivery]
        retry_waits = ["1s", "2m"]
        dns_servers = ["127.0.0.1:5353"]
        port = 2525
        [admin]
        http = "off"
        [[listener]]
        protocol = "lmtp"
        address = "unix:/run/lmtp.sock"
        [[listener]]
        protocol = "imap"
        address = "127.0.0.1:1143"
        tls = "none"
        plaintext_auth = true
        proxy_protocol_from = ["10.0.0.0/8", "2001:db8::5"]
        "#,
    )
    .unwrap();
    assert_eq!(config.server.hostname.as_str(), "mx.example.org");
    assert_eq!(config.limits.message_size_max.get(), 10 << 20);
    assert_eq!(
        config.delivery.retry_waits,
        [Duration::from_secs(1), Duration::from_secs(120)]
    );
    assert_eq!(
        config.delivery.dns_servers,
        ["127.0.0.1:5353".parse().unwrap()]
    );
    assert_eq!(config.admin.http, Switch::Off);
    assert_eq!(config.admin_socket(), Path::new("/srv/mail/admin.sock"));
    let modes: Vec<_> = config.listeners.iter().map(Listener::tls_mode).collect();
    assert_eq!(modes, [TlsMode::None, TlsMode::None]);
    assert!(config.listeners[1].plaintext_auth);
    assert_eq!(config.server.drain_delay, Duration::from_secs(15));
    let proxies = &config.listeners[1].proxy_protocol_from;
    let trusted = |text: &str| proxies.iter().any(|it| it.contains(text.parse().unwrap()));
    assert!(trusted("10.1.2.3") && trusted("2001:db8::5") && !trusted("127.0.0.1"));
    assert_eq!(config.listeners[0].proxy_protocol_from, []);
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_key() {
    assert_eq!(
        problems("[limits]\nrecipients_max = 200\nmesage_size_max = 5\n"),
        ["3: unknown key `mesage_size_max` in [limits]; did you mean `message_size_max`?"]
    );
    assert_eq!(
        problems("[limit]\n"),
        ["1: unknown table [limit]; did you mean `limits`?"]
    );
    let outside = problems("hostname = \"a.test\"\n");
    assert!(outside[0].starts_with("1: `hostname` stands outside any table"));
}

#[test]
fn a_wrong_type_says_what_is_expected() {
    let found = problems("[timeouts]\nlogin = 30\n\n[server]\nhostname = \"a b\"\n");
    assert_eq!(
        found,
        [
            "2: `login` in [timeouts]: expected a duration such as \"200ms\", \"30s\", \"5m\", \"4h\" or \"5d\", found the number 30",
            "5: `hostname` in [server]: expected a domain name such as \"mx.example.org\", found the text \"a b\"",
        ]
    );
}

#[test]
fn a_value_out_of_range_says_the_range() {
    assert_eq!(
        problems("[limits]\nrecipients_max = 10\n"),
        ["2: `recipients_max` in [limits]: expected a value from 100 to 100000, found 10"]
    );
}

#[test]
fn broken_toml_is_refused_with_its_line() {
    let found = problems("[limits]\nrecipients_max = \n");
    assert!(found[0].starts_with("2: not TOML"), "{found:?}");
    let found = problems("[limits]\nerrors_max = 1\nerrors_max = 2\n");
    assert!(found[0].starts_with("3: not TOML: duplicate"), "{found:?}");
}

#[test]
fn keys_that_need_each_other_are_checked() {
    for (text, says) in [
        ("[tls]\nkey = \"/k\"", "both `certificate` and `key`"),
        (
            "[smarthost]\nuser = \"u\"",
            "both `user` and `password_file`",
        ),
        ("[server]\nsubaddress_separator = \"ab\"", "one punctuation"),
        ("[delivery]\nretry_waits = [\"0s\"]", "longer than zero"),
        ("[log]\nlevel = \"a=b=c\"", "`level` in [log]"),
        ("[listener]\nprotocol = \"smtp\"", "two brackets"),
        (
            "[[listener]]\nprotocol = \"imap\"\naddress = \"unix:/a\"",
            "only \"lmtp\" and \"admin\"",
        ),
        (
            "[[listener]]\naddress = \"0.0.0.0:25\"\n[[listener]]\naddress = \"0.0.0.0:25\"",
            "two [[listener]]",
        ),
        (
            "[[listener]]\nprotocol = \"lmtp\"\naddress = \"unix:/a\"\nproxy_protocol_from = [\"10.0.0.0/8\"]",
            "leave `proxy_protocol_from` out",
        ),
        (
            "[[listener]]\nproxy_protocol_from = [\"10.0.0.1/8\"]",
            "with zeros behind its prefix",
        ),
        ("[server]\ndrain_delay = \"11m\"", "from \"0s\" to \"10m\""),
    ] {
        let found = problems(text);
        assert!(
            found.iter().any(|problem| problem.contains(says)),
            "{text}: {found:?}"
        );
    }
}

#[test]
fn all_problems_are_told_at_once_in_the_form_editors_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n.toml");
    std::fs::write(&path, "[store]\ncahce = 1\n[log]\nformat = \"xml\"\n").unwrap();
    let shown = Config::load(&path).unwrap_err().to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 2, "{shown}");
    assert!(lines[0].starts_with(&format!("{}:2: unknown key", path.display())));
    assert!(lines[1].ends_with("expected one of \"text\", \"json\", found the text \"xml\""));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text: String) {
        let _ = Config::parse(&text);
    }

    #[test]
    fn no_value_makes_the_parser_panic(
        table in prop::sample::select(TABLES),
        key in "[a-z_]{1,12}",
        value in "[ -~]{0,20}",
    ) {
        let _ = Config::parse(&format!("[{table}]\n{key} = {value}\n"));
    }
}

#[test]
fn a_table_that_lacks_what_it_needs_is_refused_with_its_line() {
    let text = r#"
        [[access]]
        action = "reject"
        [[access]]
        action = "tag"
        [[access]]
        action = "route"
        [[access]]
        tagged = ["two words"]
        [[access]]
        action = "discard"
        [[dns_list]]
        weight = 3
        [[certificate]]
        certificate = "/a.pem"
        [[token_issuer]]
        audience = "mail"
    "#;
    let found = problems(text);
    for expected in [
        "2: [[access]]: action = \"reject\" needs a `text`",
        "4: [[access]]: action = \"tag\" needs a `tag`",
        "6: [[access]]: action = \"route\" needs an address in `route`",
        "[[access]]: access rule \"#4\": \"two words\" is not a pattern of tagged",
        "12: [[dns_list]]: give its `zone`",
        "14: [[certificate]]: give both `certificate` and `key`",
        "16: [[token_issuer]]: give the `issuer`",
        "16: [[token_issuer]]: give the file with its public `keys`",
    ] {
        assert!(
            found.iter().any(|text| text.starts_with(expected)),
            "{expected} is not in {found:#?}"
        );
    }
    assert_eq!(found.len(), 8, "{found:#?}");
}

#[test]
fn keys_of_the_receiving_side_must_fit_each_other() {
    for (text, expected) in [
        (
            "[receiving]\ngreylist_delay = \"1h\"\ngreylist_window = \"1h\"",
            "longer than `greylist_delay`",
        ),
        (
            "[receiving]\ngreylist_lifetime = \"1h\"",
            "at least `greylist_window`",
        ),
        ("[authentication]\narc_seal = true", "needs an `arc_domain`"),
        (
            "[acme]\ndirectory = \"https://a.test\"\nchallenge = \"dns-01\"",
            "needs a `dns_hook`",
        ),
    ] {
        let found = problems(text);
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    }
}
