// keygate with OpenAI's library: change the base URL, give the token instead of the key.
//
// Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
// Prints one line of JSON: what came back.

import OpenAI from 'openai';

const client = new OpenAI({
  baseURL: `${process.env.KEYGATE_URL}/v1`,
  apiKey: process.env.KEYGATE_TOKEN,
});
const model = 'gpt-4o-mini';
const results = {};

// Chat, plain.
const completion = await client.chat.completions.create({
  model, messages: [{ role: 'user', content: 'openai plain chat' }],
});
results.chat = completion.choices[0].message.content;
results.chat_tokens = completion.usage.total_tokens;

// Chat, streaming, with the usage at the end.
const pieces = [];
const stream = await client.chat.completions.create({
  model,
  messages: [{ role: 'user', content: 'openai streaming chat' }],
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  if (chunk.choices[0]?.delta.content) pieces.push(chunk.choices[0].delta.content);
  if (chunk.usage) results.chat_stream_tokens = chunk.usage.total_tokens;
}
results.chat_stream = pieces.join('');
results.chat_stream_pieces = pieces.length;

// Responses, plain and streaming.
const response = await client.responses.create({ model, input: 'openai plain response' });
results.response = response.output_text;

const events = client.responses.stream({ model, input: 'openai streaming response' });
const kinds = [];
for await (const event of events) kinds.push(event.type);
results.response_stream = (await events.finalResponse()).output_text;
results.response_stream_ends = [kinds.at(0), kinds.at(-1)];

// The models that may be used.
results.models = (await client.models.list()).data.map((found) => found.id);

console.log(JSON.stringify(results));
