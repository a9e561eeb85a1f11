//! What one node takes or changes, the others show.

use super::common::cluster::Plan;
use super::common::{Imap, Pop3, Service, eventually, message};
use super::{deliver, done, hear, idle, subjects, two};

#[test]
fn an_idle_client_hears_what_happens_on_another_node() {
    let Some(mut cluster) = two(Plan::default()) else {
        return;
    };
    let mut waiting = cluster.nodes[1].imap("alice", "INBOX");
    let tag = idle(&mut waiting);
    deliver(&cluster.nodes[0], "alice", "heard");
    hear(&mut waiting, &["* 1 EXISTS"]);

    let mut acting = cluster.nodes[0].imap("alice", "INBOX");
    acting.say("STORE 1 +FLAGS (\\Flagged $Hot)").unwrap().ok();
    hear(&mut waiting, &["* 1 FETCH", "\\Flagged", "$Hot"]);
    acting.say("STORE 1 +FLAGS (\\Deleted)").unwrap().ok();
    acting.say("EXPUNGE").unwrap().ok();
    hear(&mut waiting, &["* 1 EXPUNGE"]);
    done(&mut waiting, &tag);

    acting.say("CREATE Made").unwrap().ok();
    let listed = waiting.say("LIST \"\" Made").unwrap().ok();
    assert_eq!(listed.with("Made").len(), 1, "{listed:?}");
    let sent = message("appended", "body");
    acting.append("Made", "\\Seen", &sent).unwrap().ok();
    let status = waiting.say("STATUS Made (MESSAGES UNSEEN)").unwrap().ok();
    assert_eq!(status.with("MESSAGES 1").len(), 1, "{status:?}");
    cluster.check();
    cluster.stop();
}

#[test]
fn flags_and_removals_are_seen_by_an_open_session_on_another_node() {
    let Some(mut cluster) = two(Plan::default()) else {
        return;
    };
    for subject in ["one", "two", "three"] {
        deliver(&cluster.nodes[0], "alice", subject);
    }
    let mut here = cluster.nodes[0].imap("alice", "INBOX");
    let mut there = cluster.nodes[1].imap("alice", "INBOX");
    here.say("STORE 2 +FLAGS.SILENT (\\Answered)").unwrap().ok();
    here.say("STORE 1 +FLAGS.SILENT (\\Deleted)").unwrap().ok();
    here.say("UID EXPUNGE 1").unwrap().ok();
    // Two sessions change one message: neither change is lost.
    eventually("the other session is told", || {
        let news = there.say("NOOP").unwrap().ok();
        (!news.with("EXPUNGE").is_empty()).then_some(())
    });
    there.say("STORE 1 +FLAGS.SILENT ($There)").unwrap().ok();
    let mut flags = cluster.nodes[0].imap("alice", "INBOX");
    let fetched = flags.say("FETCH 1 (FLAGS)").unwrap().ok();
    let shown = &fetched.with("* 1 FETCH")[0].text;
    for flag in ["\\Answered", "$There"] {
        assert!(shown.contains(flag), "{shown}");
    }
    assert_eq!(subjects(&cluster.nodes[0], "alice"), ["two", "three"]);
    assert_eq!(subjects(&cluster.nodes[1], "alice"), ["two", "three"]);
    cluster.check();
    cluster.stop();
}

#[test]
fn a_change_of_the_directory_counts_on_every_node() {
    let Some(mut cluster) = two(Plan::default()) else {
        return;
    };
    let rcpt = |user: &str| {
        let mut smtp = cluster.nodes[1].smtp();
        smtp.say("MAIL FROM:<s@far.test>").unwrap();
        smtp.say(&format!("RCPT TO:<{user}@example.test>")).unwrap()
    };
    // The other node has learned that there is nobody of this name.
    assert_eq!(rcpt("carol").code, 550);
    cluster.nodes[0].site.add_account("carol");
    assert_eq!(rcpt("carol").code, 250, "an account that was added");
    cluster.nodes[1].imap("carol", "INBOX");
    let address = "carol@example.test";
    cluster.nodes[0].admin(&["account", "passwd", address, "--password", "other"]);
    let login = |password: &str| {
        let mut imap = Imap::connect(cluster.nodes[1].address(Service::Imap)).unwrap();
        imap.say(&format!("LOGIN carol {password}")).unwrap().status
    };
    assert!(
        login("demo").starts_with("NO"),
        "a password that was changed"
    );
    assert!(login("other").starts_with("OK"));
    cluster.nodes[0].admin(&["account", "remove", address]);
    assert_eq!(rcpt("carol").code, 550, "an account that was removed");
    assert!(login("other").starts_with("NO"));
    cluster.check();
    cluster.stop();
}

#[test]
fn a_message_taken_by_one_node_is_read_on_the_other_byte_for_byte() {
    byte_for_byte(Plan::default());
}

#[test]
fn messages_are_kept_in_the_database_where_there_is_no_object_store() {
    byte_for_byte(Plan {
        in_database: true,
        ..Plan::default()
    });
}

fn byte_for_byte(plan: Plan) {
    let in_database = plan.in_database;
    let Some(mut cluster) = two(plan) else {
        return;
    };
    let large = "0123456789abcdef .\n..\n".repeat(5 * 1024 * 1024 / 22);
    let sent = [
        message("small", ".\n..\n.leading dots\n"),
        message("large", &large),
        message("empty", ""),
    ];
    let mut smtp = cluster.nodes[0].smtp();
    for message in &sent {
        let reply = smtp
            .send("s@far.test", &["alice@example.test"], message)
            .unwrap();
        assert_eq!(reply.code, 250, "{reply:?}");
    }
    // The database takes messages of 16 MiB, an object store those of 50.
    let mut smtp = cluster.nodes[0].smtp();
    let announced = smtp.say("MAIL FROM:<s@far.test> SIZE=20000000").unwrap();
    assert_eq!(announced.code, if in_database { 552 } else { 250 });
    let bodies = cluster.nodes[1].imap("alice", "INBOX").bodies("").unwrap();
    assert_eq!(bodies.len(), sent.len());
    let mut pop3 = Pop3::login(cluster.nodes[1].address(Service::Pop3), "alice", "demo").unwrap();
    for (index, sent) in sent.iter().enumerate() {
        let by_imap = &bodies[index].1;
        assert!(by_imap.ends_with(sent), "message {index} by IMAP");
        let by_pop3 = pop3.read(&format!("RETR {}", index + 1)).unwrap();
        assert!(by_pop3 == *by_imap, "message {index} by POP3");
    }
    pop3.say("DELE 1").unwrap();
    pop3.say("QUIT").unwrap();
    assert_eq!(subjects(&cluster.nodes[0], "alice"), ["large", "empty"]);
    cluster.check();
    cluster.stop();
}

#[test]
fn a_maildrop_that_a_session_holds_is_held_on_every_node() {
    let Some(mut cluster) = two(Plan::default()) else {
        return;
    };
    deliver(&cluster.nodes[0], "alice", "held");
    let mut holder = cluster.nodes[0].pop3("alice");
    let addresses = [0, 1].map(|node| cluster.nodes[node].address(Service::Pop3));
    let login = |node: usize| Pop3::login(addresses[node], "alice", "demo");
    let refused = login(1).map(drop).unwrap_err().to_string();
    assert!(refused.contains("[IN-USE]"), "{refused}");
    assert_eq!(holder.count().unwrap(), 1);
    holder.say("QUIT").unwrap();
    let mut next = login(1).unwrap();
    assert_eq!(next.count().unwrap(), 1);
    // With the node its hold on the maildrop dies.
    cluster.nodes[1].kill();
    eventually("the maildrop is free again", || login(0).ok());
    cluster.nodes[1].start();
    cluster.check();
    cluster.stop();
}

#[test]
fn a_bus_that_is_away_delays_nothing_and_heals() {
    let plan = Plan {
        nats: true,
        ..Plan::default()
    };
    let Some(mut cluster) = two(plan) else {
        return;
    };
    let mut waiting = cluster.nodes[1].imap("alice", "INBOX");
    let tag = idle(&mut waiting);
    deliver(&cluster.nodes[0], "alice", "by the bus");
    hear(&mut waiting, &["* 1 EXISTS"]);

    cluster.nats.iter_mut().for_each(|nats| nats.stop());
    deliver(&cluster.nodes[0], "alice", "without the bus");
    assert_eq!(subjects(&cluster.nodes[1], "alice").len(), 2);
    assert!(
        cluster.nodes.iter().all(|node| node.is_ready()),
        "no bus is no reason to leave"
    );
    cluster.nats.iter_mut().for_each(|nats| nats.restart());
    hear(&mut waiting, &["* 2 EXISTS"]);

    deliver(&cluster.nodes[0], "alice", "by the bus again");
    hear(&mut waiting, &["* 3 EXISTS"]);
    done(&mut waiting, &tag);
    cluster.check();
    cluster.stop();
}
