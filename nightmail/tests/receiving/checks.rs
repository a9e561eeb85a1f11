//! What DNS says of a client and its sender: names, lists, domains; and greylisting.

use std::time::Duration;

use super::common::message;
use super::{World, refused};

#[test]
fn a_client_needs_a_name_that_leads_back() {
    let world = World::new(&[("reverse_dns", "\"reject\"")], &[], "");
    let good = [192, 0, 2, 7].into();
    world
        .dns
        .ptr(good, "mail.far.test")
        .a("mail.far.test", [192, 0, 2, 7].into())
        .ptr([192, 0, 2, 8].into(), "liar.test")
        .a("liar.test", [192, 0, 2, 99].into());
    world.dns.timeout("9.2.0.192.in-addr.arpa");
    for nameless in ["192.0.2.8", "192.0.2.10"] {
        let (reply, _) = world.arrive(&format!("ADDR={nameless}"));
        refused(&reply, 554, "no name that leads back");
    }
    let mut smtp = world.client("192.0.2.7");
    assert_eq!(world.send(&mut smtp, "a@far.test", "named").code, 250);
    let named = world.only("alice", "named");
    assert!(named.contains("(mail.far.test [192.0.2.7])"), "{named}");
    let mut smtp = world.client("192.0.2.9");
    assert_eq!(world.send(&mut smtp, "a@far.test", "unknown").code, 250);
}

#[test]
fn a_helo_name_must_be_the_clients() {
    let world = World::new(&[("helo", "\"reject\"")], &[], "");
    let mut smtp = world.client("192.0.2.7");
    for (name, says) in [
        ("mx.example.test", "ours"),
        ("localhost", "not a full host name"),
        ("[192.0.2.99]", "not your address"),
    ] {
        refused(&smtp.say(&format!("EHLO {name}")).unwrap(), 550, says);
    }
    assert_eq!(smtp.say("EHLO [192.0.2.7]").unwrap().code, 250);
}

#[test]
fn a_senders_domain_must_take_replies() {
    let world = World::new(&[("sender_domain", "\"reject\"")], &[], "");
    world
        .dns
        .mx("good.test", 10, "mx.good.test")
        .mx("never.test", 0, "");
    world.dns.host("plain.test", [192, 0, 2, 1].into());
    world.dns.servfail("broken.test");
    let mut smtp = world.client("192.0.2.7");
    for (sender, code, says) in [
        ("a@no.such.test", 550, "5.1.8"),
        ("a@never.test", 550, "takes no mail"),
        ("a@broken.test", 451, "4.4.3"),
    ] {
        refused(
            &smtp.say(&format!("MAIL FROM:<{sender}>")).unwrap(),
            code,
            says,
        );
    }
    for sender in ["a@good.test", "a@plain.test", "a@[192.0.2.7]", ""] {
        assert_eq!(
            smtp.say(&format!("MAIL FROM:<{sender}>")).unwrap().code,
            250,
            "{sender}"
        );
        smtp.say("RSET").unwrap();
    }
}

#[test]
fn points_of_lists_add_up() {
    let lists = "[[dns_list]]\nzone = \"bad.test\"\nweight = 10\n\
                 [[dns_list]]\nzone = \"good.test\"\nweight = -5\n\
                 [[dns_list]]\nzone = \"names.test\"\nof = \"sender\"\nweight = 4\n\
                 [[access]]\nstage = \"rcpt\"\ntagged = [\"dns-list\"]\nrecipient = [\"bob@example.test\"]\naction = \"defer\"\ntext = \"Suspect\"\n";
    let world = World::new(&[], &[], lists);
    for client in [7, 8] {
        let name = format!("{client}.2.0.192.bad.test");
        world
            .dns
            .host(&name, [127, 0, 0, 2].into())
            .txt(&name, "Seen spamming");
    }
    world.dns.host("8.2.0.192.good.test", [127, 0, 0, 1].into());
    world
        .dns
        .host("spam.test.names.test", [127, 0, 0, 2].into());
    let mut smtp = world.client("192.0.2.7");
    let reply = world.send(&mut smtp, "a@far.test", "listed");
    refused(&reply, 550, "Listed by bad.test: Seen spamming");
    // A recipient that does not exist costs no more than that.
    smtp.say("MAIL FROM:<a@far.test>").unwrap();
    refused(
        &smtp.say("RCPT TO:<nobody@example.test>").unwrap(),
        550,
        "5.1.1",
    );
    let mut smtp = world.client("192.0.2.8");
    assert_eq!(world.send(&mut smtp, "a@far.test", "mended").code, 250);
    smtp.say("MAIL FROM:<a@spam.test>").unwrap();
    refused(
        &smtp.say("RCPT TO:<bob@example.test>").unwrap(),
        450,
        "Suspect",
    );
    let mut clean = world.client("192.0.2.9");
    assert_eq!(world.send(&mut clean, "a@far.test", "clean").code, 250);
}

#[test]
fn a_new_client_comes_back_and_is_let_in() {
    let receiving = [("greylist", "\"all\""), ("greylist_delay", "\"1s\"")];
    let mut world = World::new(&receiving, &[], "");
    let mut smtp = world.client("192.0.2.7");
    refused(
        &world.send(&mut smtp, "a@far.test", "grey"),
        450,
        "Greylisted, try again in 1 s",
    );
    refused(
        &world.send(&mut smtp, "a@far.test", "grey"),
        450,
        "try again in",
    );
    // What is remembered outlives the process.
    world.site.stop();
    world.site.start();
    std::thread::sleep(Duration::from_millis(1100));
    let mut smtp = world.client("192.0.2.7");
    assert_eq!(world.send(&mut smtp, "a@far.test", "grey").code, 250);
    assert_eq!(world.send(&mut smtp, "a@far.test", "known").code, 250);
    // A submission is nobody's to greylist.
    let mut smtp = world.submission();
    let reply = smtp.send(
        "alice@example.test",
        &["bob@example.test"],
        &message("own", "x"),
    );
    assert_eq!(reply.unwrap().code, 250);
}

#[test]
fn only_the_suspect_are_greylisted() {
    let receiving = [("greylist", "\"suspect\""), ("helo", "\"tag\"")];
    let world = World::new(&receiving, &[], "");
    let mut smtp = world.client("192.0.2.7");
    assert_eq!(world.send(&mut smtp, "a@far.test", "sound").code, 250);
    assert_eq!(smtp.say("EHLO mx.example.test").unwrap().code, 250);
    refused(
        &world.send(&mut smtp, "a@far.test", "odd"),
        450,
        "Greylisted",
    );
}
