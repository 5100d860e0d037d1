// keygate from a web page, with nothing but what browsers have.
//
// The page is on another origin than the gateway, so the browser asks for permission first (a
// preflight); keygate answers that by itself. `gateway` is { url: 'https://gate.example.com', token }:
// a token whose policy names this page's origin, since everybody who opens the page can read it.

// What keygate refuses says why: a stable code, a sentence, and when to come back.
export class Denied extends Error {
  constructor(message, response) {
    super(message);
    this.name = 'Denied';
    this.status = response.status;
    this.code = response.headers.get('x-keygate-error');
    this.requestId = response.headers.get('x-request-id');
    this.retryAfter = response.headers.get('retry-after');
  }
}

// Any request: a path as the provider has it, and what `fetch` takes.
export async function ask({ url, token }, path, { headers, ...options } = {}) {
  const authorization = token ? { authorization: `Bearer ${token}` } : {};
  const response = await fetch(url + path, { ...options, headers: { ...authorization, ...headers } });
  if (response.ok) return response;
  const { error } = await response.json();
  throw new Denied(error.message, response);
}

function complete(gateway, text, options) {
  return ask(gateway, '/v1/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'gpt-4o-mini', messages: [{ role: 'user', content: text }], ...options,
    }),
  });
}

// A chat, and the headers that the page may read beside the answer.
export async function chat(gateway, text) {
  const response = await complete(gateway, text);
  const { choices } = await response.json();
  return { text: choices[0].message.content, headers: Object.fromEntries(response.headers) };
}

// The same as a stream: for await (const piece of stream(…)) show(piece);
export async function* stream(gateway, text) {
  const response = await complete(gateway, text, { stream: true });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const events = (rest + value).split('\n\n');
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, '');
      if (data === '[DONE]') return;
      yield JSON.parse(data).choices[0].delta.content;
    }
  }
}

// Server-sent events without `fetch`: an EventSource can't set headers, so the token is a query
// parameter. It comes back by itself when a stream breaks, but is never told why it was refused.
export async function* listen({ url, token }, path) {
  const source = new EventSource(`${url}${path}?key=${token}`);
  const events = new ReadableStream({
    start(events) {
      source.onmessage = ({ data }) => events.enqueue(data);
      source.onerror = () => {
        if (source.readyState === EventSource.CLOSED) events.error(new Error('refused'));
      };
    },
    cancel: () => source.close(),
  });
  yield* events;
}

// A durable stream, read with the token: what is there from an offset on, and where to go on.
export async function read(gateway, path, offset = '-1') {
  const response = await ask(gateway, `${path}?offset=${offset}`);
  return { text: await response.text(), next: response.headers.get('stream-next-offset') };
}

// The same, followed: an EventSource that carries the cookie which your own server has set for the
// gateway (`Secure; HttpOnly; Path=/v1/stream`, and `SameSite=None` if the sites differ).
export async function* follow({ url }, path, offset = '-1') {
  const source = new EventSource(`${url}${path}?offset=${offset}&live=sse`, { withCredentials: true });
  const events = new ReadableStream({
    start(events) {
      source.addEventListener('data', ({ data }) => events.enqueue(data));
      source.onerror = () => {
        if (source.readyState === EventSource.CLOSED) events.error(new Error('refused'));
      };
    },
    cancel: () => source.close(),
  });
  yield* events;
}

// A WebSocket can't set headers either: the token is offered as a subprotocol, beside one that can
// be chosen. Either ['realtime', `openai-insecure-api-key.${token}`], as OpenAI's library does, or
// ['keygate', `keygate.${token}`]. Says one thing and gives what came back.
export function converse({ url }, path, protocols, text) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url.replace(/^http/, 'ws') + path, protocols);
    let heard;
    socket.onopen = () => socket.send(text);
    socket.onmessage = ({ data }) => {
      heard = data;
      socket.close(1000, 'done');
    };
    socket.onclose = ({ code, wasClean }) => {
      // Why it was refused is hidden from pages: the code is 1006 whatever the reason.
      if (heard === undefined) reject(Object.assign(new Error('refused'), { code }));
      else resolve({ heard, protocol: socket.protocol, code, wasClean });
    };
  });
}
