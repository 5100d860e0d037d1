// The reference server of durable streams, in memory, until its input ends.
import { DurableStreamTestServer } from '@durable-streams/server';

const server = new DurableStreamTestServer({ port: 0, host: '127.0.0.1', longPollTimeout: 2_000 });
await server.start();
console.log(JSON.stringify({ port: Number(new URL(server.url).port) }));
for await (const _ of process.stdin);
await server.stop();
process.exit(0);
