"""Python's smtplib against a server: python3 smtp_client.py HOST SMTP SUBMISSION SUBMISSIONS LMTP."""

import smtplib
import socket
import ssl
import sys
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.policy import SMTPUTF8 as UTF8_POLICY

HOST = sys.argv[1]
MTA, SUBMISSION, SUBMISSIONS, LMTP = map(int, sys.argv[2:6])
ALICE, BOB = "alice@example.test", "bob@example.test"


def any_certificate():
    """The server under test signed its own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def letter(subject, body, policy=SMTP_POLICY):
    message = EmailMessage(policy=policy)
    message["From"] = "Sender <sender@far.test>"
    message["To"] = ALICE
    message["Subject"] = subject
    message.set_content(body)
    return message


def refused(code, call, *arguments, **options):
    """The call must be refused with that code."""
    try:
        call(*arguments, **options)
    except smtplib.SMTPRecipientsRefused as error:
        codes = {reply[0] for reply in error.recipients.values()}
        assert codes == {code}, codes
    except smtplib.SMTPResponseException as error:
        assert error.smtp_code == code, error
    else:
        raise AssertionError(f"{call} was not refused")


def mta():
    with smtplib.SMTP(HOST, MTA, timeout=60) as smtp:
        code, _ = smtp.ehlo()
        assert code == 250
        for name in ("size", "8bitmime", "pipelining", "smtputf8", "starttls", "chunking"):
            assert smtp.has_extn(name), name
        assert not smtp.has_extn("auth")
        smtp.send_message(letter("py-mta", "one\n.\n..two\n"))
        some = smtp.sendmail("s@far.test", [ALICE, "nobody@example.test", BOB], b"Subject: py-some\r\n\r\nx\r\n")
        assert list(some) == ["nobody@example.test"] and some["nobody@example.test"][0] == 550, some
        refused(550, smtp.sendmail, "s@far.test", ["nobody@example.test"], b"x")
        refused(550, smtp.sendmail, "s@far.test", ["a@elsewhere.test"], b"x")
        assert smtp.verify(ALICE)[0] == 252
        assert smtp.noop()[0] == 250
        assert smtp.docmd("NONSENSE")[0] == 500
        assert smtp.rset()[0] == 250
        smtp.sendmail("", [ALICE], b"Subject: py-null\r\n\r\nx\r\n")


def starttls():
    with smtplib.SMTP(HOST, MTA, timeout=60) as smtp:
        assert smtp.starttls(context=any_certificate())[0] == 220
        smtp.ehlo()
        assert not smtp.has_extn("starttls")
        smtp.send_message(letter("py-tls", "x"))


def submission():
    with smtplib.SMTP(HOST, SUBMISSION, timeout=60) as smtp:
        refused(530, smtp.sendmail, ALICE, [BOB], b"x")
        refused(535, smtp.login, "alice", "wrong")
        smtp.login("alice", "demo")
        smtp.sendmail(ALICE, [BOB], b"Subject: py-plain\r\n\r\nx\r\n")
    for method in ("auth_plain", "auth_login"):
        with smtplib.SMTP_SSL(HOST, SUBMISSIONS, timeout=60, context=any_certificate()) as smtp:
            smtp.ehlo()
            smtp.user, smtp.password = ALICE, "demo"
            name = method.removeprefix("auth_").upper()
            code, text = smtp.auth(name, getattr(smtp, method))
            assert code == 235, text
            smtp.sendmail(ALICE, [BOB], f"Subject: py-{method}\r\n\r\nx\r\n".encode())


def utf8():
    with smtplib.SMTP(HOST, MTA, timeout=60) as smtp:
        message = letter("py-utf8 gr\u00fc\u00dfe", "\u043f\u0440\u0438\u0432\u0435\u0442", UTF8_POLICY)
        message.replace_header("From", "J\u00f6rg <j\u00f6rg@b\u00fccher.test>")
        smtp.send_message(message)
        raw = "Subject: py-8bit\r\n\r\ncaf\u00e9 \xff\r\n".encode("latin-1")
        smtp.sendmail("s@far.test", [ALICE], raw, mail_options=["BODY=8BITMIME"])


def pipelined():
    """All commands of two messages in one write, then all replies in order."""
    with socket.create_connection((HOST, MTA), timeout=60) as raw:
        stream = raw.makefile("rb")
        assert stream.readline().startswith(b"220 ")
        transaction = (
            b"MAIL FROM:<s@far.test>\r\nRCPT TO:<alice@example.test>\r\nRCPT TO:<nobody@example.test>\r\n"
            b"DATA\r\n"
        )
        raw.sendall(b"EHLO c.test\r\n" + transaction)
        codes = []
        while len(codes) < 5:
            line = stream.readline()
            if line[3:4] == b" ":
                codes.append(int(line[:3]))
        assert codes == [250, 250, 250, 550, 354], codes
        raw.sendall(b"Subject: py-pipe\r\n\r\nx\r\n.\r\n" + transaction.replace(b"nobody", b"bob"))
        codes = [int(stream.readline()[:3]) for _ in range(5)]
        assert codes == [250, 250, 250, 250, 354], codes
        raw.sendall(b"Subject: py-pipe\r\n\r\ny\r\n.\r\nQUIT\r\n")
        codes = [int(stream.readline()[:3]) for _ in range(2)]
        assert codes == [250, 221], codes
        assert stream.read() == b""


def lmtp():
    with smtplib.LMTP(HOST, LMTP, timeout=60) as client:
        # smtplib reads one reply to a message, so there can be one recipient only.
        client.sendmail("s@far.test", [ALICE], b"Subject: py-lmtp\r\n\r\nx\r\n")
        refused(550, client.sendmail, "s@far.test", ["nobody@example.test"], b"x")


for test in (mta, starttls, submission, utf8, pipelined, lmtp):
    test()
    print(test.__name__, "passed")
