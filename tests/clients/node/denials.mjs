// What keygate's refusals become in each library: the errors to expect and to handle.
//
//   denials.mjs openai|anthropic|gemini|fetch
//
// Every case is asked with the library's own defaults, retries too, except where it says otherwise.
// Environment: KEYGATE_URL, KEYGATE_TOKENS (JSON: what each token of the cases below is).
// Prints one line of JSON: by case, the error's class, its status and its message.

const url = process.env.KEYGATE_URL;
const tokens = JSON.parse(process.env.KEYGATE_TOKENS);

// Case: whose token, what is put before the path, what is said.
const CASES = {
  401: ['nobody', '', 'hello'],
  403: ['other_model', '', 'hello'],
  '403, streaming': ['other_model', '', 'hello'],
  404: ['any', '/nowhere', 'hello'],
  413: ['any', '', 'long '.repeat(400_000)],
  // The second request is one too many; retries are off, to see the error.
  429: ['once_a_minute', '', 'hello'],
  // The second request is one too many; a library that retries waits until it may.
  '429, retried': ['once_in_three_seconds', '', 'hello'],
  '502, key rejected': ['any', '/{}-rejects', 'hello'],
  '502, connection cut': ['any', '/{}-drops', 'hello'],
  '502, unreachable': ['any', '/{}-gone', 'hello'],
};

const LIBRARIES = {
  async openai(url, apiKey, content, stream, options) {
    const { OpenAI } = await import('openai');
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, ...options });
    const messages = [{ role: 'user', content }];
    const answer = await client.chat.completions.create({ model: 'gpt-4o-mini', messages, stream });
    if (stream) await Array.fromAsync(answer);
  },

  async anthropic(baseURL, apiKey, content, stream, options) {
    const { Anthropic } = await import('@anthropic-ai/sdk');
    const client = new Anthropic({ baseURL, apiKey, ...options });
    const messages = [{ role: 'user', content }];
    const asked = { model: 'claude-sonnet-5-5', max_tokens: 100, messages };
    if (stream) await client.messages.stream(asked).finalMessage();
    else await client.messages.create(asked);
  },

  // It never retries unless it is told to.
  async gemini(baseUrl, apiKey, contents, stream) {
    const { GoogleGenAI } = await import('@google/genai');
    const client = new GoogleGenAI({ apiKey, httpOptions: { baseUrl } });
    const asked = { model: 'gemini-2.5-flash', contents };
    if (stream) await Array.fromAsync(await client.models.generateContentStream(asked));
    else await client.models.generateContent(asked);
  },

  // Nothing is thrown and nothing retried: the answer says it all.
  async fetch(url, token, content, stream) {
    const answer = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${token}` },
      body: JSON.stringify({ model: 'gpt-4o-mini', stream, messages: [{ role: 'user', content }] }),
    });
    const { status, headers } = answer;
    if (!answer.ok) {
      const error = new Error(await answer.text(), { cause: headers.get('x-keygate-error') });
      throw Object.assign(error, { status, name: 'Response' });
    }
  },
};

const [, , name] = process.argv;
const ask = LIBRARIES[name];
const vendor = name === 'fetch' ? 'openai' : name;
const results = {};
for (const [case_, [token, prefix, text]] of Object.entries(CASES)) {
  const where = url + prefix.replace('{}', vendor);
  const options = case_ === '429' ? { maxRetries: 0 } : {};
  const stream = case_.endsWith('streaming');
  if (case_.startsWith('429')) await ask(where, tokens[token], text, stream, {});
  const started = performance.now();
  let result = { class: null };
  try {
    await ask(where, tokens[token], text, stream, options);
  } catch (error) {
    const { name, status = null, message } = error;
    result = { class: name === 'Error' ? error.constructor.name : name, status, message };
  }
  results[case_] = { ...result, seconds: (performance.now() - started) / 1000 };
}
console.log(JSON.stringify(results));
