// keygate with Google's library (@google/genai): Live, sessions over a WebSocket.
//
// The library makes the WebSocket's address of the base URL: https:// becomes wss://. A test CA is
// named with NODE_EXTRA_CA_CERTS, as for everything in Node. The model is in the first message.
//
// Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
// Prints one line of JSON: what came back.

import { GoogleGenAI, Modality } from '@google/genai';

const client = new GoogleGenAI({
  apiKey: process.env.KEYGATE_TOKEN,
  httpOptions: { baseUrl: process.env.KEYGATE_URL },
});

const pieces = [];
const turn = Promise.withResolvers();
const session = await client.live.connect({
  model: 'gemini-2.5-flash',
  config: { responseModalities: [Modality.TEXT] },
  callbacks: {
    onmessage(message) {
      if (message.text) pieces.push(message.text);
      if (message.serverContent?.turnComplete) turn.resolve();
    },
    onerror: (event) => turn.reject(event.error),
    onclose: (event) => turn.reject(new Error(`closed: ${event.code} ${event.reason}`)),
  },
});
session.sendClientContent({ turns: 'gemini live', turnComplete: true });
await turn.promise;
session.close();
console.log(JSON.stringify({ live: { text: pieces.join(''), pieces: pieces.length } }));
