"""Python's poplib against a server: python3 pop3_client.py HOST POP3 POP3S. alice has three messages pop-1 to pop-3."""

import poplib
import ssl
import sys

HOST = sys.argv[1]
POP3, POP3S = map(int, sys.argv[2:4])


def any_certificate():
    """The server under test signed its own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def login(client, user="alice", password="demo"):
    client.user(user)
    client.pass_(password)
    return client


def size(lines):
    return sum(len(line) + 2 for line in lines)


wrong = poplib.POP3(HOST, POP3, timeout=60)
try:
    login(wrong, password="wrong")
    raise AssertionError("a wrong password was taken")
except poplib.error_proto as error:
    assert b"-ERR" in error.args[0], error
wrong.close()

client = login(poplib.POP3(HOST, POP3, timeout=60))
capabilities = client.capa()
for name in ("TOP", "UIDL", "STLS", "USER", "PIPELINING"):
    assert name in capabilities or name == "STLS", capabilities
count, octets = client.stat()
assert count == 3
_, listing, _ = client.list()
sizes = [int(line.split()[1]) for line in listing]
assert sum(sizes) == octets
uids = [line.split()[1] for line in client.uidl()[1]]
assert len(set(uids)) == 3
assert client.uidl(2).split()[2] == uids[1]
for number in (1, 2, 3):
    _, lines, announced = client.retr(number)
    assert b"Subject: pop-%d" % number in lines
    assert size(lines) == sizes[number - 1] == announced, (size(lines), sizes, announced)
_, top, _ = client.top(1, 1)
_, whole, _ = client.retr(1)
assert top == whole[: len(top)] and len(top) == whole.index(b"") + 2, top
client.noop()
client.dele(1)
client.dele(2)
client.rset()
assert client.stat()[0] == 3
client.dele(2)
try:
    client.retr(2)
    raise AssertionError("a deleted message was sent")
except poplib.error_proto:
    pass
client.quit()

client = poplib.POP3(HOST, POP3, timeout=60)
client.stls(any_certificate())
login(client)
assert [line.split()[1] for line in client.uidl()[1]] == [uids[0], uids[2]]
client.close()

client = login(poplib.POP3_SSL(HOST, POP3S, timeout=60, context=any_certificate()), user="alice@example.test")
client.dele(1)
client.dele(2)
client.quit()
client = login(poplib.POP3_SSL(HOST, POP3S, timeout=60, context=any_certificate()))
assert client.stat() == (0, 0)
client.quit()
print("passed")
