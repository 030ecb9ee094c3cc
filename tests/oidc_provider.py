"""An OpenID provider as a process of its own: ``oidc-provider-mock``, which signs what it says, made to ask for PKCE, and to lie.

``python oidc_provider.py PORT``; says "ready" when it listens. ``PUT /lie/NAME`` makes its next token wrong in that way.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import re
import sys
import time
from typing import Any

from werkzeug.serving import make_server


def main(port: int) -> None:
    """Serve until killed."""
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
    import flask
    import oidc_provider_mock
    from joserfc import jwk, jwt

    app = oidc_provider_mock.app(require_nonce=True)
    lies: list[str] = []
    challenges: dict[str, str] = {}  # by nonce
    codes: dict[str, str] = {}  # nonce by code
    stranger = jwk.RSAKey.generate_key(2048, {"kid": "stranger"})
    seen: list[dict[str, Any]] = []

    @app.put("/lie/<name>")
    def lie(name: str) -> str:
        lies.append(name)
        return ""

    @app.get("/seen")
    def show() -> Any:
        return flask.jsonify(seen)

    @app.before_request
    def ask() -> Any:
        request = flask.request
        if request.path == "/oauth2/token":
            form = request.form
            seen.append({**form, "basic": request.headers.get("Authorization", "")})
            challenge = challenges.get(codes.get(form["code"], ""), "")
            given = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).rstrip(
                b"="
            )
            if not challenge or challenge != given.decode():
                return flask.jsonify({"error": "invalid_grant"}), 400
        if request.path == "/.well-known/openid-configuration" and lies[-1:] == ["issuer"]:
            lies.pop()
            return flask.jsonify({"issuer": "http://localhost:1", "authorization_endpoint": "http://127.0.0.1:1/"})
        return None

    @app.after_request
    def change(response: flask.Response) -> flask.Response:
        request = flask.request
        if response.content_type.startswith("text/html"):  # its pages would have their style from another site
            response.set_data(
                re.sub(r"<link[^>]*>", '<link rel="icon" href="data:,">', response.get_data(as_text=True))
            )
        if request.path == "/oauth2/authorize" and request.method == "POST" and "code=" in response.location:
            code = response.location.partition("code=")[2].partition("&")[0]
            assert request.args["code_challenge_method"] == "S256"
            codes[code] = request.args["nonce"]
            challenges[request.args["nonce"]] = request.args["code_challenge"]
        if request.path != "/oauth2/token" or response.status_code != 200 or not lies:
            return response
        name, said = lies.pop(), response.get_json()
        head, body, signature = said["id_token"].split(".")
        claims = json.loads(base64.urlsafe_b64decode(body + "=="))
        own = jwk.RSAKey.import_key(flask.g.oidc_provider_mock_storage.jwk.as_dict(is_private=True))
        key, algorithm = own, "RS256"
        now = int(time.time())
        claims |= {
            "iss": {"iss": "http://127.0.0.1:1"}, "audience": {"aud": "another"}, "audiences": {"aud": [claims["aud"], "b"]},
            "party": {"azp": "another"}, "over": {"exp": now - 120, "iat": now - 700}, "endless": {"exp": None},
            "future": {"iat": now + 900}, "nonce": {"nonce": "x"}, "nobody": {"sub": ""}, "no nonce": {"nonce": None},
        }.get(name, {})  # fmt: skip
        if name == "key":
            key = stranger
        if name == "secret":  # with what everybody knows, as if it were one
            key, algorithm = jwk.OctKey.import_key(json.dumps(own.as_dict(private=False))), "HS256"
        said["id_token"] = jwt.encode({"alg": algorithm, "kid": own.kid or ""}, claims, key, algorithms=[algorithm])
        if name == "none":
            head = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
            said["id_token"] = f"{head}.{body}."
        if name == "flipped":
            said["id_token"] = f"{head}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
        if name == "missing":
            del said["id_token"]
        response.set_data(json.dumps(said))
        return response

    logging.disable(logging.CRITICAL)
    server = make_server("127.0.0.1", port, app, threaded=True)
    print(f"ready {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
