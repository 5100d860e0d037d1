// google-genai with keygate: an app's server mints an auth token, a device opens Live with it.
//
// The server holds a proxy token that may mint; the device has the token's name and nothing else.
//
// Arguments: a model to bind the token to, if it is to be bound.
// Environment: KEYGATE_URL (such as https://127.0.0.1:8443), KEYGATE_TOKEN.
// Prints one line of JSON: the token, what came back, and what a second session got.

import { GoogleGenAI, Modality } from '@google/genai';

const httpOptions = { baseUrl: process.env.KEYGATE_URL, apiVersion: 'v1alpha' };

async function live(client) {
  const pieces = [];
  const turn = Promise.withResolvers();
  // A session that is refused rejects connect() below as well.
  turn.promise.catch(() => {});
  const session = await client.live.connect({
    model: 'gemini-2.5-flash',
    config: { responseModalities: [Modality.TEXT] },
    callbacks: {
      onmessage(message) {
        if (message.text) pieces.push(message.text);
        if (message.serverContent?.turnComplete) turn.resolve();
      },
      onerror: (event) => turn.reject(event.error ?? new Error(event.message)),
      onclose: (event) => turn.reject(new Error(`closed: ${event.code} ${event.reason}`)),
    },
  });
  session.sendClientContent({ turns: 'an auth token', turnComplete: true });
  await turn.promise;
  session.close();
  return { text: pieces.join(''), pieces: pieces.length };
}

const later = (minutes) => new Date(Date.now() + minutes * 60_000).toISOString();
const server = new GoogleGenAI({ apiKey: process.env.KEYGATE_TOKEN, httpOptions });
const [model] = process.argv.slice(2);
const token = await server.authTokens.create({
  config: {
    uses: 1,
    expireTime: later(20),
    newSessionExpireTime: later(2),
    ...(model && { liveConnectConstraints: { model } }),
  },
});
const device = new GoogleGenAI({ apiKey: token.name, httpOptions });
const results = { name: token.name, live: await live(device) };
try {
  await live(device);
} catch (error) {
  results.again = Number(/\b4\d\d\b/.exec(error.message)?.[0]) || error.message;
}
console.log(JSON.stringify(results));
