// keygate with nothing but `fetch`, as in a browser: OpenAI's chat, plain and streaming.
//
// Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN.
// Prints one line of JSON: what came back.

function ask(content, stream) {
  return fetch(`${process.env.KEYGATE_URL}/v1/chat/completions`, {
    method: 'POST',
    headers: {
      'Content-Type': 'application/json',
      Authorization: `Bearer ${process.env.KEYGATE_TOKEN}`,
    },
    body: JSON.stringify({ model: 'gpt-4o-mini', stream, messages: [{ role: 'user', content }] }),
  });
}

// Plain.
const completion = await (await ask('fetch plain', false)).json();

// Streaming: events are separated by an empty line.
const pieces = [];
let rest = '';
const answer = await ask('fetch streaming', true);
for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
  const events = (rest + text).split('\n\n');
  rest = events.pop();
  for (const event of events) {
    const data = event.replace(/^data: /, '');
    if (data === '[DONE]') continue;
    const piece = JSON.parse(data).choices[0]?.delta.content;
    if (piece) pieces.push(piece);
  }
}

console.log(JSON.stringify({
  chat: completion.choices[0].message.content,
  stream: pieces.join(''),
  stream_pieces: pieces.length,
  request_id: answer.headers.get('x-request-id'),
}));
