//! getmail, which fetches mail from elsewhere and may delete what it has.

use super::common::tools::{has, private_file, run};
use super::common::{Service, Site};
use super::{fill, inbox};

#[test]
fn getmail_retrieves_and_deletes() {
    if !has("getmail") {
        return;
    }
    let mut site = Site::started("");
    for (retriever, service, extra) in [
        ("SimplePOP3Retriever", Service::Pop3, ""),
        ("SimplePOP3SSLRetriever", Service::Pop3s, ""),
        (
            "SimpleIMAPRetriever",
            Service::Imap,
            "mailboxes = (\"INBOX\",)\n",
        ),
        (
            "SimpleIMAPSSLRetriever",
            Service::Imaps,
            "mailboxes = (\"INBOX\",)\n",
        ),
    ] {
        let sent = fill(&site, retriever, 3);
        let home = site.dir().join(retriever);
        std::fs::create_dir_all(home.join("mail")).unwrap();
        let (host, port, mail) = (site.host(), site.port(service), home.join("mail"));
        for delete in [false, true] {
            let config = format!(
                "[retriever]\ntype = {retriever}\nserver = {host}\nport = {port}\nusername = alice\npassword = demo\n{extra}\
                 [destination]\ntype = MDA_external\npath = /bin/sh\nallow_root_commands = true\n\
                 arguments = (\"-c\", \"cat > $(mktemp {}/XXXXXX)\")\nunixfrom = false\n\
                 [options]\ndelete = {delete}\nread_all = false\nreceived = false\ndelivered_to = false\n",
                mail.display()
            );
            let file = private_file(&home.join("getmailrc"), &config);
            let paths = [
                format!("--getmaildir={}", home.display()),
                format!("--rcfile={}", file.display()),
            ];
            run("getmail", &[&paths[0], &paths[1]]).ok();
            let files = std::fs::read_dir(&mail).unwrap().map(Result::unwrap);
            let texts: Vec<String> = files
                .map(|entry| std::fs::read_to_string(entry.path()).unwrap())
                .collect();
            assert_eq!(texts.len(), 3, "{retriever}: each message once");
            for sent in &sent {
                // getmail may add fields of its own, at the end of the header.
                let unix = String::from_utf8_lossy(sent).replace("\r\n", "\n");
                let (header, body) = unix.split_once("\n\n").unwrap();
                let is_it = |text: &&String| text.contains(header) && text.ends_with(body);
                assert_eq!(texts.iter().filter(is_it).count(), 1, "{retriever}");
            }
            assert_eq!(
                inbox(&site, "alice").len(),
                if delete { 0 } else { 3 },
                "{retriever}"
            );
        }
    }
    site.stop();
}
