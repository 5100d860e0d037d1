// keygate with `ws` from Node: realtime sessions over a WebSocket.
//
// A server puts the token into the Authorization header. A browser can't set headers: it puts the
// token into a subprotocol, either the one that OpenAI's own library for browsers uses, or
// keygate's.
//
// Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
// Prints one line of JSON: what came back.

import WebSocket from 'ws';

const url = process.env.KEYGATE_URL.replace(/^http/, 'ws') + '/v1/realtime?model=gpt-realtime';
const token = process.env.KEYGATE_TOKEN;

// Opens a session, says one thing, gives what was chosen and what was answered.
function converse(protocols, headers, text) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, protocols, { headers });
    const result = { protocol: '', text: '', pieces: 0, total_tokens: 0 };
    socket.on('error', reject);
    socket.on('message', (data) => {
      const event = JSON.parse(data);
      switch (event.type) {
        case 'session.created':
          result.protocol = socket.protocol;
          socket.send(JSON.stringify({
            type: 'conversation.item.create',
            item: { type: 'message', role: 'user', content: [{ type: 'input_text', text }] },
          }));
          socket.send(JSON.stringify({ type: 'response.create' }));
          break;
        case 'response.output_text.delta':
          result.text += event.delta;
          result.pieces += 1;
          break;
        case 'response.done':
          result.total_tokens = event.response.usage.total_tokens;
          socket.close(1000);
          break;
        case 'error':
          reject(new Error(event.error.message));
      }
    });
    socket.on('close', (code) => resolve({ ...result, close: code }));
  });
}

const results = {
  header: await converse(['realtime'], { Authorization: `Bearer ${token}` }, 'header'),
  openai_subprotocol: await converse(
    ['realtime', `openai-insecure-api-key.${token}`], {}, 'openai subprotocol'),
  keygate_subprotocol: await converse(
    ['keygate', `keygate.${token}`], {}, 'keygate subprotocol'),
};
console.log(JSON.stringify(results));
