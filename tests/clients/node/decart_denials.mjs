// What keygate's refusals become in Decart's library: the errors to expect and to handle. They are
// plain objects with a `code`, but for realtime, which has an Error without any reason: a browser's
// WebSocket does not tell one.
//
// Over HTTP the library never retries. A realtime session that is refused is tried six times in all;
// here without the pauses between the tries.
//
// Environment: KEYGATE_URL, KEYGATE_TOKENS (JSON: what each token of the cases below is).
// Prints one line of JSON: by case, the error's code or class, the status it tells and its message.

import { createDecartClient, models, noopLogger } from '@decartai/sdk';
import { Room } from 'livekit-client';
import { WebSocket } from 'ws';

const url = process.env.KEYGATE_URL;
const tokens = JSON.parse(process.env.KEYGATE_TOKENS);

// What a browser has, and this is none.
for (const name of ['connect', 'disconnect']) {
  Object.defineProperty(Room.prototype, name, { get: () => async () => {}, set: () => {} });
}
globalThis.MediaStream = class {
  getTracks() { return []; }
  getVideoTracks() { return []; }
  getAudioTracks() { return []; }
};
// Node's own does not say that a handshake has failed.
globalThis.WebSocket = WebSocket;
// The pauses between tries take 1 to 10 s; what waits for an answer takes longer.
const wait = globalThis.setTimeout;
globalThis.setTimeout = (then, ms, ...args) => wait(then, ms >= 1000 && ms <= 10_000 ? 1 : ms, ...args);

function connect(token, provider = 'decart') {
  return createDecartClient({
    apiKey: tokens[token],
    baseUrl: `${url}/${provider}`,
    realtimeBaseUrl: `${url}/${provider}`.replace(/^http/, 'ws'),
    telemetry: false,
    logger: noopLogger,
  });
}

function image(token, provider, data = 'pixels') {
  const asked = { model: models.image('lucy-image-2'), prompt: 'hello', data: new Blob([data]) };
  return connect(token, provider).process(asked);
}

async function twice(token) {
  await image(token);
  await image(token);
}

function submit(token) {
  const asked = { model: models.video('lucy-2.5'), prompt: 'hello', data: new Blob(['frames']) };
  return connect(token).queue.submit(asked);
}

function session(token, provider) {
  const options = { model: models.realtime('lucy-2.5'), onRemoteStream: () => {} };
  return connect(token, provider).realtime.connect(null, options);
}

async function secondSession(token) {
  const first = await session(token);
  try {
    await session(token);
  } finally {
    first.disconnect();
  }
}

async function longMessage(token) {
  const realtime = await session(token);
  try {
    await realtime.setPrompt('long '.repeat(40_000));
  } finally {
    realtime.disconnect();
  }
}

const mint = (token, options) => connect(token).tokens.create(options);

const CASES = {
  '401': () => image('nobody'),
  '403': () => image('other_model'),
  '404': () => image('any', 'nowhere'),
  '413': () => image('any', 'decart', 'long '.repeat(400_000)),
  '429': () => twice('once_a_minute'),
  '502, key rejected': () => image('any', 'decart-rejects'),
  '502, connection cut': () => image('any', 'decart-drops'),
  '502, unreachable': () => image('any', 'decart-gone'),
  'submit': () => submit('other_model'),
  'status': () => connect('any').queue.status('job_1'),
  'mint, not allowed': () => mint('any'),
  'mint, out of range': () => mint('minter', { expiresIn: 0 }),
  'mint, wrong origin': () => mint('minter', { allowedOrigins: ['https://app.test/path'] }),
  'session, 401': () => session('nobody'),
  'session, 403': () => session('other_model'),
  'session, 404': () => session('any', 'nowhere'),
  'session, too big': () => longMessage('any'),
  'session, 429': () => secondSession('one_at_a_time'),
  'session, 502': () => session('any', 'decart-rejects'),
};

const results = {};
for (const [case_, attempt] of Object.entries(CASES)) {
  try {
    await attempt();
    results[case_] = { class: null };
  } catch (error) {
    const told = error.message.match(/\b([45]\d\d)\b/);
    results[case_] = {
      class: error.code ?? error.constructor.name,
      status: told ? Number(told[1]) : null,
      message: error.message,
    };
  }
}
console.log(JSON.stringify(results));
process.exit(0);
