// keygate with OpenAI's library: realtime, and responses over a WebSocket.
//
// The library makes the WebSocket's address of the base URL: https:// becomes wss://. A test CA is
// named with NODE_EXTRA_CA_CERTS, as for everything in Node.
//
// Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
// Prints one line of JSON: what came back.

import OpenAI from 'openai';
import { OpenAIRealtimeWS } from 'openai/realtime/ws';
import { ResponsesWS } from 'openai/resources/responses/ws';

const client = new OpenAI({
  baseURL: `${process.env.KEYGATE_URL}/v1`,
  apiKey: process.env.KEYGATE_TOKEN,
});

// Realtime: the model is in the URL.
function realtime(text) {
  return new Promise((resolve, reject) => {
    const session = new OpenAIRealtimeWS({ model: 'gpt-realtime' }, client);
    const pieces = [];
    session.on('error', reject);
    session.socket.on('open', () => {
      session.send({
        type: 'session.update', session: { type: 'realtime', output_modalities: ['text'] },
      });
      session.send({
        type: 'conversation.item.create',
        item: { type: 'message', role: 'user', content: [{ type: 'input_text', text }] },
      });
      session.send({ type: 'response.create' });
    });
    session.on('response.output_text.delta', (event) => pieces.push(event.delta));
    session.on('response.done', () => {
      session.close();
      resolve({ text: pieces.join(''), pieces: pieces.length });
    });
  });
}

// Responses: the model is in every message.
function responses(text) {
  return new Promise((resolve, reject) => {
    const session = new ResponsesWS(client);
    const pieces = [];
    session.on('error', reject);
    session.on('response.output_text.delta', (event) => pieces.push(event.delta));
    session.on('response.completed', () => {
      session.close();
      resolve({ text: pieces.join(''), pieces: pieces.length });
    });
    session.send({ type: 'response.create', model: 'gpt-4o-mini', input: text });
  });
}

console.log(JSON.stringify({
  realtime: await realtime('openai realtime'),
  responses: await responses('openai responses socket'),
}));
