"""URLs of servers, as policies and command lines state them: checked, and on this machine or not."""

import ipaddress
from urllib.parse import urlsplit


def problem(url: str) -> str | None:
    """What keeps a URL from being that of an HTTP server; None if nothing does. It never quotes the URL.

    A user or a password in it is a problem: keys come from the environment.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        return f"not a URL: {str(error).lower()}"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "not a URL of the form http://HOST:PORT/v1"
    if parts.username is not None or parts.password is not None:
        return "the URL contains a user or a password; pass keys in the environment instead"
    if parts.query or parts.fragment or any(one.isspace() or not one.isprintable() for one in url):
        return "not the URL of an API: it contains a query, a fragment or spaces"
    return None


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine: localhost, or an address that never leaves it."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
