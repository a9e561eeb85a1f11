"""Thunderbird against a server, under Xvfb, told what to do through Marionette (its remote control).

Usage: thunderbird.py HOST IMAP_PORT SMTP_PORT FOLDER. Alice's INBOX holds `bird-1`, `bird-2` and `bird-3`.
"""

import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import time

HOST, IMAP, SMTP, FOLDER = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]

PREFERENCES = {
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.spotlight.firstRunDone": True,
    "mail.shell.checkDefaultClient": False,
    "mailnews.start_page.enabled": False,
    "datareporting.policy.dataSubmissionPolicyBypassNotification": True,
    "app.update.enabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "network.dns.disableIPv6": True,
}

ACCOUNT = """
const {MailServices} = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const [host, port] = given;
const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
login.init("imap://" + host, null, "imap://" + host, "alice", "demo", "", "");
await Services.logins.addLoginAsync(login);
const server = MailServices.accounts.createIncomingServer("alice", host, "imap");
server.port = port;
server.socketType = 0;
server.authMethod = 3;
server.loginAtStartUp = false;
server.doBiff = false;
const identity = MailServices.accounts.createIdentity();
identity.email = "alice@example.test";
const account = MailServices.accounts.createAccount();
account.addIdentity(identity);
account.incomingServer = server;
"""

TOOLS = """
const {MailServices} = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const ended = code => code ? new Error("failed with " + code.toString(16)) : null;
globalThis.bird = {
  copy: MailServices.copy,
  root: () => MailServices.accounts.allServers.find(server => server.type == "imap").rootFolder,
  folder: name => bird.root().descendants.find(folder => [folder.name, folder.prettyName, folder.localizedName].includes(name)),
  messages: folder => [...folder.msgDatabase.enumerateMessages()],
  find: (folder, subject) => bird.messages(folder).find(header => header.mime2DecodedSubject == subject),
  wait: async (what, test) => {
    for (let turn = 0; turn < 400; turn++) {
      const found = test();
      if (found) return found;
      await new Promise(resolve => setTimeout(resolve, 100));
    }
    throw new Error("waited in vain for " + what);
  },
  patiently: async act => {
    for (let turn = 0; ; turn++) {
      try {
        return await act();
      } catch (error) {
        if (turn == 50) throw error;
        await new Promise(resolve => setTimeout(resolve, 200));
      }
    }
  },
  update: folder => new Promise((resolve, reject) => {
    folder.QueryInterface(Ci.nsIMsgImapMailFolder).updateFolderWithListener(null, {
      QueryInterface: ChromeUtils.generateQI(["nsIUrlListener"]),
      OnStartRunningUrl() {},
      OnStopRunningUrl(url, code) { ended(code) ? reject(ended(code)) : resolve(); },
    });
  }),
  copied: begin => new Promise((resolve, reject) => begin({
    QueryInterface: ChromeUtils.generateQI(["nsIMsgCopyServiceListener"]),
    onStartCopy() {}, onProgress() {}, setMessageKey() {}, getMessageId() {},
    onStopCopy(code) { ended(code) ? reject(ended(code)) : resolve(); },
  })),
  text: header => new Promise((resolve, reject) => {
    const uri = header.folder.getUriForMsg(header);
    let text = "";
    const listener = {
      QueryInterface: ChromeUtils.generateQI(["nsIStreamListener", "nsIRequestObserver"]),
      onStartRequest() {},
      onDataAvailable(request, stream, offset, count) {
        const reader = Cc["@mozilla.org/scriptableinputstream;1"].createInstance(Ci.nsIScriptableInputStream);
        reader.init(stream);
        text += reader.read(count);
      },
      onStopRequest(request, code) { ended(code) ? reject(ended(code)) : resolve(text); },
    };
    MailServices.messageServiceFromURI(uri).streamMessage(uri, listener, null, null, false, "");
  }),
};
"""

FIRST_SYNC = """
const inbox = await bird.wait("INBOX", () => bird.folder("INBOX"));
// Right after its start the program is not ready to connect.
await bird.wait("the window", () => Services.wm.getMostRecentWindow("mail:3pane")?.document.readyState == "complete");
await bird.patiently(() => bird.update(inbox));
await bird.wait("three messages", () => bird.messages(inbox).length == 3);
const body = await bird.text(bird.find(inbox, "bird-1"));
await bird.wait("the folders", () => bird.folder("Archive") && bird.folder("Trash"));
return [bird.messages(inbox).map(header => header.mime2DecodedSubject).sort(), body];
"""

CHANGES = """
const inbox = bird.folder("INBOX");
inbox.markMessagesRead([bird.find(inbox, "bird-1")], true);
inbox.addKeywordsToMessages([bird.find(inbox, "bird-1")], "$label1");
inbox.markMessagesFlagged([bird.find(inbox, "bird-2")], true);
bird.root().createSubfolder("Vögel", null);
const birds = await bird.wait("a new folder", () => bird.folder("Vögel"));
await bird.copied(listener => bird.copy.copyMessages(inbox, [bird.find(inbox, "bird-1")], birds, false, listener, null, false));
await bird.copied(listener => bird.copy.copyMessages(inbox, [bird.find(inbox, "bird-2")], birds, true, listener, null, false));
birds.updateFolder(null);
await bird.wait("two messages there", () => bird.messages(birds).length == 2);
await bird.wait("two messages left", () => bird.messages(inbox).length == 2);
return bird.messages(birds).map(header => [header.mime2DecodedSubject, header.isRead, header.isFlagged]).sort();
"""

UPLOAD = """
const file = Cc["@mozilla.org/file/local;1"].createInstance(Ci.nsIFile);
file.initWithPath(given[0]);
const drafts = bird.folder("Drafts");
await bird.copied(listener => bird.copy.copyFileMessage(file, drafts, null, false, 1, "", listener, null));
drafts.updateFolder(null);
await bird.wait("the upload", () => bird.find(drafts, "bird-uploaded"));
const inbox = bird.folder("INBOX");
inbox.deleteMessages([bird.find(inbox, "bird-3")], null, false, false, null, false);
const trash = bird.folder("Trash");
await bird.wait("one message left", () => bird.messages(inbox).length == 1);
trash.updateFolder(null);
await bird.wait("a message in the trash", () => bird.find(trash, "bird-3"));
inbox.updateFolder(null);
"""

NEWS = """
const inbox = bird.folder("INBOX");
await bird.wait("news by IDLE", () => bird.find(inbox, "bird-late"));
"""


class Marionette:
    """The remote control: JSON with its length before it."""

    def __init__(self, port):
        self.socket = self.connect(port)
        self.socket.settimeout(60)
        self.buffer = b""
        self.number = 0
        self.receive()
        self.call("WebDriver:NewSession", {})
        self.call("Marionette:SetContext", {"value": "chrome"})
        self.call("WebDriver:SetTimeouts", {"script": 50_000})

    @staticmethod
    def connect(port):
        for _ in range(300):
            try:
                return socket.create_connection(("127.0.0.1", port), 5)
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("Thunderbird does not open its remote control")

    def receive(self):
        while b":" not in self.buffer:
            self.buffer += self.more()
        length, _, rest = self.buffer.partition(b":")
        while len(rest) < int(length):
            rest += self.more()
        self.buffer = rest[int(length) :]
        return json.loads(rest[: int(length)])

    def more(self):
        octets = self.socket.recv(65536)
        if not octets:
            raise ConnectionError("Thunderbird went away")
        return octets

    def call(self, name, parameters):
        self.number += 1
        message = json.dumps([0, self.number, name, parameters]).encode()
        self.socket.sendall(b"%d:%s" % (len(message), message))
        _, _, error, result = self.receive()
        if error:
            raise RuntimeError(error)
        return result

    def run(self, script, *given):
        """Runs a script to its end and gives what it returns."""
        whole = (
            "const done = arguments[arguments.length - 1]; const given = Array.from(arguments).slice(0, -1);"
            "(async () => {" + script + "})().then(value => done({value: value ?? null}), error => done({error: String(error)}));"
        )
        parameters = {"script": whole, "args": list(given), "newSandbox": False, "sandbox": "system"}
        result = self.call("WebDriver:ExecuteAsyncScript", parameters)["value"]
        assert "error" not in result, result
        return result["value"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(port):
    profile = f"{FOLDER}/profile"
    os.makedirs(profile)
    with open(f"{profile}/user.js", "w") as file:
        for name, value in (PREFERENCES | {"marionette.port": port}).items():
            file.write(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n")
    command = ["xvfb-run", "-a", "thunderbird", "--no-remote", "--profile", profile, "--marionette"]
    command.append("--remote-allow-system-access")
    environment = os.environ | {"MOZ_CRASHREPORTER_DISABLE": "1"}
    with open(f"{FOLDER}/thunderbird.log", "w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)


def deliver(subject):
    with smtplib.SMTP(HOST, SMTP) as smtp:
        text = f"From: far@far.test\r\nTo: alice@example.test\r\nSubject: {subject}\r\n\r\nlate\r\n"
        smtp.sendmail("far@far.test", ["alice@example.test"], text)


def use(bird):
    bird.run(ACCOUNT, HOST, IMAP)
    bird.run(TOOLS)
    subjects, body = bird.run(FIRST_SYNC)
    assert subjects == ["bird-1", "bird-2", "bird-3"], subjects
    assert "text 1" in body, body
    copies = bird.run(CHANGES)
    assert copies == [["bird-1", True, False], ["bird-2", False, True]], copies
    upload = f"{FOLDER}/upload.eml"
    with open(upload, "w", newline="") as file:
        file.write("From: alice@example.test\r\nSubject: bird-uploaded\r\n\r\nfrom a file\r\n")
    bird.run(UPLOAD, upload)
    deliver("bird-late")
    bird.run(NEWS)


def main():
    port = free_port()
    program = start(port)
    try:
        use(Marionette(port))
    except BaseException:
        print(open(f"{FOLDER}/thunderbird.log").read()[-3000:], file=sys.stderr)
        raise
    finally:
        os.killpg(program.pid, signal.SIGTERM)
        try:
            program.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait(10)


main()
