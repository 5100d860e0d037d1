// keygate with Google's library (@google/genai): a file in a resumable upload.
//
// The address of the upload's second leg comes from the provider; keygate leads it back to itself,
// with a ticket in it that is good for this upload alone.
//
// Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
// Prints one line of JSON: what came back.

import { GoogleGenAI, createPartFromUri, createUserContent } from '@google/genai';

const client = new GoogleGenAI({
  apiKey: process.env.KEYGATE_TOKEN,
  httpOptions: { baseUrl: process.env.KEYGATE_URL },
});

// More than the library sends at once.
const content = new Blob(['0123456789'.repeat(900_000)], { type: 'text/plain' });
const file = await client.files.upload({ file: content });

const answer = await client.models.generateContent({
  model: 'gemini-2.5-flash',
  contents: createUserContent([createPartFromUri(file.uri, file.mimeType), 'what is in it']),
});
console.log(JSON.stringify({
  size: Number(file.sizeBytes), state: file.state, content: answer.text,
}));
