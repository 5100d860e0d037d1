"""The one request, sent once: before anything is measured, each target must answer it rightly."""

import http.client
import json

from . import nginx, settings
from .process import Failed

PATH = "/v1/chat/completions"
BODY = json.dumps(
    {"model": settings.MODEL, "messages": [{"role": "user", "content": "hello"}]},
    separators=(",", ":"),
)


def send(address, token, path=PATH, origin=settings.ORIGIN, body=BODY, method="POST"):
    """Status and body of the answer."""
    headers = {"Content-Type": "application/json", "Origin": origin}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


def expect(what, address, token, status, **changed):
    """Fails unless the answer has that status; a 200 must also be the upstream's answer."""
    got, body = send(address, token, **changed)
    if got != status:
        raise Failed(f"{what}: {status} was expected, {got} came: {body[:300]}")
    if status == 200 and body != nginx.ANSWER:
        raise Failed(f"{what}: that is not the upstream's answer: {body[:300]}")
