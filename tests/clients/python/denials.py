"""What keygate's refusals become in each library: the exceptions to expect and to handle.

    denials.py openai|anthropic|gemini

Every case is asked with the library's own defaults, retries too, except where it says otherwise.
Environment: KEYGATE_URL, KEYGATE_TOKENS (JSON: what each token of the cases below is).
Prints one line of JSON: by case, the exception's class, its status and its message.
"""

import json
import os
import sys
import time

URL, TOKENS = os.environ["KEYGATE_URL"], json.loads(os.environ["KEYGATE_TOKENS"])

# Case: whose token, what is put before the path, what is said.
CASES = {
    "401": ("nobody", "", "hello"),
    "403": ("other_model", "", "hello"),
    "403, streaming": ("other_model", "", "hello"),
    "404": ("any", "/nowhere", "hello"),
    "413": ("any", "", "long " * 400_000),
    # The second request is one too many; retries are off, to see the exception.
    "429": ("once_a_minute", "", "hello"),
    # The second request is one too many; a library that retries waits until it may.
    "429, retried": ("once_in_three_seconds", "", "hello"),
    "502, key rejected": ("any", "/{}-rejects", "hello"),
    "502, connection cut": ("any", "/{}-drops", "hello"),
    "502, unreachable": ("any", "/{}-gone", "hello"),
}


def openai(url, token, text, stream, **options):
    """Asks with OpenAI's library."""
    import openai

    client = openai.OpenAI(base_url=url + "/v1", api_key=token, **options)
    messages = [{"role": "user", "content": text}]
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=stream)
    return list(answer)


def anthropic(url, token, text, stream, **options):
    """Asks with Anthropic's library."""
    import anthropic

    client = anthropic.Anthropic(base_url=url, api_key=token, **options)
    messages = [{"role": "user", "content": text}]
    asked = {"model": "claude-sonnet-5-5", "max_tokens": 100, "messages": messages}
    if not stream:
        return client.messages.create(**asked)
    with client.messages.stream(**asked) as events:
        return list(events)


def gemini(url, token, text, stream, max_retries=None):
    """Asks with Google's library, which never retries unless it is told to."""
    from google import genai

    client = genai.Client(api_key=token, http_options={"base_url": url})
    models = client.models
    generate = models.generate_content_stream if stream else models.generate_content
    return list(generate(model="gemini-2.5-flash", contents=text))


name = sys.argv[1]
ask = {"openai": openai, "anthropic": anthropic, "gemini": gemini}[name]
results = {}
for case, (token, prefix, text) in CASES.items():
    where = URL + prefix.format(name)
    options = {"max_retries": 0} if case == "429" else {}
    stream = case.endswith("streaming")
    if case.startswith("429"):
        ask(where, TOKENS[token], text, stream)
    started = time.monotonic()
    try:
        ask(where, TOKENS[token], text, stream, **options)
        result = {"class": None}
    except Exception as error:
        status = getattr(error, "status_code", None) or getattr(error, "code", None)
        result = {"class": type(error).__name__, "status": status, "message": str(error)}
    results[case] = {**result, "seconds": time.monotonic() - started}
print(json.dumps(results))
