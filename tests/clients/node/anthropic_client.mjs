// keygate with Anthropic's library: the host is enough, the paths are the same.
//
// Current versions send `Authorization: Bearer` whether the token is given as `apiKey` or as
// `authToken`; older ones sent `x-api-key` for the first. keygate takes either.
//
// Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
// Prints one line of JSON: what came back.

import Anthropic from '@anthropic-ai/sdk';

const baseURL = process.env.KEYGATE_URL;
const token = process.env.KEYGATE_TOKEN;
const model = 'claude-sonnet-5-5';
const results = {};
const ways = {
  api_key: new Anthropic({ baseURL, apiKey: token }),
  auth_token: new Anthropic({ baseURL, authToken: token }),
};

for (const [way, client] of Object.entries(ways)) {
  // Plain.
  const message = await client.messages.create({
    model, max_tokens: 100, messages: [{ role: 'user', content: `anthropic plain ${way}` }],
  });

  // Streaming.
  const pieces = [];
  const stream = client.messages.stream({
    model, max_tokens: 100, messages: [{ role: 'user', content: `anthropic streaming ${way}` }],
  });
  stream.on('text', (text) => pieces.push(text));
  const final = await stream.finalMessage();

  results[way] = {
    message: message.content[0].text,
    tokens: message.usage.output_tokens,
    stream: pieces.join(''),
    stream_pieces: pieces.length,
    stream_tokens: final.usage.output_tokens,
    stream_stop: final.stop_reason,
  };
}

results.models = (await ways.api_key.models.list()).data.map((found) => found.id);
console.log(JSON.stringify(results));
