"""Python's imaplib against a server: python3 imap_client.py HOST IMAP IMAPS. The account alice is empty."""

import imaplib
import re
import socket
import ssl
import sys
import time

HOST = sys.argv[1]
IMAP, IMAPS = map(int, sys.argv[2:4])
LETTER = (
    b"From: Sender <sender@far.test>\r\nTo: alice@example.test\r\nSubject: py %d\r\n"
    b"Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhello number %d\r\n"
    b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--b--\r\n"
)


def letter(number):
    return LETTER % (number, number)


def any_certificate():
    """The server under test signed its own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ok(answer):
    kind, data = answer
    assert kind == "OK", answer
    return data


def bad(call, *arguments):
    """The command must be called bad."""
    try:
        answer = call(*arguments)
    except imaplib.IMAP4.error as error:
        assert "BAD" in str(error), error
    else:
        raise AssertionError(answer)


def numbers(data):
    return [int(number) for number in (data[0] or b"").split()]


def logins():
    client = imaplib.IMAP4(HOST, IMAP, timeout=60)
    try:
        client.login("alice", "wrong")
        raise AssertionError("a wrong password was taken")
    except imaplib.IMAP4.error as error:
        assert "AUTHENTICATIONFAILED" in str(error), error
    ok(client.starttls(any_certificate()))
    ok(client.login("alice", "demo"))
    client.logout()
    with imaplib.IMAP4_SSL(HOST, IMAPS, ssl_context=any_certificate(), timeout=60) as client:
        ok(client.authenticate("PLAIN", lambda _: b"\0alice@example.test\0demo"))
        assert client.state == "AUTH"


def mailboxes(client):
    for name in ("Box", "Box/Sub", '"a b"', "&ZeVnLIqe-"):
        ok(client.create(name))
    assert client.create("Box")[0] == "NO"
    ok(client.subscribe("Box"))
    assert any(b'"Box"' in line or line.endswith(b" Box") for line in ok(client.lsub()))
    ok(client.unsubscribe("Box"))
    listed = ok(client.list())
    for name in (b"INBOX", b"Box", b"Box/Sub", b"a b", b"&ZeVnLIqe-"):
        assert any(name in line for line in listed), (name, listed)
    assert len([line for line in ok(client.list("Box/", "%")) if line]) == 1
    ok(client.rename("Box", "Crate"))
    assert any(b"Crate/Sub" in line for line in ok(client.list()))
    assert client.select("Box")[0] == "NO"
    ok(client.delete("Crate/Sub"))
    assert client.delete("Nowhere")[0] == "NO"
    assert b"MESSAGES 0" in ok(client.status("Crate", "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN RECENT)"))[0]
    ok(client.namespace())


def fetching(client):
    when = imaplib.Time2Internaldate(time.time() - 86400)
    for number in range(1, 6):
        flags = "(\\Seen)" if number == 1 else "()"
        assert b"APPENDUID" in ok(client.append("INBOX", flags, when, letter(number)))[0]
    assert client.append("Nowhere", None, None, letter(1))[0] == "NO"
    assert ok(client.select("INBOX")) == [b"5"]
    got = ok(client.fetch("1:2", "(UID FLAGS RFC822.SIZE INTERNALDATE ENVELOPE BODYSTRUCTURE)"))
    assert len(got) == 2 and b"\\Seen" in got[0] and b"\\Seen" not in got[1], got
    assert b'"MIXED"' in got[0].upper() and b'"py 1"' in got[0]
    assert b"RFC822.SIZE %d" % len(letter(1)) in got[0]
    assert ok(client.fetch("2", "(BODY.PEEK[])"))[0][1] == letter(2)
    assert ok(client.fetch("2", "(BODY.PEEK[1])"))[0][1] == b"hello number 2"
    assert ok(client.fetch("2", "(BODY.PEEK[2])"))[0][1] == b"AAEC"
    assert b"base64" in ok(client.fetch("2", "(BODY.PEEK[2.MIME])"))[0][1]
    assert ok(client.fetch("2", "(BODY.PEEK[]<5.10>)"))[0][1] == letter(2)[5:15]
    header = ok(client.fetch("2", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))[0][1]
    assert header == b"Subject: py 2\r\n\r\n", header
    assert b"Subject" not in ok(client.fetch("2", "(BODY.PEEK[HEADER.FIELDS.NOT (Subject)])"))[0][1]
    assert b"\\Seen" not in ok(client.fetch("2", "(FLAGS)"))[0]
    text = ok(client.fetch("2", "(RFC822.TEXT)"))
    assert letter(2).endswith(text[0][1])
    assert b"\\Seen" in ok(client.fetch("2", "(FLAGS)"))[0]
    assert ok(client.fetch("3", "(RFC822.HEADER)"))[0][1] + text[0][1].replace(b"2\r\n--b\r\nC", b"3\r\n--b\r\nC") == letter(3)
    bad(client.fetch, "99", "(FLAGS)")
    bad(client.fetch, "1", "(NONSENSE)")
    return [int(uid) for uid in re.findall(rb"UID (\d+)", b" ".join(ok(client.fetch("1:*", "(UID)"))))]


def searching(client, uids):
    assert numbers(ok(client.search(None, "ALL"))) == [1, 2, 3, 4, 5]
    assert numbers(ok(client.search(None, "SEEN"))) == [1, 2]
    assert numbers(ok(client.search(None, "SUBJECT", '"PY 3"'))) == [3]
    assert numbers(ok(client.search(None, "BODY", '"number 4"'))) == [4]
    assert numbers(ok(client.search(None, "FROM", "far.test", "NOT", "SEEN"))) == [3, 4, 5]
    assert numbers(ok(client.search(None, "OR", "SUBJECT", '"py 1"', "3"))) == [1, 3]
    assert numbers(ok(client.search(None, "SINCE", "1-Jan-2020", "LARGER", "10"))) == [1, 2, 3, 4, 5]
    assert numbers(ok(client.search(None, "SENTON", "22-Nov-2026", "SMALLER", "10"))) == []
    client.literal = "hello number 5".encode()
    assert numbers(ok(client.search("UTF-8", "TEXT"))) == [5]
    assert numbers(ok(client.uid("SEARCH", "UNSEEN"))) == uids[2:]


def storing(client, uids):
    ok(client.store("3", "+FLAGS", "(\\Flagged $Work)"))
    assert b"$Work" in ok(client.fetch("3", "(FLAGS)"))[0]
    ok(client.store("3", "-FLAGS.SILENT", "($Work)"))
    assert b"$Work" not in ok(client.fetch("3", "(FLAGS)"))[0]
    ok(client.store("3", "FLAGS", "(\\Answered)"))
    assert b"\\Flagged" not in ok(client.fetch("3", "(FLAGS)"))[0]
    assert numbers(ok(client.search(None, "ANSWERED"))) == [3]
    ok(client.copy("1:2", "Crate"))
    assert b"MESSAGES 2" in ok(client.status("Crate", "(MESSAGES)"))[0]
    assert client.copy("1", "Nowhere")[0] == "NO"
    ok(client.uid("COPY", f"{uids[4]}", "Crate"))
    ok(client.uid("MOVE", f"{uids[3]}", "Crate"))
    assert b"MESSAGES 4" in ok(client.status("Crate", "(MESSAGES)"))[0]
    assert numbers(ok(client.search(None, "ALL"))) == [1, 2, 3, 4]
    ok(client.uid("STORE", f"{uids[0]}", "+FLAGS", "(\\Deleted)"))
    assert ok(client.expunge())[-1] == b"1"
    ok(client.store("1", "+FLAGS", "(\\Deleted)"))
    ok(client.close())
    assert ok(client.select("INBOX", readonly=True)) == [b"2"]
    assert client.store("1", "+FLAGS", "(\\Seen)")[0] == "NO"
    ok(client.check())
    ok(client.noop())
    ok(client.unselect() if hasattr(client, "unselect") else client.close())


def line_of(stream, beginning):
    """Reads up to the line that begins so."""
    for _ in range(50):
        line = stream.readline()
        assert line, "the connection ended"
        if line.startswith(beginning):
            return line
    raise AssertionError(beginning)


def idling(client):
    """What another session does is told within IDLE."""
    with socket.create_connection((HOST, IMAP), timeout=60) as raw:
        stream = raw.makefile("rb")
        line_of(stream, b"* OK")
        raw.sendall(b"a LOGIN alice demo\r\n")
        line_of(stream, b"a OK")
        raw.sendall(b"b SELECT INBOX\r\n")
        line_of(stream, b"b OK")
        raw.sendall(b"c IDLE\r\n")
        line_of(stream, b"+")
        ok(client.append("INBOX", None, None, letter(6)))
        assert line_of(stream, b"* 3 EXISTS")
        ok(client.select("INBOX"))
        ok(client.store("3", "+FLAGS", "(\\Deleted)"))
        assert b"\\Deleted" in line_of(stream, b"* 3 FETCH")
        ok(client.expunge())
        line_of(stream, b"* 3 EXPUNGE")
        raw.sendall(b"DONE\r\n")
        line_of(stream, b"c OK")


logins()
print("logins passed")
with imaplib.IMAP4(HOST, IMAP, timeout=60) as session:
    for capability in ("IDLE", "UIDPLUS", "MOVE"):
        ok(session.login("alice", "demo") if session.state == "NONAUTH" else session.noop())
        assert capability in ok(session.capability())[0].decode().split(), capability
    mailboxes(session)
    print("mailboxes passed")
    UIDS = fetching(session)
    print("fetching passed")
    searching(session, UIDS)
    print("searching passed")
    storing(session, UIDS)
    print("storing passed")
    idling(session)
    print("idling passed")
