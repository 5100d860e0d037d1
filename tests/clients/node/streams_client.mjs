// Durable streams through keygate, with their own client: everything but the URL and the token is as
// if the stream server were asked itself.
//
// The test cuts connections and tokens meanwhile: it is told where this script stands by a line, and
// answers with one.
import { createInterface } from 'node:readline';
import { DurableStream, IdempotentProducer, stream } from '@durable-streams/client';

const url = `${process.env.KEYGATE_URL}/v1/stream/user-42/chat`;
const { any, gone, reader } = JSON.parse(process.env.KEYGATE_TOKENS);
const bearer = (token) => ({ Authorization: `Bearer ${token}` });
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const tell = async (step) => {
  console.log(JSON.stringify({ step }));
  await lines.next();
};
const atOnce = { maxRetries: 0 };

// Reads on from an offset until `count` items are there, and says where it stands.
async function follow({ token = any, offset = '-1', live, count, onItem = () => {} }) {
  const response = await stream({
    url, headers: bearer(token), offset, live, json: true, backoffOptions: atOnce,
  });
  const items = [];
  let at = offset;
  await new Promise((resolve, reject) => {
    const stop = response.subscribeJson(async (batch) => {
      items.push(...batch.items);
      at = batch.offset;
      for (const item of batch.items) await onItem(item);
      if (items.length >= count) { stop(); response.cancel(); resolve(); }
    });
    response.closed.then(resolve, reject);
  }).catch((error) => items.push(`cut: ${error.name}`));
  return { items, offset: at };
}

const wish = { url, headers: bearer(any), contentType: 'application/json', ttlSeconds: 600 };
const handle = await DurableStream.create(wish);
// The same again is no conflict.
await DurableStream.create(wish);
const append = (item) => handle.append(JSON.stringify(item));
await append(1);
await append(2);
const producer = new IdempotentProducer(handle, 'producer', { autoClaim: true });
for (const item of [3, 4]) producer.append(JSON.stringify(item));
await producer.flush();
await producer.detach();

// Catching up, and what a browser's cache would ask.
const said = {};
const caught = await stream({ url, headers: bearer(any), live: false, json: true });
said.caught = await caught.json();
let { offset } = await handle.head();
const whole = await fetch(`${url}?offset=-1`, { headers: bearer(any) });
await whole.arrayBuffer();
const etag = whole.headers.get('etag');
const again = await fetch(`${url}?offset=-1`, { headers: { ...bearer(any), 'If-None-Match': etag } });
said.unchanged = again.status;

// Both live modes; what is appended meanwhile arrives.
for (const live of ['long-poll', 'sse']) {
  const reading = follow({ offset, live, count: 2 });
  await append(`${live} a`);
  await append(`${live} b`);
  const read = await reading;
  said[live] = read.items;
  offset = read.offset;
}

// The connection to the stream server breaks: what was read is not read again.
let reading = follow({
  offset, live: 'sse', count: 9,
  onItem: () => tell('following, cut the connection'),
});
await append('before the cut');
const cut = await reading;
await append('after the cut');
const resumed = await follow({ offset: cut.offset, live: 'sse', count: 1 });
said.cut = [...cut.items, ...resumed.items];
offset = resumed.offset;

// The token is disabled: another one reads on from the same place.
reading = follow({
  token: gone, offset, live: 'sse', count: 9,
  onItem: () => tell('following, disable the token'),
});
await append('before the end');
const ended = await reading;
await append('after the end');
said.refused = await fetch(`${url}?offset=-1`, { headers: bearer(gone) }).then((r) => r.status);
const another = await follow({ token: reader, offset: ended.offset, live: 'sse', count: 1 });
said.ended = [...ended.items, ...another.items];

// A token that only reads, and one in the query, where an EventSource has it.
const asReader = new DurableStream({ url, headers: bearer(reader), backoffOptions: atOnce });
said.readerAppends = await asReader.append('"no"').then(() => 'done', (error) => error.status);
const byQuery = await stream({ url, params: { key: reader }, live: false, json: true });
said.byQuery = (await byQuery.json()).length;

// A fork begins with what its source had; what is deleted is gone.
const fork = await fetch(`${url}-fork`, {
  method: 'PUT',
  headers: { ...bearer(any), 'Stream-Forked-From': '/v1/stream/user-42/chat' },
});
said.fork = fork.status;
const forked = await stream({ url: `${url}-fork`, headers: bearer(any), live: false, json: true });
said.forked = (await forked.json()).length;
await DurableStream.delete({ url: `${url}-fork`, headers: bearer(any) });
await handle.delete();
said.deleted = await fetch(url, { method: 'HEAD', headers: bearer(any) }).then((r) => r.status);
console.log(JSON.stringify(said));
process.exit(0);
