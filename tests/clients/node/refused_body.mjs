// A refusal reaches a client that is still sending: 5 MB by Node's `fetch`, which is undici.
//
// Environment: KEYGATE_URL, KEYGATE_TLS (the same gateway with and without TLS), KEYGATE_CASES (JSON:
// name of a case to its path and token).
// Prints one line of JSON: by client and case, the status and the `x-keygate-error`.

const cases = JSON.parse(process.env.KEYGATE_CASES);
const body = 'x'.repeat(5_000_000);

async function ask(url) {
  const results = {};
  for (const [name, [path, token]] of Object.entries(cases)) {
    try {
      const answer = await fetch(url + path, {
        method: 'POST',
        headers: { 'Content-Type': 'text/plain', Authorization: `Bearer ${token}` },
        body,
      });
      await answer.text();
      results[name] = [answer.status, answer.headers.get('x-keygate-error')];
    } catch (error) {
      results[name] = [error.name, String(error.cause ?? error)];
    }
  }
  return results;
}

const { KEYGATE_URL, KEYGATE_TLS } = process.env;
console.log(JSON.stringify({ fetch: await ask(KEYGATE_URL), 'fetch, TLS': await ask(KEYGATE_TLS) }));
