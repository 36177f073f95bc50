"""300 pieces of personal data and 300 look-alikes, made from a fixed seed: none is of anybody."""

from __future__ import annotations

import base64
import json
import random
import string
import uuid
from collections.abc import Callable, Iterator

from sync_worker.redaction.countries import IBAN_LENGTHS

PLANTED, LOOK_ALIKES = 300, 300
_FIRST = ("alice", "bob.smith", "chloe_dupont", "d.o'neill", "müller", "erik+news", "fatima-z", "g_h", "ines", "jo")
_HOSTS = ("example.com", "mail.example.org", "exämple.de", "sub.corp-example.co.uk", "example.museum", "test.invalid")


def planted() -> list[tuple[str, str]]:
    """Return pairs of a detector and a text that it must find whole."""
    rng = random.Random(13)
    makers = (
        ("email", _email), ("phone", _phone), ("card", _card), ("iban", _iban), ("ip", _ip), ("ssn", _ssn),
        ("jwt", _jwt), ("private_key", _private_key), ("api_key", _api_key), ("url_credentials", _url),
    )  # fmt: skip
    made: list[tuple[str, str]] = []
    while len(made) < PLANTED:
        name, make = makers[len(made) % len(makers)]
        value = make(rng)
        if all(value != other for _, other in made):
            made.append((name, value))
    return made


def look_alikes() -> list[str]:
    """Return texts that must arrive as they are."""
    rng = random.Random(31)
    made: dict[str, None] = dict.fromkeys(_FIXED)
    makers = list(_look_alikes(rng))
    at = 0
    while len(made) < LOOK_ALIKES:
        made[makers[at % len(makers)]()] = None
        at += 1
    return list(made)[:LOOK_ALIKES]


_FIXED = (
    "1.2.3.4", "v10.2.3.4", "version 10.20.30.40", "build=10.0.19.45", "Chrome/120.0.60.109", "numpy==1.26.4.1",
    "10.20.30.40-SNAPSHOT", "1.0.0-alpha+20130313144700", "1.0.0+20130313144700", "0.4111111111111111",
    "0.1234567890123456", "3.141592653589793", "-0.31332111358642578", "1e+10", "2026-11-26T20:30:47.123Z",
    "2026-11-26 20:30:47.123456+00:00", "1761234567890", "1761234567890123", "1761234567890123456", "20:30:47",
    "00:1a:2b:3c:4d:5e", "std::vector<int>", "a[1::2]", "x[::-1]", "Foo::Bar", "logo@2x.png", "react@18.2.0",
    "@angular/core@17.0.1", "git@github.com:org/repo.git", "actions/checkout@v4", "@decorator", "user@localhost",
    "978-3-16-148410-0", "9783161484100", "ISBN 0-306-40615-2", "4111111111111112", "4111 1111 1111 1112",
    "1234567890123452", "$1,299.99", "EUR 4111.11", "+5%", "+1,000,000", "+00:00", "000123456789", "0012345678901",
    "666-12-3456", "000-12-3456", "900-12-3456", "123-00-4567", "123-45-0000", "2123-45-67890", "12-345-6789",
    "DE00370400440532013000", "AB12CD34EF56GH78", "1.3.6.1.4.1.311.21.20", "999.999.999.999", "256.1.1.300",
    "task-abcdefghijklmnopqrstuvwxyz0123456789", "risk-assessment-of-the-quarter", "sk-learn", "eyJust a word.",
    "https://example.com:8080/path?page=2&size=50", "https://example.com/a?key=1&sort=token", "postgres://db.example/x",
    "10% of 20%", "C:\\new\\table", "%d items, %s left", "50%25", "price: 12.50", "#4111", "order 100-20-3000-7",
    "-----BEGIN PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----", "AKIA", "ghp_short", "xox", "AIza", "pk_live",
)  # fmt: skip


def _look_alikes(rng: random.Random) -> Iterator[Callable[[], str]]:
    digits = string.digits
    yield lambda: str(uuid.UUID(int=rng.getrandbits(128)))
    yield lambda: f"{rng.getrandbits(64):016x}"
    yield lambda: f"{rng.getrandbits(128):032x}"
    yield lambda: f"{rng.getrandbits(160):040x}"
    yield lambda: f"sha256:{rng.getrandbits(256):064x}"
    yield lambda: repr(rng.random())
    yield lambda: f"ORD-{rng.randrange(10**9, 10**10)}"
    yield lambda: f"#{rng.randrange(10**7):08d}"
    yield lambda: f"{rng.randrange(20)}.{rng.randrange(99)}.{rng.randrange(99)}"
    yield lambda: f"v{rng.randrange(20)}.{rng.randrange(99)}.{rng.randrange(99)}.{rng.randrange(99)}"
    yield lambda: f"{rng.randrange(1, 9)}.{rng.randrange(10)}.{rng.randrange(10)}.{rng.randrange(10)}"
    yield lambda: str(1_700_000_000_000 + rng.randrange(10**11))
    yield lambda: str(1_700_000_000_000_000_000 + rng.randrange(10**17))
    yield lambda: f"2026-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}T{rng.randrange(24):02d}:00:00.000Z"
    yield lambda: _broken_card(rng)
    yield lambda: f"{rng.randrange(1, 10**4)}.{rng.randrange(100):02d} EUR"
    yield lambda: "".join(rng.choices(digits, k=12))
    yield lambda: f"INV/2026/{rng.randrange(10**6):06d}"


def _broken_card(rng: random.Random) -> str:
    number = _card_number(rng, "4", 16)
    return number[:-1] + str((int(number[-1]) + rng.randrange(1, 10)) % 10)


def _email(rng: random.Random) -> str:
    return f"{rng.choice(_FIRST)}{rng.randrange(1000)}@{rng.choice(_HOSTS)}"


def _phone(rng: random.Random) -> str:
    a, b, c = rng.randrange(200, 999), rng.randrange(200, 999), rng.randrange(1000, 9999)
    return rng.choice(
        [f"+1 ({a}) {b}-{c}", f"+1-{a}-{b}-{c}", f"+1{a}{b}{c}", f"+49 {a} {b}{c}", f"0049 {a} {b}{c}",
         f"+44 20 {c} {rng.randrange(1000, 9999)}", f"+33.6.{a % 90 + 10}.{b % 90 + 10}.{c % 90 + 10}.42"]
    )  # fmt: skip


def _luhn_digit(digits: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (2 - place % 2)
        total += number - 9 if number > 9 else number
    return str(-total % 10)


def _card_number(rng: random.Random, start: str, length: int) -> str:
    body = start + "".join(rng.choices(string.digits, k=length - 1 - len(start)))
    return body + _luhn_digit(body)


def _card(rng: random.Random) -> str:
    start, length = rng.choice([("4", 16), ("51", 16), ("2221", 16), ("37", 15), ("6011", 16), ("36", 14), ("35", 16)])
    number = _card_number(rng, "3528" if start == "35" else start, length)
    if length == 16 and rng.random() < 0.6:
        return rng.choice([" ", "-"]).join(number[at : at + 4] for at in range(0, 16, 4))
    return number


def _iban(rng: random.Random) -> str:
    country = rng.choice(["DE", "FR", "GB", "NL", "ES", "IT", "AT", "CH", "BE", "NO", "MT"])
    letters = string.ascii_uppercase if country in {"GB", "NL"} else ""
    body = "".join(rng.choices(letters, k=4 if letters else 0))
    body += "".join(rng.choices(string.digits, k=IBAN_LENGTHS[country] - 4 - len(body)))
    number = int("".join(str(int(character, 36)) for character in f"{body}{country}00"))
    plain = f"{country}{98 - number % 97:02d}{body}"
    return plain if rng.random() < 0.5 else " ".join(plain[at : at + 4] for at in range(0, len(plain), 4))


def _ip(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return f"2001:db8:{rng.randrange(1, 65536):x}::{rng.randrange(4096, 65536):x}"
    if rng.random() < 0.2:
        return f"fe80::{rng.randrange(4096, 65536):x}:{rng.randrange(4096, 65536):x}"
    return f"{rng.choice(['192.168', '10.44', '203.0', '198.51'])}.{rng.randrange(256)}.{rng.randrange(10, 256)}"


def _ssn(rng: random.Random) -> str:
    return f"{rng.choice([123, 219, 457, 899])}-{rng.randrange(1, 100):02d}-{rng.randrange(1, 10000):04d}"


def _word(rng: random.Random, length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(rng.choices(alphabet, k=length))


def _jwt(rng: random.Random) -> str:
    parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": _word(rng, 8)}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, _word(rng, 43)])


def _private_key(rng: random.Random) -> str:
    kind = rng.choice(["", "RSA ", "EC ", "OPENSSH "])
    lines = "\n".join(_word(rng, 64) for _ in range(3))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----"


def _api_key(rng: random.Random) -> str:
    base32 = string.ascii_uppercase + "234567"
    return rng.choice(
        [f"AKIA{_word(rng, 16, base32)}", f"ghp_{_word(rng, 36)}", f"github_pat_{_word(rng, 22)}_{_word(rng, 59)}",
         f"sk-proj-{_word(rng, 48)}", f"sk-{_word(rng, 20)}T3BlbkFJ{_word(rng, 20)}", f"sk-ant-api03-{_word(rng, 93)}",
         f"AIza{_word(rng, 35)}", f"xoxb-{_word(rng, 12, string.digits)}-{_word(rng, 24)}", f"sk_live_{_word(rng, 24)}",
         f"sk-lf-{uuid.UUID(int=rng.getrandbits(128))}", f"pk-lf-{uuid.UUID(int=rng.getrandbits(128))}",
         f"kelet_sk_{_word(rng, 32)}", f"sk-kelet-{_word(rng, 32)}", f"rk_test_{_word(rng, 24)}"]
    )  # fmt: skip


def _url(rng: random.Random) -> str:
    """Return credentials as they stand in `scheme://…@host`: user and password."""
    return f"{_word(rng, 6)}:{_word(rng, 12)}!{_word(rng, 3)}"
