"""Another issuer than keygate, with PyJWT: it signs with its own key, and publishes that key.

Arguments: where to write the published set, an algorithm, the issuer's name, the keys' name.
Prints one line of JSON: tokens by what is special about them.
"""

import json
import sys
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

file, algorithm, issuer, kid = sys.argv[1:]


def draw():
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


key, stranger = draw(), draw()
public = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
with open(file, "w") as out:
    json.dump({"keys": [{**public, "kid": kid, "use": "sig", "alg": algorithm}]}, out)

now = int(time.time())
claims = {"iss": issuer, "aud": "keygate", "sub": "alice", "iat": now, "exp": now + 600}


def sign(changes, key=key, **header):
    return jwt.encode({**claims, **changes}, key, algorithm, headers={"kid": kid, **header})


print(
    json.dumps(
        {
            "good": sign({}),
            "narrow": sign({"models": ["gpt-4o-mini"], "origins": ["https://app.test"]}),
            "wide": sign({"models": ["*"], "paths": ["/v1/*"]}),
            "wrong_aud": sign({"aud": "somebody-else"}),
            "wrong_iss": sign({"iss": issuer + "x"}),
            "expired": sign({"iat": now - 900, "exp": now - 300}),
            "early": sign({"nbf": now + 300}),
            "stranger": sign({}, key=stranger),
            "unknown_kid": sign({}, kid="nobody"),
        }
    )
)
