"""A refusal reaches a client that is still sending: 5 MB by `http.client`, by a socket that sends all
before it reads, and by the `h2` library.

Environment: KEYGATE_URL, KEYGATE_TLS (the same gateway with and without TLS), SSL_CERT_FILE,
KEYGATE_CASES (JSON: name of a case to its path and token).
Prints one line of JSON: by client and case, the status and the `x-keygate-error`.
"""

import http.client
import json
import os
import socket
import ssl
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events

CASES = json.loads(os.environ["KEYGATE_CASES"])
PLAIN, TLS = (urlsplit(os.environ[name]) for name in ("KEYGATE_URL", "KEYGATE_TLS"))
BODY = b"x" * 5_000_000


def trusted():
    """Trusts SSL_CERT_FILE, which holds the test's own authority."""
    return ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])


def http_client(path, token, tls, chunked=False):
    """The standard library's client: it reads once everything is sent."""
    if tls:
        connection = http.client.HTTPSConnection(TLS.netloc, timeout=30, context=trusted())
    else:
        connection = http.client.HTTPConnection(PLAIN.netloc, timeout=30)
    pieces = (BODY[at : at + 50_000] for at in range(0, len(BODY), 50_000))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "text/plain"}
    connection.request(
        "POST", path, pieces if chunked else BODY, headers, encode_chunked=chunked
    )
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.headers["x-keygate-error"]


def http2(path, token):
    """The h2 library: it sends as far as the window allows, and reads in between."""
    context = trusted()
    context.set_alpn_protocols(["h2"])
    plain = socket.create_connection((TLS.hostname, TLS.port), timeout=30)
    sock = context.wrap_socket(plain, server_hostname=TLS.hostname)
    config = h2.config.H2Configuration(client_side=True)
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    headers = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", TLS.netloc),
        (":path", path),
        ("authorization", f"Bearer {token}"),
        ("content-length", str(len(BODY))),
    ]
    connection.send_headers(1, headers)
    sent, answer, over = 0, {}, False
    while not over:
        # On to the end, as far as the other side lets it: the refusal comes meanwhile.
        while sent < len(BODY) and connection.local_flow_control_window(1) > 0:
            room = min(connection.local_flow_control_window(1), connection.max_outbound_frame_size)
            piece = BODY[sent : sent + room]
            sent += len(piece)
            connection.send_data(1, piece, end_stream=sent == len(BODY))
            sock.sendall(connection.data_to_send())
        sock.sendall(connection.data_to_send())
        got = sock.recv(65_536)
        for event in connection.receive_data(got) if got else []:
            if isinstance(event, h2.events.ResponseReceived):
                answer = {name.decode(): value.decode() for name, value in event.headers}
            over |= isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset))
        over |= not got
    return int(answer[":status"]), answer.get("x-keygate-error")


def ask(client, *options):
    """Every case by one client; an exception stands for its status."""
    results = {}
    for name, (path, token) in CASES.items():
        try:
            results[name] = client(path, token, *options)
        except Exception as error:
            results[name] = [type(error).__name__, str(error)]
    return results


print(
    json.dumps(
        {
            "http.client": ask(http_client, False),
            "http.client, chunked": ask(http_client, False, True),
            "http.client, TLS": ask(http_client, True),
            "h2": ask(http2),
        }
    )
)
