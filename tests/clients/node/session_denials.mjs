// What keygate's refusals become in sessions over a WebSocket: the errors to expect.
//
//   session_denials.mjs openai|responses|gemini|ws
//
// Before the session is open a refusal is an HTTP status, afterwards a close code.
// Environment: KEYGATE_URL, KEYGATE_TOKENS (JSON: what each token of the cases below is).
// Prints one line of JSON: by case, the error's class, its message or the close's code and reason.

const url = process.env.KEYGATE_URL;
const tokens = JSON.parse(process.env.KEYGATE_TOKENS);

// Case: whose token, what is put before the path, what is said.
const CASES = {
  401: ['nobody', '', 'hello'],
  403: ['other_model', '', 'hello'],
  404: ['any', '/nowhere', 'hello'],
  // The socket is open when the message turns out to be too big.
  413: ['unscoped', '', 'long '.repeat(40_000)],
  // The second session is one too many.
  429: ['one_at_a_time', '', 'hello'],
  502: ['unscoped', '/{}-rejects', 'hello'],
};

// Each opens a session and says something once it is open; `tell` hears 'open', errors and closes.
const LIBRARIES = {
  async openai(url, apiKey, text, tell) {
    const { OpenAI } = await import('openai');
    const { OpenAIRealtimeWS } = await import('openai/realtime/ws');
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey });
    const session = new OpenAIRealtimeWS({ model: 'gpt-realtime' }, client);
    session.on('error', tell);
    session.socket.on('close', (code, reason) => tell({ code, reason: `${reason}` }));
    session.on('session.created', () => {
      session.send({
        type: 'conversation.item.create',
        item: { type: 'message', role: 'user', content: [{ type: 'input_text', text }] },
      });
      tell('open');
    });
    return () => session.close();
  },

  async responses(url, apiKey, text, tell) {
    const { OpenAI } = await import('openai');
    const { ResponsesWS } = await import('openai/resources/responses/ws');
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey });
    const session = new ResponsesWS(client);
    session.on('error', tell);
    session.on('close', (code, reason) => tell({ code, reason: `${reason}` }));
    session.on('response.created', () => tell('open'));
    session.send({ type: 'response.create', model: 'gpt-4o-mini', input: text });
    return () => session.close();
  },

  async gemini(baseUrl, apiKey, text, tell) {
    const { GoogleGenAI } = await import('@google/genai');
    const client = new GoogleGenAI({ apiKey, httpOptions: { baseUrl } });
    let session;
    const connected = client.live.connect({
      model: 'gemini-2.5-flash',
      callbacks: {
        onmessage: () => tell('open'),
        // Where none was opened, `connect` says why, but later.
        onclose: ({ code, reason }) => session && tell({ code, reason }),
      },
    });
    connected.then((opened) => {
      session = opened;
      session.sendRealtimeInput({ text });
    }, tell);
    return () => session?.close();
  },

  async ws(url, token, text, tell) {
    const { WebSocket } = await import('ws');
    const headers = { Authorization: `Bearer ${token}` };
    const path = '/v1/realtime?model=gpt-realtime';
    const socket = new WebSocket(url.replace(/^http/, 'ws') + path, { headers });
    socket.on('error', tell);
    socket.on('close', (code, reason) => tell({ code, reason: `${reason}` }));
    socket.once('message', () => {
      socket.send(JSON.stringify({ type: 'session.update', session: { text } }));
      tell('open');
    });
    return () => socket.close();
  },
};

// Resolves with what was told first: 'open', or why there is no session (any more). A session that
// opens is given a moment more where it is expected to be closed.
async function attempt(connect, where, token, text, waitForClose) {
  const { promise, resolve } = Promise.withResolvers();
  const close = await connect(where, token, text, (told) => {
    if (told !== 'open' || !waitForClose) resolve(told);
  });
  return { told: await promise, close };
}

const [, , name] = process.argv;
const connect = LIBRARIES[name];
const vendor = name === 'gemini' ? 'gemini' : 'openai';
const results = {};
for (const [case_, [token, prefix, text]] of Object.entries(CASES)) {
  const where = url + prefix.replace('{}', vendor);
  const before = case_ === '429' ? await attempt(connect, where, tokens[token], text, false) : null;
  const { told, close } = await attempt(connect, where, tokens[token], text, true);
  close();
  before?.close();
  results[case_] = told instanceof Error
    ? { class: told.constructor.name, message: told.message }
    : { class: 'close', status: told.code, message: told.reason };
}
console.log(JSON.stringify(results));
process.exit(0);
