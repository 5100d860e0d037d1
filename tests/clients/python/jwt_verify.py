"""A backend that takes keygate's client tokens itself, with PyJWT: it knows no secret, only where
the keys are published.

Environment: KEYGATE_URL (such as http://127.0.0.1:8080), KEYGATE_TOKEN (one that may mint).
Prints one line of JSON: the algorithm, the claims, and what became of a token that was changed.
"""

import json
import os
import urllib.request

import jwt

URL = os.environ["KEYGATE_URL"]
ask = urllib.request.Request(
    URL + "/v1/client/tokens",
    data=json.dumps({"expiresIn": 600, "allowedModels": ["gpt-4o-mini"]}).encode(),
    headers={
        "authorization": "Bearer " + os.environ["KEYGATE_TOKEN"],
        "content-type": "application/json",
    },
)
with urllib.request.urlopen(ask) as answer:
    token = json.load(answer)["token"]

keys = jwt.PyJWKClient(URL + "/.well-known/jwks.json")


def verify(text, audience="keygate"):
    key = keys.get_signing_key_from_jwt(text)
    return jwt.decode(
        text,
        key,
        algorithms=[key.algorithm_name],
        audience=audience,
        issuer="keygate",
        options={"require": ["iss", "aud", "sub", "jti", "iat", "nbf", "exp"]},
    )


def refused(text, **how):
    try:
        verify(text, **how)
    except jwt.InvalidTokenError as error:
        return type(error).__name__


header, payload, signature = token.split(".")
changed = ".".join([header, payload, signature[:10] + ("A" if signature[10] != "A" else "B") + signature[11:]])
print(
    json.dumps(
        {
            "token": token,
            "alg": jwt.get_unverified_header(token)["alg"],
            "claims": verify(token),
            "changed": refused(changed),
            "elsewhere": refused(token, audience="elsewhere"),
        }
    )
)
