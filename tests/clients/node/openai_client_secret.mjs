// An app's server with OpenAI's library: a client secret for a browser, minted by keygate.
//
// The server holds a proxy token that may mint. What comes back goes to the page, which opens its own
// realtime session with it: see converse() in tests/browser/app.js.
//
// Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
// Prints one line of JSON: what the page is given.

import OpenAI from 'openai';

const client = new OpenAI({
  baseURL: `${process.env.KEYGATE_URL}/v1`,
  apiKey: process.env.KEYGATE_TOKEN,
});
const { value, expires_at, session } = await client.realtime.clientSecrets.create({
  expires_after: { anchor: 'created_at', seconds: 120 },
  session: { type: 'realtime', model: 'gpt-realtime', output_modalities: ['text'] },
});
console.log(JSON.stringify({
  value, expires_at, type: session.type, model: session.model,
  output_modalities: session.output_modalities,
}));
