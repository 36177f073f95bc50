"""Text to value: addresses, keys, projects, numbers, paths.

Every parser is pure, gets its text without white space around it, and raises WrongValueError, which says what is wrong
but never the value.
"""

from __future__ import annotations

import ipaddress
import os
import re
from fractions import Fraction
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr
from pydantic_core import PydanticKnownError

from sync_worker.patterns import matches, why_unusable
from sync_worker.printable import is_printable
from sync_worker.redaction.redaction_rules import CONTENT, DETECTORS
from sync_worker.settings.setting_errors import WrongValueError, looks_like_key
from sync_worker.wording import counted, nearest

_DEFAULT_PORTS = {"http": 80, "https": 443}
_MOST_JOBS = 64
_HOST_NAME = re.compile(r"[\w.-]+")
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".svc", ".cluster.local")
_PRIVATE_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
        "::1/128", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip

LANGFUSE_KEYS_ARE_AT: Final = "in Langfuse under Project settings → API keys"
KELET_KEYS_ARE_AT: Final = "at console.kelet.ai → API keys"
_SWAP = "swap LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY"

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*[=:]\s*(.+)")  # names by RFC 9110, 5.6.2
_OWN_HEADERS = frozenset(
    {"connection", "content-encoding", "content-length", "content-type", "host", "transfer-encoding", "x-kelet-project"}
)
_FIELDS = ("session", "user", "environment", "trace_name", "release", "version")
_SHORTEST_PSEUDONYM_KEY = 16  # characters

_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
SWITCH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def parse_langfuse_url(text: str) -> str:
    """Return the base address of Langfuse, without a trailing `/` or `/api/public`; raises WrongValueError."""
    base = _parse_url(text, "https://cloud.langfuse.com")
    base = base.removesuffix("/api/public").rstrip("/")
    if "/api/public" in base:
        raise WrongValueError(
            "this is the address of one endpoint",
            expected="the base address of Langfuse",
            hint=base[: base.index("/api/public")],
        )
    return base


def parse_kelet_url(text: str) -> str:
    """Return the base address of Kelet, without a trailing `/` or `/api`; raises WrongValueError."""
    base = _parse_url(text, "https://api.kelet.ai")
    if match := re.search(r"(/api)?(/v1)?/(traces|logs|metrics)$", base):
        raise WrongValueError(
            "this is the address of one endpoint", expected="the base address of Kelet", hint=base[: match.start()]
        )
    return base.removesuffix("/api").rstrip("/")


def parse_target_url(text: str) -> str:
    """Return the address of a target, or of its traces endpoint, without a trailing `/`; raises WrongValueError."""
    return _parse_url(text, "https://otlp.example.com")


def parse_target_key(text: str) -> SecretStr:
    """Return the key of a target that is not Kelet; raises WrongValueError."""
    key = _key(text, "the key of the target alone, without Bearer or Basic before it")
    _refuse_kelet_key(key, "sent to this target", "the key of the target")
    return SecretStr(key)


def parse_target_project(text: str) -> str:
    """Return the name of a project of a target that is not Kelet; raises WrongValueError."""
    project = text.strip()
    if not project or not is_printable(project):
        raise WrongValueError("empty" if not project else "holds characters that cannot be seen", expected="a name")
    return project


def parse_headers(text: str) -> SecretStr:
    """Return headers as they were written; raises WrongValueError for what `headers_of` cannot read."""
    headers_of(text)
    return SecretStr(text)


def headers_of(text: str) -> dict[str, str]:
    """Return the headers of `name=value,name=value` or of one `name: value` a line, by their names as written.

    `%20` and the like in a value are decoded, as in OTEL_EXPORTER_OTLP_HEADERS. Raises WrongValueError, which shows no
    value.
    """
    found: dict[str, str] = {}
    for part in re.split(r"[,\r\n]+", text):
        if not part.strip():
            continue
        written = _HEADER.fullmatch(part.strip())
        name, value = (written[1], unquote(written[2])) if written else ("", "")
        if not re.fullmatch(r"[\x20-\x7e]+", value):
            raise WrongValueError(
                "not headers",
                expected="name=value with commas between them, or one a line, in printable ASCII",
                hint="write a comma in a value as %2C",
            )
        if name.lower() in _OWN_HEADERS:
            raise WrongValueError(f"sets {name}, which the worker sets itself", expected="other headers")
        if name.lower() in {known.lower() for known in found}:
            raise WrongValueError(f"sets {name} twice", expected="each header once")
        found[name] = value
    if not found:
        raise WrongValueError("empty", expected="name=value")
    return found


def parse_listen(text: str) -> tuple[str, int]:
    """Return the host, without brackets, and the port (0: any that is free) to listen at; raises WrongValueError."""
    host, colon, port = text.strip().rpartition(":")
    expected, bare = "HOST:PORT, such as 127.0.0.1:9464 or [::1]:9464", host.strip("[]")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        raise WrongValueError("not an address with a port", expected=expected)
    if not host:
        raise WrongValueError(
            "has no host", expected=expected, hint=f"write 127.0.0.1:{port}, or 0.0.0.0:{port} for all"
        )
    if ":" in bare and not (host.startswith("[") and host.endswith("]")):
        raise WrongValueError("an IPv6 address stands in brackets", expected=expected)
    if not re.fullmatch(r"[\w.-]+" if host == bare else r"[0-9a-fA-F:.]+(%[\w.-]+)?", bare):
        raise WrongValueError("not an address with a port", expected=expected)
    return bare, int(port)


def parse_heartbeat_url(text: str) -> SecretStr:
    """Return the address to call after cycles; raises WrongValueError, which shows nothing of it: it is a secret."""
    url = text.strip()
    expected = "an address that starts with https://"
    if re.search(r"[\s\\]", url) or not url.isascii() or not is_printable(url):
        raise WrongValueError("not an address", expected=expected, show=False)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _DEFAULT_PORTS and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc or parts.fragment:
        raise WrongValueError("not an address", expected=f"{expected}, without user and fragment", show=False)
    return SecretStr(url)


def is_plain_and_public(url: str) -> bool:
    """Whether `url` (as parsed here) would carry keys in the clear over a network that is not private."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not _is_private(parts.hostname or "")


def _is_private(host: str) -> bool:
    """Whether `host`, a lower-case name or an address, is on this machine or on a private network."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        name = host.rstrip(".")
        # A single number is an address to the system's resolver (`http://134744072` is 8.8.8.8), not a name.
        single_label = "." not in name and not re.fullmatch(r"0x[0-9a-f]*|[0-9]+", name)
        return single_label or name.endswith(_PRIVATE_SUFFIXES)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in _PRIVATE_NETWORKS if network.version == address.version)


def _parse_url(text: str, example: str) -> str:
    expected = f"an address such as {example}"
    if not text:
        raise WrongValueError("empty", expected=expected)
    # urlsplit drops tabs and line breaks without a word, so they are looked for before.
    if re.search(r"[\s\\]", text) or not is_printable(text):
        raise WrongValueError("not an address: it holds spaces, control characters or backslashes", expected=expected)
    # Both before anything else, so that no other message or hint can repeat what may be a password or a token.
    if "@" in text:
        raise WrongValueError(
            "holds a user or a password, which would end up in logs",
            expected=expected,
            hint="leave out what stands before the @",
            show=False,
        )
    if "?" in text or "#" in text:
        raise WrongValueError("holds a query or a fragment", expected=expected, show=False)
    if "://" not in text:
        hint = f"https://{text.lstrip('/')}" if _HOST_NAME.fullmatch(re.split("[/:]", text, maxsplit=1)[0]) else ""
        raise WrongValueError("not an address that starts with https:// or http://", expected=expected, hint=hint)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise WrongValueError("not an address", expected=expected) from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise WrongValueError("not an address that starts with https:// or http://", expected=expected)
    host = f"[{parts.hostname}]" if "[" in parts.netloc else parts.hostname or ""
    if "[" not in host and (not _HOST_NAME.fullmatch(host) or not host.strip(".-_")):
        raise WrongValueError("not an address: the host is missing or no name", expected=expected)
    written_port = "" if port in {None, _DEFAULT_PORTS[parts.scheme]} else f":{port}"
    return f"{parts.scheme}://{host}{written_port}{parts.path.rstrip('/')}"


def parse_langfuse_public_key(text: str) -> SecretStr:
    """Return the public key of a Langfuse project; raises WrongValueError."""
    key = _key(text, "the public key of a Langfuse project (pk-lf-…)")
    if key.startswith("sk-lf-"):
        raise WrongValueError("this is a Langfuse secret key", expected="the public key (pk-lf-…)", hint=_SWAP)
    _refuse_kelet_key(key)
    if ":" in key:
        # HTTP Basic ends the user name at the first colon.
        raise WrongValueError("holds a colon", expected="the public key alone (pk-lf-…)")
    return SecretStr(key)


def parse_langfuse_secret_key(text: str) -> SecretStr:
    """Return the secret key of a Langfuse project; raises WrongValueError."""
    key = _key(text, "the secret key of a Langfuse project (sk-lf-…)")
    if key.startswith("pk-lf-"):
        raise WrongValueError("this is a Langfuse public key", expected="the secret key (sk-lf-…)", hint=_SWAP)
    _refuse_kelet_key(key)
    return SecretStr(key)


def parse_kelet_key(text: str) -> SecretStr:
    """Return the secret key of a Kelet organisation; raises WrongValueError.

    The prefix is not checked, since Kelet has used several.
    """
    key = _key(text, "the secret key of your Kelet organisation")
    if key.startswith(("sk-lf-", "pk-lf-")):
        raise WrongValueError(
            "this is a Langfuse key, which must not be sent to Kelet",
            expected="the secret key of your Kelet organisation",
            hint=f"find it {KELET_KEYS_ARE_AT}",
        )
    return SecretStr(key)


def is_publishable_kelet_key(key: str) -> bool:
    """Whether `key` looks like one that may be published, which Kelet takes for signals but not for traces."""
    return key.lower().startswith(("pk", "kelet_pk"))


def parse_project(text: str) -> str:
    """Return the name of a Kelet project; raises WrongValueError.

    Whether `default` is allowed is decided where that is known.
    """
    project = text.strip()
    if not project:
        raise WrongValueError(
            "empty; a wrong project is silent loss on Kelet's side",
            expected="the name of a Kelet project",
            hint="take it from the console's address bar",
        )
    if looks_like_key(project):
        raise WrongValueError("this is a key", expected="the name of a Kelet project", show=False)
    if not re.fullmatch(r"[\x20-\x7e]+", project):
        raise WrongValueError(
            "holds characters that an HTTP header cannot carry", expected="printable ASCII characters in one line"
        )
    if project in {".", ".."}:
        raise WrongValueError("a step in an address and no name", expected="the name of a Kelet project")
    return project


def is_default_project(project: str) -> bool:
    """Whether `project` is the one into which Kelet puts what names no project."""
    return project.strip().lower() == "default"


def parse_switch(text: str) -> bool:
    """Return `true` or `false`, and the usual other words for them; raises WrongValueError."""
    value = SWITCH.get(text.lower())
    if value is None:
        raise WrongValueError("neither true nor false", expected="true or false")
    return value


def parse_scores(text: str) -> tuple[str, ...]:
    """Return names and globs of the scores that are sent: none for `false`, all for `true`; raises WrongValueError."""
    if (value := SWITCH.get(text.strip().lower())) is not None:
        return ("*",) if value else ()
    names = tuple(name.strip() for name in text.split(","))
    if any(name in {"", "!"} for name in names):
        expected = "true, false, or names of scores with commas between them"
        raise WrongValueError("a name is empty", expected=expected, hint="csat,user-*,!test-*")
    return names


def parse_detectors(text: str) -> tuple[str, ...]:
    """Return the names of detectors, none or all of them; raises WrongValueError."""
    words = _words(text)
    if words == ["none"]:
        return ()
    if words == ["all"]:
        return DETECTORS
    expected = f"none, all, or some of {', '.join(DETECTORS)}"
    if not words:
        raise WrongValueError("empty", expected=expected)
    for word in words:
        if word not in DETECTORS:
            mixed = word in {"none", "all"}
            problem = f"{word} stands beside others" if mixed else f"{word} is no detector"
            raise WrongValueError(problem, expected=expected, hint="" if mixed else nearest(word, DETECTORS))
    return tuple(name for name in DETECTORS if name in words)


def parse_content(text: str) -> tuple[str, ...]:
    """Return which of input and output are meant; raises WrongValueError."""
    words = _words(text)
    for word in words:
        if word not in CONTENT:
            expected = "input, output, or both with a comma between them"
            raise WrongValueError(f"{word} is neither input nor output", expected=expected)
    return tuple(name for name in CONTENT if name in words)


def parse_globs(text: str) -> tuple[str, ...]:
    """Return wildcards that stand between commas, each once."""
    return tuple(dict.fromkeys(split_list(text)))


def parse_pseudonym_key(text: str) -> SecretStr:
    """Return the secret that pseudonyms are made with; raises WrongValueError."""
    key = text.strip()
    if len(key) < _SHORTEST_PSEUDONYM_KEY:
        raise WrongValueError(
            f"{counted(len(key), 'character')}, which can be guessed",
            expected=f"at least {_SHORTEST_PSEUDONYM_KEY} characters",
            hint="openssl rand -hex 32",
        )
    return SecretStr(key)


def _words(text: str) -> list[str]:
    return [part.strip().lower() for part in text.split(",") if part.strip()]


def parse_path(text: str) -> Path:
    """Return a path, `~` resolved, not yet made absolute; raises WrongValueError."""
    text = text.strip()
    if not text or "\0" in text:
        raise WrongValueError("empty" if not text else "not a path", expected="a path")
    # Bytes that are no UTF-8 are half surrogates here; a file system may hold such names.
    if not is_printable(re.sub("[\udc80-\udcff]", "", text)):
        raise WrongValueError("holds characters that cannot be seen", expected="a path", hint="type it again by hand")
    unknown = WrongValueError("the home folder is not known", expected="a path without ~")
    if re.match("~(/|$)", text) and not os.environ.get("HOME", "/").startswith("/"):
        raise unknown  # HOME= would make ~ the root of the file system
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise unknown from None


def parse_hosts(text: str) -> tuple[str, ...]:
    """Return hosts, in lower case and each with its port if one is given; raises WrongValueError."""
    hosts = _words(text)
    for host in hosts:
        found = _HOST.fullmatch(host)
        if found is None or (found["port"] and not 0 < int(found["port"]) < 65_536):
            raise WrongValueError(
                f"{host} is no host", expected="hosts such as minio.internal or 10.0.0.5:9000, with commas between them"
            )
    return tuple(hosts)


def lower(text: str) -> str:
    """Return the text in lower case. The signature of `str.lower` itself costs pydantic milliseconds."""
    return text.lower()


def digits(text: str) -> str:
    """Return a text that is a whole number; pydantic would take 1_000 and 12.0 for one too."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise PydanticKnownError("int_parsing")
    return text


def parse_jobs(text: str) -> int | None:
    """Return a number of jobs, None for `auto`; raises WrongValueError."""
    expected = f"auto, or a whole number from 1 to {_MOST_JOBS}"
    if text.strip().lower() == "auto":
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()):
        raise WrongValueError("not a number of jobs", expected=expected)
    jobs = int(text)
    if not 1 <= jobs <= _MOST_JOBS:
        raise WrongValueError("too small" if jobs < 1 else "too large", expected=expected)
    return jobs


def parse_share(text: str) -> Fraction:
    """Return a share written as a whole percentage, from 1% to 100%; raises WrongValueError."""
    return _share(text, r"[0-9]{1,18}", Fraction(1, 100), "a whole percentage from 1% to 100%")


def parse_sample(text: str) -> Fraction:
    """Return a share written as a percentage with at most four decimals, 0% to 100%; raises WrongValueError."""
    expected = "a percentage from 0% to 100%, such as 10% or 0.5%"
    return _share(text, r"[0-9]{1,3}(?:\.[0-9]{1,4})?", Fraction(0), expected)


def _share(text: str, number: str, least: Fraction, expected: str) -> Fraction:
    found = re.fullmatch(rf"({number}) ?%", text)
    if found is None:
        raise WrongValueError("not a share", expected=expected, hint=_percent_of(text))
    share = Fraction(found[1]) / 100
    if not least <= share <= 1:
        raise WrongValueError("too small" if share < least else "too large", expected=expected)
    return share


def parse_patterns(text: str) -> tuple[str, ...]:
    """Return the patterns of a filter; none of them for `none`. Raises WrongValueError."""
    patterns = parse_globs(text)
    if patterns == ("none",):
        return ()
    if "none" in patterns:
        raise WrongValueError("none stands beside others", expected="none alone, or patterns", hint="write [n]one")
    for pattern in patterns:
        check_pattern(pattern)
    return patterns


def parse_levels(text: str) -> tuple[str, ...]:
    """Return patterns of levels, each of which fits a level that there is; raises WrongValueError."""
    patterns = parse_patterns(text)
    for pattern in patterns:
        if not any(matches(pattern, level) for level in _LEVELS):
            raise WrongValueError(
                f"{pattern} fits no level", expected=f"some of {', '.join(_LEVELS)}, or patterns of them"
            )
    return patterns


def split_list(text: str) -> list[str]:
    """Return what stands between the commas of a list; those in `{2,3}` and `[a,b]` belong to a pattern."""
    return [part.strip() for part in _BETWEEN_COMMAS.findall(text) if part.strip()]


_BETWEEN_COMMAS = re.compile(r"(?:[^,{\[]|\{[^{}]*\}|\[[^\[\]]*\]|[{\[])+")
_LEVELS = ("DEBUG", "DEFAULT", "WARNING", "ERROR")


def check_pattern(pattern: str) -> None:
    """Raise WrongValueError for a pattern that cannot be used."""
    why = why_unusable(pattern)
    if why is not None:
        hint = "pip install google-re2, or use the wildcards *, ? and [...]" if "google-re2" in why else ""
        raise WrongValueError(why, expected="a pattern such as prod* or re:^prod-[0-9]+$", hint=hint)


def parse_agent_fields(text: str) -> tuple[str, ...]:
    """Return fields by which a trace's agent is found, or `agent` for that of each span; raises WrongValueError."""
    return _fields(text, (*_FIELDS, "agent"))


def parse_fields(text: str) -> tuple[str, ...]:
    """Return fields of a trace by which a value is found; raises WrongValueError."""
    return _fields(text, _FIELDS)


def _fields(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    fields = tuple(part.strip() for part in text.split(",") if part.strip())
    if fields == ("none",):
        return ()
    for name in fields:
        if name not in known and not (name.startswith("metadata.") and name != "metadata."):
            raise WrongValueError(
                f"{name} is no field of a trace", expected=f"one of {', '.join(known)} or metadata.KEY"
            )
    return fields


def _percent_of(text: str) -> str:
    """Return how a number that was probably meant as a share is written, or an empty text."""
    if re.fullmatch(r"[1-9][0-9]?|100", text):
        return f"write {text}%"
    if re.fullmatch(r"0?\.[0-9]{1,2}", text) and float(text) > 0:
        return f"write {round(float(text) * 100)}%"
    return ""


def _refuse_kelet_key(key: str, done: str = "sent to Langfuse", expected: str = "a key of a Langfuse project") -> None:
    if re.match(r"[sp]k[-_]kelet[-_]|kelet_[sp]k_", key):
        raise WrongValueError(
            f"this is a Kelet key, which must not be {done}",
            expected=expected,
            hint=f"find it {LANGFUSE_KEYS_ARE_AT}" if "Langfuse" in expected else "",
        )


def _key(text: str, expected: str) -> str:
    key = text.strip()
    if not key:
        raise WrongValueError("empty", expected=expected)
    # A key that is no plain ASCII breaks in the HTTP client, whose error would then repeat it.
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise WrongValueError(
            "holds spaces, control characters or characters outside ASCII",
            expected=expected,
            hint="copy the key again, alone and in one line",
        )
    return key
