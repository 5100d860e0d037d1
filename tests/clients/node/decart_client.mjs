// keygate with Decart's library: an image, a video job, client tokens and a realtime session.
//
// Decart answers at the provider's name: its paths are OpenAI's otherwise. A client token has
// inference alone: jobs are asked after by whoever has a token for that.
//
// Realtime media goes over LiveKit, beside the gateway. Here nothing is carried: what matters is the
// signalling, which passes. `telemetry: false` is no matter of taste: the library would report to
// Decart's own address, and show it the token.
//
// Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN, KEYGATE_MINTER (a token
// that may mint).
// Prints one line of JSON: what came back.

import { createDecartClient, models, noopLogger } from '@decartai/sdk';
import { Room } from 'livekit-client';
import { WebSocket } from 'ws';

const url = process.env.KEYGATE_URL;

// What a browser has, and this is none.
for (const name of ['connect', 'disconnect']) {
  Object.defineProperty(Room.prototype, name, { get: () => async () => {}, set: () => {} });
}
globalThis.MediaStream = class {
  getTracks() { return []; }
  getVideoTracks() { return []; }
  getAudioTracks() { return []; }
};
globalThis.WebSocket = class extends WebSocket {
  constructor(address) {
    super(address, { origin: 'https://app.test' });
  }
};

// A client of keygate with this token.
function connect(apiKey) {
  return createDecartClient({
    apiKey,
    baseUrl: `${url}/decart`,
    realtimeBaseUrl: `${url}/decart`.replace(/^http/, 'ws'),
    telemetry: false,
    logger: noopLogger,
  });
}

// A realtime session: opened, spoken to, closed.
async function session(token, model) {
  const realtime = await connect(token).realtime.connect(null, {
    model: models.realtime(model),
    onRemoteStream: () => {},
  });
  const tick = new Promise((resolve) => realtime.on('generationTick', resolve));
  await realtime.setPrompt('decart realtime');
  const { seconds } = await tick;
  const { sessionId: session_id } = realtime;
  realtime.disconnect();
  return { session_id, seconds };
}

const results = {};
const client = connect(process.env.KEYGATE_TOKEN);

// An image, at once.
const image = await client.process({
  model: models.image('lucy-image-2'),
  prompt: 'decart image',
  data: new Blob(['pixels']),
});
results.image = await image.text();

// A video, in a job.
const job = await client.queue.submit({
  model: models.video('lucy-2.5'),
  prompt: 'decart job',
  data: new Blob(['frames']),
});
const status = await client.queue.status(job.job_id);
const result = await client.queue.result(job.job_id);
results.job = [job.job_id, job.status, status.status, await result.text()];

// A token without any option, one for each option, and one with all of them.
const server = connect(process.env.KEYGATE_MINTER);
const minted = {
  plain: undefined,
  expiry: { expiresIn: 120 },
  models: { allowedModels: ['lucy-2.5'] },
  origins: { allowedOrigins: ['https://app.test'] },
  length: { constraints: { realtime: { maxSessionDuration: 300 } } },
  metadata: { metadata: { role: 'viewer' } },
};
minted.all = Object.assign({}, ...Object.values(minted));
const tokens = {};
for (const [name, asked] of Object.entries(minted)) {
  tokens[name] = await server.tokens.create(asked);
}
// As the library for Python calls it.
results.tokens = Object.fromEntries(Object.entries(tokens).map(
  ([name, { apiKey: api_key, expiresAt: expires_at, ...rest }]) => [name, { api_key, expires_at, ...rest }],
));

// The browser's part, with either form, from the page that the token is for.
results['session by api_key'] = await session(tokens.all.apiKey, 'lucy-2.5');
results['session by token'] = await session(tokens.all.token, 'lucy-2.5');
console.log(JSON.stringify(results));
process.exit(0);
