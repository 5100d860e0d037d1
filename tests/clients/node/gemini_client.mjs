// keygate with Google's library (@google/genai): set the base URL, give the token as the key.
//
// The host alone is enough to generate. The list of models may have the same path as OpenAI's:
// the prefix `/gemini` says whose is meant.
//
// Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
// Prints one line of JSON: what came back.

import { GoogleGenAI } from '@google/genai';

const model = 'gemini-2.5-flash';
const connect = (prefix = '') => new GoogleGenAI({
  apiKey: process.env.KEYGATE_TOKEN,
  httpOptions: { baseUrl: process.env.KEYGATE_URL + prefix },
});
const client = connect();
const results = {};

// Plain.
const answer = await client.models.generateContent({ model, contents: 'gemini plain' });
results.content = answer.text;
results.tokens = answer.usageMetadata.totalTokenCount;

// Streaming.
const pieces = [];
const stream = await client.models.generateContentStream({ model, contents: 'gemini streaming' });
for await (const chunk of stream) pieces.push(chunk.text);
results.stream = pieces.join('');
results.stream_pieces = pieces.length;

// The models that may be used.
results.models = [];
for await (const found of await connect('/gemini').models.list()) results.models.push(found.name);

console.log(JSON.stringify(results));
