"""keygate with everything on: store token, origin, model, rate, concurrency, log and metrics."""

import hashlib
import http.client
import json
import os
import subprocess
import time

from . import build, request, settings
from .process import Failed, free_address, pinned, wait_until

CONFIG = """\
listen:
  - address: {listen}
store:
  sqlite: {state}/keygate.db
admin:
  address: {admin}
access_log: {{ file: {state}/keygate.access.log }}
providers:
  openai:
    kind: openai
    url: http://{upstream}
    keys: [{{ file: {state}/provider.key }}]
  streaming:
    kind: openai
    url: http://{streaming}
    routes: []
    keys: [{{ file: {state}/provider.key }}]
  streams: {{ kind: durable-streams, url: "http://{streaming}" }}
limits: {{ connections_per_address: 10000 }}
policies:
  reader:
    providers: [streams]
    methods: [GET, HEAD]
    paths: ["/v1/stream/user-42/*"]
    origins: ["{origin}"]
    rate_limit: {{ requests: 16777215, per: 60s }}
    concurrency: 10000
  writer: {{ providers: [streams] }}
  bench:
    providers: [openai, streaming]
    methods: [GET, POST]
    paths: ["/v1/chat/*", "/v1/realtime"]
    models: ["{model}", "gpt-realtime*"]
    origins: ["{origin}"]
    rate_limit: {{ requests: 16777215, per: 60s }}
    concurrency: 10000
  # The same, but for the models: nothing is looked for.
  open:
    providers: [openai, streaming]
    methods: [GET, POST]
    paths: ["/v1/chat/*", "/v1/realtime"]
    origins: ["{origin}"]
    rate_limit: {{ requests: 16777215, per: 60s }}
    concurrency: 10000
default_policy:
  rate_limit: {{ requests: 100, per: 60s }}
"""


def signed(address, token):
    """The signed form of a client token that was minted with this one; it has the same limits."""
    body = json.dumps({"expiresIn": 3600})
    status, text = request.send(address, token, path="/v1/client/tokens", body=body)
    if status != 200:
        raise Failed(f"keygate: no client token was minted: {text[:300]}")
    return json.loads(text)["token"]


class Gateway:
    """A running keygate and tokens of its store."""

    def __init__(self, group, upstream, streaming, static_tokens=(), pair=None):
        self.state = group.state
        self.address = free_address()
        self.tls_address = free_address() if pair else None
        self._pair = pair
        self.admin = free_address()
        self._upstreams = {"upstream": upstream, "streaming": streaming}
        self._config = self.state / "keygate.yaml"
        key = self.state / "provider.key"
        key.write_text("sk-not-a-real-key-0123456789\n")
        key.chmod(0o600)
        self.write_config(static_tokens)
        # Each of the policy of its name, and there before the start: nobody has to wait for them.
        self.tokens = {name: self.create_token(name) for name in ("reader", "writer")}
        self.token = self.tokens["bench"] = self.create_token("bench", "--may-mint")
        command = [build.KEYGATE, "serve", "-c", self._config]
        self.process = group.start("keygate", settings.PROXY_CORE, command)
        self.process.wait_listening(self.address)
        wait_until("keygate to be ready", lambda: self.scrape("/readyz") is not None)

    def write_config(self, static_tokens=()):
        """Writes the configuration, with these plain tokens by their hashes."""
        text = CONFIG.format(
            listen=self.address,
            admin=self.admin,
            state=self.state,
            model=settings.MODEL,
            origin=settings.ORIGIN,
            **self._upstreams,
        )
        if self._pair:
            cert, key = self._pair
            tls = f"  - {{ address: {self.tls_address}, tls: {{ cert: {cert}, key: {key} }} }}\n"
            text = text.replace("store:\n", f"{tls}store:\n", 1)
        if static_tokens:
            text += "tokens:\n"
        for number, token in enumerate(static_tokens):
            digest = hashlib.sha256(token.encode()).hexdigest()
            text += f'  - {{ name: static-{number}, sha256: "{digest}", policy: bench }}\n'
        # Replaced in one step, as an editor or a deployment would.
        fresh = self._config.with_suffix(".new")
        fresh.write_text(text)
        fresh.chmod(0o600)
        os.replace(fresh, self._config)

    def create_token(self, policy, *flags):
        """A token of the store under a policy of that name."""
        words = ("token", "create", "--name", policy, "--policy", policy, *flags, "--json")
        return json.loads(self.command(*words))["token"]

    def command(self, *words):
        """Runs a command of keygate's and returns what it prints."""
        command = pinned(settings.LOAD_CORE, [build.KEYGATE, *words, "-c", self._config])
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"keygate {words[0]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout + done.stderr

    def scrape(self, path):
        """What the admin listener answers with 200; None if it doesn't."""
        connection = http.client.HTTPConnection(self.admin, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode()
            return text if answer.status == 200 else None
        except OSError:
            return None
        finally:
            connection.close()

    def prove_everything_is_on(self):
        """Each check must be seen to refuse, and log and metrics to count."""
        at, token = self.address, self.token
        other = request.BODY.replace(settings.MODEL, "gpt-other")
        request.expect("keygate, all in order", at, token, 200)
        request.expect("keygate, without a token", at, None, 401)
        request.expect("keygate, another's token", at, "ptk_" + "A" * 32, 401)
        request.expect("keygate, another origin", at, token, 403, origin="https://evil.example")
        request.expect("keygate, another model", at, token, 403, body=other)
        request.expect("keygate, another path", at, token, 403, path="/v1/embeddings")
        log = self.state / "keygate.access.log"
        wait_until("a line in the access log", lambda: log.exists() and log.stat().st_size > 0)
        if "keygate" not in (self.scrape("/metrics") or ""):
            raise Failed("keygate: no metrics on the admin listener")

    def reload(self):
        """Seconds that the command took, and what it printed."""
        start = time.monotonic()
        output = self.command("reload")
        return time.monotonic() - start, output
