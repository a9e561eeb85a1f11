//! UTF8=ACCEPT: names and headers as UTF-8.

use super::harness::Server;

#[test]
fn a_name_has_two_forms_on_the_wire() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("CREATE Entw&APw-rfe");
    assert_eq!(
        client.texts("ENABLE UTF8=ACCEPT"),
        ["* ENABLED UTF8=ACCEPT"]
    );
    let listed = client.texts("LIST \"\" \"Entwü*\"");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(listed[0].ends_with("\"/\" \"Entwürfe\""), "{listed:?}");
    let status = client.texts("STATUS \"Entwürfe\" (MESSAGES)");
    assert_eq!(status, ["* STATUS \"Entwürfe\" (MESSAGES 0)"]);
    client.ok("CREATE \"日本語/&-\"");
    client.ok("SELECT \"日本語/&-\"");
    let mut other = server.client();
    let listed = other.texts("LIST \"\" \"&ZeVnLIqe-/%\"");
    assert!(
        listed[0].ends_with("\"/\" &ZeVnLIqe-/&-&--") || listed[0].contains("&ZeVnLIqe-/&--"),
        "{listed:?}"
    );
}

#[test]
fn a_message_with_utf8_in_its_header_is_kept_as_it_is() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("ENABLE UTF8=ACCEPT");
    let message = "Subject: Grüße\r\nFrom: jürgen@bücher.test\r\n\r\nhallo\r\n";
    let command = format!(
        "APPEND INBOX (\\Seen) UTF8 (~{{{}+}}\r\n{message})",
        message.len()
    );
    let answer = client.tagged(&command);
    assert!(answer.starts_with("OK [APPENDUID "), "{answer}");
    client.ok("SELECT INBOX");
    assert_eq!(client.section(1, ""), message.as_bytes());
    let envelope = client.ok("FETCH 1 ENVELOPE");
    let whole: Vec<u8> = envelope[0].literals.concat();
    let shown = format!("{}{}", envelope[0].text, String::from_utf8_lossy(&whole));
    assert!(shown.contains("Grüße"), "{shown}");
}
