//! The published suite for RFC 7208, over a real name server.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use nightmail_dns::{Dns, DnsOptions};
use nightmail_testbed::corpus;
use nightmail_testbed::dns::{NameServer, RecordType};
use yaml_rust2::{Yaml, YamlLoader};

use super::check;

const TYPES: [RecordType; 5] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::MX,
    RecordType::TXT,
    RecordType::PTR,
];

/// The suite writes octets as the characters of the same numbers.
fn octets(text: &str) -> Vec<u8> {
    text.chars().map(|c| c as u8).collect()
}

fn text(value: &Yaml) -> String {
    match value {
        Yaml::String(text) | Yaml::Real(text) => text.clone(),
        Yaml::Integer(number) => number.to_string(),
        Yaml::Null => String::new(),
        other => panic!("no text: {other:?}"),
    }
}

fn address_of(reverse: &str) -> IpAddr {
    if let Some(labels) = reverse.strip_suffix(".in-addr.arpa") {
        let labels: Vec<&str> = labels.split('.').rev().collect();
        return labels.join(".").parse().unwrap();
    }
    let labels = reverse.strip_suffix(".ip6.arpa").unwrap();
    let digits: String = labels.split('.').rev().collect();
    Ipv6Addr::from(u128::from_str_radix(&digits, 16).unwrap()).into()
}

fn add_texts(server: &NameServer, name: &str, value: &Yaml) {
    let strings: Vec<Vec<u8>> = match value {
        Yaml::Array(strings) => strings.iter().map(|part| octets(&text(part))).collect(),
        Yaml::String(text) => octets(text).chunks(255).map(<[u8]>::to_vec).collect(),
        other => panic!("no TXT: {other:?}"),
    };
    let strings: Vec<&[u8]> = strings.iter().map(Vec::as_slice).collect();
    if !strings.is_empty() {
        server.txt_strings(name, &strings);
    }
}

fn add(server: &NameServer, name: &str, kind: &str, value: &Yaml) -> Option<RecordType> {
    match kind {
        "A" => {
            server.a(name, text(value).parse().unwrap());
            Some(RecordType::A)
        }
        "AAAA" => {
            server.aaaa(name, text(value).parse().unwrap());
            Some(RecordType::AAAA)
        }
        "MX" => {
            let preference = value[0].as_i64().unwrap().try_into().unwrap();
            server.mx(name, preference, &text(&value[1]));
            Some(RecordType::MX)
        }
        "PTR" => {
            server.ptr(address_of(name), &text(value));
            Some(RecordType::PTR)
        }
        "CNAME" => {
            server.cname(name, &text(value));
            None
        }
        "TXT" if value.as_str() == Some("NONE") => None,
        "TXT" => {
            add_texts(server, name, value);
            Some(RecordType::TXT)
        }
        other => panic!("a record of type {other}"),
    }
}

fn serve(zone: &Yaml) -> NameServer {
    let server = NameServer::start();
    for (name, records) in zone.as_hash().unwrap() {
        let name = text(name);
        let records: Vec<&Yaml> = records.as_vec().unwrap().iter().collect();
        server.empty(&name);
        let has_text = records.iter().any(|record| !record["TXT"].is_badvalue());
        let mut answered = Vec::new();
        for record in &records {
            for (kind, value) in record.as_hash().into_iter().flatten() {
                match text(kind).as_str() {
                    "SPF" if has_text => {}
                    "SPF" => answered.extend(add(&server, &name, "TXT", value)),
                    kind => answered.extend(add(&server, &name, kind, value)),
                }
            }
        }
        if records
            .iter()
            .any(|record| record.as_str() == Some("TIMEOUT"))
        {
            for kind in TYPES.iter().filter(|kind| !answered.contains(kind)) {
                server.timeout_of(&name, *kind);
            }
        }
    }
    server
}

/// What did not come out as the suite says.
async fn run(name: &str, test: &Yaml, dns: &Dns, default_explanation: &str) -> Option<String> {
    let helo = text(&test["helo"]);
    let sender = text(&test["mailfrom"]);
    let (local_part, domain) = match sender.as_str() {
        "" => ("", helo.as_str()),
        sender => sender.rsplit_once('@').unwrap_or(("", sender)),
    };
    let client = text(&test["host"]).parse().unwrap();
    let (result, explanation) =
        check(dns, client, &helo, (local_part, domain), "receiver.test", 7).await;
    let wanted: Vec<String> = match &test["result"] {
        Yaml::Array(any) => any.iter().map(text).collect(),
        one => vec![text(one)],
    };
    if !wanted.iter().any(|wanted| wanted == result.as_str()) {
        return Some(format!("{name}: {result:?}, not {wanted:?}"));
    }
    let wanted = test["explanation"].as_str()?;
    let shown = explanation.unwrap_or_else(|| default_explanation.to_owned());
    (shown != wanted).then(|| format!("{name}: explains {shown:?}, not {wanted:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_suite_comes_out() {
    let Some(suite) = corpus::text("spf/rfc7208-tests.yml") else {
        return;
    };
    let mut failed = Vec::new();
    let mut count = 0;
    for scenario in YamlLoader::load_from_str(&suite).unwrap() {
        let server = serve(&scenario["zonedata"]);
        let dns = Dns::new(&DnsOptions {
            name_servers: vec![server.address()],
            timeout: Duration::from_millis(500),
            attempts: 1,
            ..DnsOptions::default()
        });
        let dns = dns.unwrap();
        for (name, test) in scenario["tests"].as_hash().unwrap() {
            count += 1;
            failed.extend(run(&text(name), test, &dns, "DEFAULT").await);
        }
    }
    assert!(count > 200, "only {count} tests");
    assert!(failed.is_empty(), "of {count}:\n{}", failed.join("\n"));
}
