// imapflow against a server. Usage: node imapflow.mjs FOLDER_OF_IMAPFLOW HOST IMAP_PORT SMTP_PORT
// Alice's INBOX holds `flow-1`, `flow-2` and `flow-3`.

import assert from 'node:assert';
import net from 'node:net';
import { createRequire } from 'node:module';

const [folder, host, port, smtp] = process.argv.slice(2);
const { ImapFlow } = createRequire(`${folder}/`)('imapflow');
const auth = { user: 'alice', pass: 'demo' };
const settings = { host, port: Number(port), secure: false, doSTARTTLS: false, auth, qresync: true, logger: false };

async function collect(messages) {
  const all = [];
  for await (const message of messages) all.push(message);
  return all;
}

async function firstSync(client) {
  const mailbox = await client.mailboxOpen('INBOX');
  assert.equal(mailbox.exists, 3);
  assert.ok(mailbox.highestModseq > 0n, 'CONDSTORE');
  assert.match(mailbox.mailboxId, /^\w+$/);
  const query = { uid: true, flags: true, envelope: true, bodyStructure: true, internalDate: true, size: true };
  const messages = await collect(client.fetch('1:*', { ...query, threadId: true }));
  assert.deepEqual(messages.map(message => message.envelope.subject), ['flow-1', 'flow-2', 'flow-3']);
  assert.ok(messages.every(message => message.modseq > 0n && message.emailId));
  const { content } = await client.download('1');
  const text = Buffer.concat(await collect(content)).toString();
  assert.ok(text.includes('text 1'), text);
  return { ...mailbox };
}

async function changes(client) {
  assert.ok(await client.messageFlagsAdd('1', ['\\Flagged', 'work']));
  assert.deepEqual(await client.search({ keyword: 'work' }), [1]);
  assert.deepEqual(await client.search({ body: 'text 2' }, { uid: true }), [2]);
  const appended = await client.append('INBOX', 'Subject: flow-4\r\n\r\nuploaded\r\n', ['\\Seen']);
  assert.equal(appended.uid, 4);
  assert.ok((await client.mailboxCreate('Flöw/Below')).created);
  const copied = await client.messageCopy('1:2', 'Flöw/Below');
  assert.deepEqual([...copied.uidMap.keys()], [1, 2]);
  const moved = await client.messageMove('2', 'Flöw/Below');
  assert.deepEqual([...moved.uidMap.keys()], [2]);
  const listed = await client.list({ statusQuery: { messages: true, highestModseq: true } });
  const below = listed.find(entry => entry.path === 'Flöw/Below');
  assert.equal(below.status.messages, 3);
  assert.ok(listed.some(entry => entry.specialUse === '\\Sent'));
  const quota = await client.getQuota('INBOX');
  assert.ok(quota && quota.path === 'INBOX', 'QUOTA');
}

/// Another session changes what this one has seen; a later one learns just that.
async function resync(before) {
  const client = new ImapFlow(settings);
  const flags = [];
  const gone = [];
  await client.connect();
  client.on('flags', event => flags.push(event.uid));
  client.on('expunge', event => gone.push(event.uid));
  await client.mailboxOpen('INBOX', { changedSince: before.highestModseq, uidValidity: before.uidValidity });
  assert.ok(client.enabled.has('QRESYNC'));
  const changed = await collect(client.fetch('1:*', { uid: true, flags: true }, { changedSince: before.highestModseq }));
  assert.deepEqual(changed.map(message => message.uid), [1, 4]);
  await client.logout();
}

function deliver() {
  return new Promise((resolve, reject) => {
    const lines = ['EHLO far.test', 'MAIL FROM:<far@far.test>', 'RCPT TO:<alice@example.test>', 'DATA',
      'Subject: flow-late\r\n\r\nlate\r\n.', 'QUIT'];
    const socket = net.connect(Number(smtp), host);
    let said = '';
    socket.on('error', reject);
    socket.on('close', resolve);
    socket.on('data', octets => {
      said += octets;
      if (/^\d{3} [^\n]*\n$/m.test(said.split('\n').slice(-2).join('\n')) && lines.length) {
        said = '';
        socket.write(`${lines.shift()}\r\n`);
      }
    });
  });
}

async function idle(client) {
  const arrived = new Promise(resolve => client.once('exists', resolve));
  const idling = client.idle();
  await deliver();
  const { count, prevCount } = await arrived;
  assert.equal(count, prevCount + 1);
  await client.noop();
  await idling;
}

setTimeout(() => assert.fail('it takes too long'), 50_000).unref();
const client = new ImapFlow(settings);
await client.connect();
const before = await firstSync(client);
await changes(client);
await resync(before);
await idle(client);
await client.logout();
