//! Access rules: each stage and each action.

use super::{World, refused};

fn rule(stage: &str, condition: &str, action: &str) -> String {
    format!(
        "[[access]]\nname = \"{stage}-rule\"\nstage = \"{stage}\"\n{condition}\naction = {action}\n"
    )
}

#[test]
fn each_stage_refuses_in_its_way() {
    let rules = [
        rule(
            "connect",
            "client = [\"192.0.2.1\"]",
            "\"reject\"\ntext = \"Not you\"",
        ),
        rule(
            "connect",
            "client = [\"192.0.2.2\"]",
            "\"defer\"\ntext = \"Not now\"",
        ),
        rule(
            "helo",
            "helo = [\"bad.*\"]",
            "\"reject\"\ntext = \"Bad name\"",
        ),
        rule(
            "mail",
            "sender = [\"@spam.test\"]",
            "\"reject\"\ntext = \"No spam\"",
        ),
        rule(
            "rcpt",
            "recipient = [\"bob@example.test\"]",
            "\"defer\"\ntext = \"Bob sleeps\"",
        ),
        rule(
            "data",
            "sender = [\"late@far.test\"]",
            "\"reject\"\ntext = \"Too late\"",
        ),
    ];
    let world = World::new(&[], &[], &rules.concat());
    let (reply, _) = world.arrive("ADDR=192.0.2.1");
    refused(&reply, 554, "5.7.1 Not you");
    let (reply, _) = world.arrive("ADDR=192.0.2.2");
    refused(&reply, 421, "4.7.0 Not now");
    let mut smtp = world.client("192.0.2.3");
    refused(&smtp.say("EHLO bad.name.test").unwrap(), 550, "Bad name");
    assert_eq!(smtp.say("EHLO good.test").unwrap().code, 250);
    refused(
        &smtp.say("MAIL FROM:<a@spam.test>").unwrap(),
        550,
        "5.7.1 No spam",
    );
    assert_eq!(smtp.say("MAIL FROM:<late@far.test>").unwrap().code, 250);
    refused(
        &smtp.say("RCPT TO:<bob@example.test>").unwrap(),
        450,
        "Bob sleeps",
    );
    smtp.say("RSET").unwrap();
    refused(
        &world.send(&mut smtp, "late@far.test", "late"),
        554,
        "Too late",
    );
    assert_eq!(world.send(&mut smtp, "good@far.test", "good").code, 250);
    assert_eq!(world.inbox("alice").len(), 1);
    assert!(
        world.site.log().contains("mail-rule"),
        "{}",
        world.site.log()
    );
}

#[test]
fn mail_is_discarded_routed_and_tagged() {
    let rules = [
        rule("mail", "sender = [\"gone@far.test\"]", "\"discard\""),
        rule(
            "mail",
            "sender = [\"moved@far.test\"]",
            "\"route\"\nroute = \"bob@example.test\"",
        ),
        rule(
            "connect",
            "client = [\"192.0.2.0/24\"]",
            "\"tag\"\ntag = \"partner\"",
        ),
        rule(
            "rcpt",
            "tagged = [\"partner\"]\nrecipient = [\"trap@example.test\"]",
            "\"discard\"",
        ),
    ];
    let world = World::new(&[], &[], &rules.concat());
    let mut smtp = world.client("192.0.2.3");
    assert_eq!(world.send(&mut smtp, "gone@far.test", "gone").code, 250);
    assert_eq!(world.send(&mut smtp, "moved@far.test", "moved").code, 250);
    assert_eq!(world.send(&mut smtp, "kept@far.test", "kept").code, 250);
    let forged = b"Authentication-Results: MX.example.test; x-tags=set policy.tags=\"friend\"\r\nSubject: trap\r\n\r\nx\r\n";
    let to = ["trap@example.test", "bob@example.test"];
    assert_eq!(smtp.send("a@far.test", &to, forged).unwrap().code, 250);
    assert_eq!(world.inbox("alice").len(), 1);
    let kept = world.only("alice", "kept");
    assert!(kept.contains("policy.tags=\"partner\""), "{kept}");
    assert!(
        world
            .only("bob", "moved")
            .contains("Delivered-To: bob@example.test\r\n")
    );
    let trapped = world.only("bob", "trap");
    assert!(!trapped.contains("friend"), "{trapped}");
}

#[test]
fn what_is_thrown_away_is_not_judged_first() {
    let rules = rule("connect", "client = [\"192.0.2.9\"]", "\"discard\"");
    let world = World::new(&[], &[("dmarc", "\"reject\"")], &rules);
    world.dns.txt("_dmarc.bank.test", "v=DMARC1; p=reject");
    let forged = b"From: a@bank.test\r\nSubject: forged\r\n\r\nx\r\n";
    for (ip, code) in [("192.0.2.8", 550), ("192.0.2.9", 250)] {
        let mut smtp = world.client(ip);
        let reply = smtp.send("a@far.test", &["alice@example.test"], forged);
        assert_eq!(reply.unwrap().code, code, "{ip}");
    }
    assert!(world.inbox("alice").is_empty());
}

#[test]
fn an_accepted_client_passes_the_checks_that_follow() {
    let rules = rule("connect", "client = [\"192.0.2.9\"]", "\"accept\"");
    let world = World::new(&[("reverse_dns", "\"reject\"")], &[], &rules);
    let (reply, _) = world.arrive("ADDR=192.0.2.8");
    refused(&reply, 554, "no name");
    let mut smtp = world.client("192.0.2.9");
    assert_eq!(world.send(&mut smtp, "a@far.test", "accepted").code, 250);
}

#[test]
fn rules_are_not_for_those_who_have_logged_in_unless_they_say_so() {
    let rules = [
        rule(
            "mail",
            "sender = [\"@example.test\"]",
            "\"reject\"\ntext = \"Ours are inside\"",
        ),
        rule(
            "mail",
            "authenticated = true\nsender = [\"carol@example.test\"]",
            "\"reject\"\ntext = \"Not carol\"",
        ),
    ];
    let world = World::new(
        &[],
        &[],
        &format!("{}[submission]\nsender_owned = false\n", rules.concat()),
    );
    let mut smtp = world.client("192.0.2.9");
    refused(
        &smtp.say("MAIL FROM:<alice@example.test>").unwrap(),
        550,
        "Ours are inside",
    );
    let mut smtp = world.submission();
    refused(
        &smtp.say("MAIL FROM:<carol@example.test>").unwrap(),
        550,
        "Not carol",
    );
    assert_eq!(
        smtp.say("MAIL FROM:<alice@example.test>").unwrap().code,
        250
    );
}

#[test]
fn trusted_clients_relay_and_pass_every_check() {
    let receiving = [
        ("trusted", "[\"192.0.2.0/28\"]"),
        ("reverse_dns", "\"reject\""),
        ("sender_domain", "\"reject\""),
    ];
    let world = World::new(&receiving, &[], "");
    let mut smtp = world.client("192.0.2.1");
    assert_eq!(smtp.say("MAIL FROM:<a@no.such.test>").unwrap().code, 250);
    assert_eq!(smtp.say("RCPT TO:<b@elsewhere.test>").unwrap().code, 250);
    let (reply, _) = world.arrive("ADDR=192.0.2.16");
    refused(&reply, 554, "no name");
}

#[test]
fn where_a_buffer_host_is_named_nobody_else_hands_in_mail() {
    let settings = [
        ("only_from", "[\"192.0.2.0/28\"]"),
        ("trusted", "[\"198.51.100.1\"]"),
        ("reverse_dns", "\"reject\""),
    ];
    let world = World::new(&settings, &[], "");
    let ask = |ip: &str, to: &str| {
        let mut smtp = world.client(ip);
        assert_eq!(smtp.say("MAIL FROM:<a@far.test>").unwrap().code, 250);
        smtp.say(&format!("RCPT TO:<{to}>")).unwrap()
    };
    // The buffer host has no name, but that is not for us to judge.
    assert_eq!(ask("192.0.2.7", "alice@example.test").code, 250);
    assert_eq!(ask("198.51.100.1", "alice@example.test").code, 250);
    refused(&ask("192.0.2.7", "b@remote.test"), 550, "5.7.1");
}

#[test]
fn who_comes_past_the_buffer_host_reaches_the_postmaster_only() {
    let settings = [("only_from", "[\"192.0.2.0/28\"]")];
    let world = World::new(&settings, &[], "");
    let mut smtp = world.client("203.0.113.9");
    assert_eq!(smtp.say("MAIL FROM:<a@far.test>").unwrap().code, 250);
    for to in ["alice@example.test", "nobody@example.test"] {
        let reply = smtp.say(&format!("RCPT TO:<{to}>")).unwrap();
        refused(&reply, 550, "5.7.1");
        assert!(reply.text.contains("MX"), "{reply:?}");
    }
    assert_eq!(smtp.say("RCPT TO:<postmaster>").unwrap().code, 250);
}
