"""``Provider``: an OpenID provider that signs people in: authorization code with PKCE (OpenID Connect, RFC 6749, 7636, 9207).

It only says who somebody is. Its word counts once the signature of an ID token holds by a key that the provider publishes, and
the token is from this provider, for this registry, for this sign-in, and not over. What people may see, the people file says.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from edge_monitor.errors import ConfigError, EdgeMonitorError

from .access import is_same

#: Signatures that are taken; none that who knows the client's secret could make, and never none at all.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
LEEWAY_S = 60  #: that two clocks may differ
FRESH_S = 3600  #: for so long what a provider publishes is believed
AGAIN_S = 30  #: keys are asked for anew at most so often
TIMEOUT_S = 10.0
LARGEST = 1 << 20  #: bytes of an answer
LONGEST_SUBJECT = 255
DISCOVERY = "/.well-known/openid-configuration"


class OidcError(EdgeMonitorError):
    """Why nobody is signed in: one line, for who tried. ``away``: the provider did not answer as one does."""

    exit_code = 1

    def __init__(self, words: str, *, away: bool = False) -> None:
        super().__init__(words)
        self.away = away


@dataclass(frozen=True, slots=True)
class Client:
    """What this registry is at a provider. ``redirect``: where the provider sends people back to; ``secret``: empty for none."""

    issuer: str
    id: str
    redirect: str
    secret: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for addresses that can't be."""
        for name, address in (("--oidc-issuer", self.issuer), ("--url", self.redirect)):
            if not is_safe(address) or urlsplit(address).query or urlsplit(address).fragment:
                raise ConfigError(
                    f"{name} {address[:100]!r} is no address for signing in: https://HOST…, or http:// on this machine"
                )
        if not self.id or not self.id.isprintable():
            raise ConfigError("--oidc-client is empty: give the id under which the provider knows this registry")


@dataclass(frozen=True, slots=True)
class _Published:
    """What a provider says of itself."""

    authorization: str
    token: str
    keys: str
    at: float


def is_safe(address: str) -> bool:
    """Whether secrets may travel to an address: by TLS, or inside this machine."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or not address.isprintable() or " " in address:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in ("127.0.0.1", "::1", "localhost"))


class Provider:
    """One provider; may be used by many threads. ``now``: s since 1970."""

    def __init__(self, client: Client, now: Callable[[], float]) -> None:
        """Raises ``ConfigError`` where what checks signatures is not installed."""
        try:
            from joserfc import jwt
        except ImportError:
            raise ConfigError(
                "signing in by OpenID Connect needs joserfc: pip install 'edge-monitor[registry,oidc]'"
            ) from None
        self.client = client
        self._decode = jwt.decode
        self._now = now
        self._lock = threading.Lock()
        self._published: _Published | None = None
        self._keys: tuple[Any, float] | None = None

    @property
    def name(self) -> str:
        """What people know it as."""
        return urlsplit(self.client.issuer).netloc

    def authorization(self, state: str, nonce: str, verifier: str) -> str:
        """Where a browser is sent to. Raises ``OidcError``."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code", "scope": "openid", "client_id": self.client.id, "redirect_uri": self.client.redirect,
            "state": state, "nonce": nonce, "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        address = self._discovered().authorization
        return f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(asked)}"

    def subject(self, code: str, nonce: str, verifier: str) -> str:
        """Who came back with a code: the ``sub`` of an ID token that holds. Raises ``OidcError``."""
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self.client.redirect,
            "client_id": self.client.id, "code_verifier": verifier,
        }  # fmt: skip
        headers = {}
        if self.client.secret:
            pair = f"{quote(self.client.id, safe='')}:{quote(self.client.secret, safe='')}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        answer = _fetch(self._discovered().token, form, headers)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise OidcError("the provider gives no ID token")
        return self._checked(self._opened(token), nonce)

    def _opened(self, token: str) -> Mapping[str, Any]:
        """The claims of a token whose signature holds; keys are asked for anew where it is by one that is not known yet."""
        from joserfc.errors import JoseError

        for again in (False, True):
            keys, at = self._key_set(anew=again)
            try:
                return dict(self._decode(token, keys, algorithms=list(ALGORITHMS)).claims)
            except (JoseError, ValueError, TypeError, KeyError) as error:
                if again or self._now() - at < AGAIN_S:
                    raise OidcError(f"the ID token's signature does not hold ({type(error).__name__})") from None
        raise AssertionError

    def _checked(self, claims: Mapping[str, Any], nonce: str) -> str:
        now = self._now()
        audience = claims.get("aud")
        meant: Sequence[Any] = audience if isinstance(audience, list) else [audience]
        party = claims.get("azp")
        subject, said = claims.get("sub"), claims.get("nonce")
        if claims.get("iss") != self.client.issuer:
            raise OidcError("the ID token is of another issuer")
        if self.client.id not in meant or (len(meant) > 1 and party is None) or party not in (None, self.client.id):
            raise OidcError("the ID token is for somebody else")
        if not _is_time(claims.get("exp")) or now >= claims["exp"] + LEEWAY_S:
            raise OidcError("the ID token is over")
        if not _is_time(claims.get("iat")) or claims["iat"] > now + LEEWAY_S:
            raise OidcError("the ID token is from the future: do both clocks tell the same time?")
        if _is_time(claims.get("nbf")) and claims["nbf"] > now + LEEWAY_S:
            raise OidcError("the ID token does not count yet")
        if not isinstance(said, str) or not is_same(nonce, said):
            raise OidcError("the ID token is not of this sign-in")
        if not isinstance(subject, str) or not subject.isprintable() or not 1 <= len(subject) <= LONGEST_SUBJECT:
            raise OidcError("the ID token names nobody")
        return subject

    def _discovered(self) -> _Published:
        with self._lock:
            known = self._published
            if known is not None and self._now() - known.at < FRESH_S:
                return known
            said = _fetch(self.client.issuer.rstrip("/") + DISCOVERY)
            if said.get("issuer") != self.client.issuer:
                raise OidcError("the provider calls itself by another name than --oidc-issuer", away=True)
            addresses = [said.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
            if not all(isinstance(one, str) and is_safe(one) for one in addresses):
                raise OidcError("the provider names no safe addresses for signing in", away=True)
            authorization, token, keys = map(str, addresses)
            self._published = _Published(authorization, token, keys, self._now())
            return self._published

    def _key_set(self, *, anew: bool) -> tuple[Any, float]:
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        address = self._discovered().keys
        with self._lock:
            if self._keys is None or anew or self._now() - self._keys[1] >= FRESH_S:
                try:
                    self._keys = KeySet.import_key_set(_fetch(address)), self._now()  # type: ignore[arg-type]
                except (JoseError, ValueError, TypeError, KeyError, AttributeError):
                    raise OidcError("the provider's keys can't be read", away=True) from None
            return self._keys


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _fetch(
    address: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A JSON object from an address; redirects are not followed. Raises ``OidcError``."""
    parts = urlsplit(address)
    assert parts.hostname is not None and is_safe(address)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=TIMEOUT_S, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    sent = {"accept": "application/json", **(headers or {})}
    try:
        if form is None:
            connection.request("GET", target, headers=sent)
        else:
            sent["content-type"] = "application/x-www-form-urlencoded"
            connection.request("POST", target, urlencode(form), sent)
        response = connection.getresponse()
        body = response.read(LARGEST + 1)
    except (OSError, http.client.HTTPException) as error:
        raise OidcError(
            f"the provider at {parts.netloc} can't be reached ({type(error).__name__})", away=True
        ) from None
    finally:
        connection.close()
    if form is not None and 400 <= response.status < 500:
        raise OidcError(f"the provider refuses the code ({response.status})")
    try:
        if response.status != 200 or len(body) > LARGEST:
            raise ValueError
        found = json.loads(body)
        if not isinstance(found, dict):
            raise ValueError
    except (ValueError, RecursionError):
        raise OidcError(
            f"the provider at {parts.netloc} does not answer as one ({response.status})", away=True
        ) from None
    return found
