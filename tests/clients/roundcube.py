"""Roundcube, driven by its pages: logs in, lists, searches, reads, marks, moves, sends.

Usage: roundcube.py HOST IMAP_PORT SUBMISSION_PORT FOLDER. Alice's INBOX holds `web-1`, `web-2` and `web-3`.
"""

import http.cookiejar
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

HOST, IMAP, SUBMISSION, FOLDER = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
PAGES = "/var/lib/roundcube/public_html"
SHIPPED = "/etc/roundcube"


def configure():
    """A configuration of its own beside what the package ships; its database is made on first use."""
    for name in ("config", "logs", "temp"):
        os.makedirs(f"{FOLDER}/{name}")
    for name in ("defaults.inc.php", "mimetypes.php"):
        os.symlink(f"{SHIPPED}/{name}", f"{FOLDER}/config/{name}")
    trust = "['ssl' => ['verify_peer' => false, 'verify_peer_name' => false]]"
    settings = {
        "db_dsnw": f"'sqlite:///{FOLDER}/db.sqlite?mode=0600'",
        "imap_host": f"'{HOST}:{IMAP}'",
        "imap_cache": "'db'",
        "messages_cache": "'db'",
        "smtp_host": f"'{HOST}:{SUBMISSION}'",
        "smtp_conn_options": trust,
        "mail_domain": "'example.test'",
        "des_key": "'rcmail-test-key-24-chars'",
        "log_dir": f"'{FOLDER}/logs'",
        "temp_dir": f"'{FOLDER}/temp'",
        "imap_debug": "true",
        "plugins": "[]",
        "language": "'en_US'",
        "ip_check": "false",
    }
    lines = [f"$config['{key}'] = {value};" for key, value in settings.items()]
    with open(f"{FOLDER}/config/config.inc.php", "w") as file:
        file.write("<?php\n$config = [];\n" + "\n".join(lines) + "\n")
    # The package names its own folder of settings; the first definition counts.
    with open(f"{FOLDER}/prepend.php", "w") as file:
        file.write(f"<?php define('RCUBE_CONFIG_DIR', '{FOLDER}/config/'); ini_set('display_errors', '0');\n")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Browser:
    """A session with the pages."""

    def __init__(self, base):
        self.base = base
        jar = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        self.token = ""

    def page(self, query, form=None):
        data = urllib.parse.urlencode(form).encode() if form is not None else None
        with self.opener.open(f"{self.base}/?{query}", data, timeout=50) as answer:
            text = answer.read().decode()
            found = re.search(r'"request_token":"([^"]+)"', text)
            self.token = found.group(1) if found else self.token
            return text, answer.geturl()

    def remote(self, query, form=None):
        """What the page's script would ask for; gives the commands that the page is to run."""
        data = urllib.parse.urlencode(form).encode() if form is not None else None
        request = urllib.request.Request(f"{self.base}/?{query}&_remote=1", data)
        request.add_header("X-Requested-With", "XMLHttpRequest")
        request.add_header("X-Roundcube-Request", self.token)
        with self.opener.open(request, timeout=50) as answer:
            said = json.loads(answer.read().decode())["exec"]
        assert '"error"' not in said, said
        return said


def log_in(browser):
    text, _ = browser.page("_task=login")
    token = re.search(r'name="_token" value="([^"]+)"', text).group(1)
    form = {"_token": token, "_task": "login", "_action": "login", "_user": "alice", "_pass": "demo"}
    text, where = browser.page("_task=login", form)
    assert "_task=mail" in where, text[:2000]


def subjects(said):
    """UIDs and subjects of listed messages, in the order of the list."""
    rows = re.findall(r'add_message_row\("?(\d+)"?,\{"subject":"([^"]*)"', said)
    return [(uid, subject) for uid, subject in rows]


def read_mail(browser):
    listed = browser.remote("_task=mail&_action=list&_mbox=INBOX&_page=1&_sort=subject_ASC")
    names = [subject for _, subject in subjects(listed)]
    assert names == ["web-1", "web-2", "web-3"], listed
    uids = {subject: uid for uid, subject in subjects(listed)}
    found = browser.remote("_task=mail&_action=search&_mbox=INBOX&_q=web-2&_headers=subject&_scope=base")
    assert [subject for _, subject in subjects(found)] == ["web-2"], found
    inside = browser.remote("_task=mail&_action=search&_mbox=INBOX&_q=text+3&_headers=text&_scope=base")
    assert [subject for _, subject in subjects(inside)] == ["web-3"], inside
    shown, _ = browser.page(f"_task=mail&_mbox=INBOX&_uid={uids['web-1']}&_action=show")
    assert "web-1" in shown and "text 1" in shown, shown[:2000]
    return uids


def sort_mail(browser, uids):
    mark = {"_uid": uids["web-2"], "_flag": "flagged", "_mbox": "INBOX"}
    browser.remote("_task=mail&_action=mark", mark)
    folder = {"_name": "Reading", "_parent": "", "_mbox": "", "_token": browser.token}
    folder |= {"_task": "settings", "_action": "save-folder", "_is_postback": "1"}
    browser.page("_task=settings&_action=save-folder", folder)
    move = {"_uid": uids["web-3"], "_mbox": "INBOX", "_target_mbox": "Reading"}
    browser.remote("_task=mail&_action=move", move)
    threads = browser.remote("_task=mail&_action=list&_mbox=INBOX&_page=1&_threads=1")
    assert len(subjects(threads)) == 2, threads


def send(browser):
    text, where = browser.page("_task=mail&_action=compose&_to=bob@example.test")
    compose = re.search(r"_id=(\w+)", where).group(1)
    sender = re.search(r'<option value="(\d+)"[^>]*>[^<]*alice', text).group(1)
    form = {
        "_token": browser.token,
        "_task": "mail",
        "_action": "send",
        "_id": compose,
        "_from": sender,
        "_to": "bob@example.test",
        "_subject": "from the web",
        "_message": "written in a browser",
        "_is_html": "0",
        "_store_target": "Sent",
        "_draft": "",
    }
    said, _ = browser.page("_task=mail&_action=send&_framed=1", form)
    assert "sent_successfully" in said, said


def main():
    configure()
    port = free_port()
    command = ["php", "-d", f"auto_prepend_file={FOLDER}/prepend.php", "-S", f"127.0.0.1:{port}", "-t", PAGES]
    with open(f"{FOLDER}/php.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        browser = Browser(f"http://127.0.0.1:{port}")
        for _ in range(100):
            try:
                log_in(browser)
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        uids = read_mail(browser)
        sort_mail(browser, uids)
        send(browser)
        browser.page(f"_task=logout&_token={browser.token}")
    except BaseException:
        for name in ("errors.log", "imap.log"):
            if os.path.exists(f"{FOLDER}/logs/{name}"):
                print(name, open(f"{FOLDER}/logs/{name}").read()[-6000:], file=sys.stderr)
        raise
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)


main()
