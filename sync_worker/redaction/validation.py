"""Which candidates are real: check digits, lengths by country, what stands around them. All on bytes of UTF-8.

Each function takes the text and the place of a candidate, and yields the places in it that are to be replaced. A
candidate may be longer than what it holds, since a pattern of RE2 cannot look around.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import socket
from collections.abc import Iterator

from sync_worker.redaction.countries import COUNTRY_CODES, IBAN_LENGTHS

Place = tuple[int, int]

_DIGITS = re.compile(rb"[0-9]+")
_ALNUM = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_NUMERALS = frozenset(b"0123456789")
_HEX_LETTERS = frozenset(b"abcdefABCDEF")
_LONGEST_TOKEN = 64  # bytes around a number that are looked at


def _at(data: bytes, place: int) -> int:
    return data[place] if 0 <= place < len(data) else 0


def _is_inside_hash(data: bytes, start: int, end: int) -> bool:
    """Whether a number touches letters as digits of a hash do: all of them hexadecimal."""
    before, after = start, end
    while before > 0 and data[before - 1] in _ALNUM and start - before < _LONGEST_TOKEN:
        before -= 1
    while after < len(data) and data[after] in _ALNUM and after - end < _LONGEST_TOKEN:
        after += 1
    letters = [byte for byte in data[before:start] + data[end:after] if byte not in _NUMERALS]
    return bool(letters) and all(byte in _HEX_LETTERS for byte in letters)


def email(data: bytes, start: int, end: int) -> Iterator[Place]:
    """Take addresses; not package versions, pictures for fine screens, the user of a repository and the like."""
    written, _, domain = data[start:end].rpartition(b"@")
    local = written.lstrip(b".'+-%")
    labels = domain.lower().split(b".")
    if labels[-1] in _FILE_ENDINGS or all(label.isdigit() for label in labels[:2]):
        return
    if local in _REPOSITORIES or (_at(data, start - 1) == _BACKSLASH and local[1:] in _REPOSITORIES):
        return
    if local:
        yield start + len(written) - len(local), end


_BACKSLASH = 0x5C
_REPOSITORIES = frozenset({b"git", b"hg", b"svn"})
_FILE_ENDINGS = frozenset(b"png jpg jpeg gif svg webp bmp ico js jsx ts tsx css scss json xml html pdf".split())


#: Groups in which the digits of a card are written, besides all in one.
_CARD_GROUPS = ((4, 4, 4, 4, 3), (4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (8, 8), (4, 4, 4, 1), (4, 4, 5))
_FIRST_GROUPS = frozenset({4, 8, *range(13, 20)})


def card(data: bytes, start: int, end: int) -> Iterator[Place]:
    """Take numbers of the known card schemes with a right check digit (Luhn)."""
    groups = [found.span() for found in _DIGITS.finditer(data, start, end)]
    at = 0
    while at < len(groups):
        taken = _card_at(data, groups, at)
        if taken:
            yield groups[at][0], groups[at + taken - 1][1]
        at += taken or 1


def _card_at(data: bytes, groups: list[Place], at: int) -> int:
    """Return how many groups from here on are a card number."""
    begin, stop = groups[at]
    if stop - begin not in _FIRST_GROUPS or data[begin] not in b"23456":
        return 0
    sizes = (stop - begin,) if stop - begin >= 13 else tuple(b - a for a, b in groups[at : at + 5])
    forms = (sizes,) if len(sizes) == 1 and stop - begin >= 13 else _CARD_GROUPS
    for form in forms:
        if sizes[: len(form)] != form:
            continue
        last = groups[at + len(form) - 1][1]
        digits = b"".join(data[a:b] for a, b in groups[at : at + len(form)]).decode()
        is_fraction = _at(data, begin - 1) in b"." and _at(data, begin - 2) in _NUMERALS if begin else False
        if is_card_number(digits) and not is_fraction and not _is_inside_hash(data, begin, last):
            return len(form)
    return 0


def is_card_number(digits: str) -> bool:
    """Whether digits are the number of a payment card: its scheme's beginning and length, and the check digit."""
    length, two, three, four = len(digits), int(digits[:2]), int(digits[:3]), int(digits[:4])
    known = (
        (digits[0] == "4" and length in {13, 16, 19})
        or (length == 16 and (51 <= two <= 55 or 2221 <= four <= 2720))
        or (length == 15 and two in {34, 37})
        or (length == 14 and (300 <= three <= 305 or two in {36, 38, 39}))
        or (16 <= length <= 19 and (two in {62, 65} or four == 6011 or 644 <= three <= 649 or 3528 <= four <= 3589))
        or (16 <= length <= 19 and four in {5018, 5020, 5038, 5893, 6304, 6759, 6761, 6762, 6763})
    )
    return known and _luhn(digits)


#: Digits as bytes, doubled, with the digits of the result added up.
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")


def _luhn(digits: str) -> bool:
    backwards = digits.encode()[::-1]
    zeros = len(backwards) * ord("0")
    return (sum(backwards[::2]) + sum(backwards[1::2].translate(_DOUBLED)) - zeros) % 10 == 0


_FEWEST_DIGITS, _MOST_DIGITS, _OF_NORTH_AMERICA = 9, 15, 11


def phone(data: bytes, start: int, end: int) -> Iterator[Place]:
    """Take telephone numbers with a country code, behind `+`, or behind `00` where groups are set apart."""
    groups = [found.span() for found in _DIGITS.finditer(data, start, end)]
    at = 0
    while at < len(groups):
        begin, stop = groups[at]
        plus = data.rfind(b"+", max(start, begin - 4), begin) if at == 0 else -1
        if plus >= 0:
            first, digits = plus, data[begin:stop]
        elif data.startswith(b"00", begin) and (at + 1 < len(groups)):
            first, digits = begin, data[begin + 2 : stop]
        else:
            at += 1
            continue
        taken = 0 if _at(data, first - 1) in _ALNUM else _phone_at(data, groups, at, digits)
        if taken:
            yield first, groups[at + taken - 1][1]
        at += taken or 1


def _phone_at(data: bytes, groups: list[Place], at: int, digits: bytes) -> int:
    """Return how many groups from here on are a telephone number that begins with these digits."""
    best = 0
    for count in range(1, len(groups) - at + 1):
        if count > 1:
            begin, stop = groups[at + count - 1]
            digits += data[begin:stop]
        if len(digits) > _MOST_DIGITS:
            break
        if len(digits) >= _FEWEST_DIGITS and is_phone_number(digits.decode()):
            best = count
    return best


def is_phone_number(digits: str) -> bool:
    """Whether digits are a telephone number that begins with a country code."""
    if digits[:1] == "1":
        return len(digits) == _OF_NORTH_AMERICA
    known = any(digits[:length] in COUNTRY_CODES for length in (1, 2, 3))
    return known and _FEWEST_DIGITS <= len(digits) <= _MOST_DIGITS


_IBAN_SEPARATORS = frozenset(b" -")


def iban(data: bytes, start: int, end: int) -> Iterator[Place]:
    """Take account numbers of the right length for their country with right check digits (mod 97)."""
    while start < end and data[start] not in _ALNUM:
        start += 1
    if _at(data, start - 1) in _ALNUM:
        return
    length = IBAN_LENGTHS.get(data[start : start + 2].decode("ascii", "replace").upper())
    if length is None:
        return
    characters, at = bytearray(), start
    while len(characters) < length and at < len(data):
        byte = data[at]
        if byte in _ALNUM:
            characters.append(byte)
        elif byte not in _IBAN_SEPARATORS or data[at - 1] in _IBAN_SEPARATORS:
            return
        at += 1
    if len(characters) == length and _at(data, at) not in _ALNUM and _mod_97(characters.decode().upper()) == 1:
        yield start, at


def _mod_97(text: str) -> int:
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97


#: What stands before or behind a version of four numbers, within a few bytes.
_VERSION_BEFORE = re.compile(
    rb"(?i)(?:(?:version|release|build|firmware|\bver\.?)[\s\"':=_\-(]*|(?:\b|\\[bfnrt])v|[=~^<>]=|@|[a-z][a-z0-9]*[/\-_])\Z"
)
_VERSION_BEHIND = re.compile(rb"[\-+_][A-Za-z]|[A-Za-z]")
_AROUND = 24  # bytes
#: The first two bytes of addresses that no version looks like.
_ALWAYS = frozenset(
    [(192, 168), (169, 254), *((172, byte) for byte in range(16, 32)), *((127, byte) for byte in range(256))]
)


def ip(data: bytes, start: int, end: int) -> Iterator[Place]:
    """Take addresses of IPv4 and IPv6; not versions of four numbers, object identifiers, times, slices, namespaces."""
    if b":" in data[start:end]:
        yield from _ipv6(data, start, end)
        return
    before, behind = _at(data, start - 1), _at(data, end)
    if before in b"." or before in _NUMERALS or (behind in b"." and _at(data, end + 1) in _NUMERALS):
        return
    address = _packed(socket.AF_INET, data[start:end].decode())
    if address is None:
        return
    octets = data[start:end].split(b".")
    is_version = (
        all(len(octet) == 1 for octet in octets)
        or _VERSION_BEFORE.search(data[max(0, start - _AROUND) : start])
        or _VERSION_BEHIND.match(data, end)
    )
    if not is_version or (address[0], address[1]) in _ALWAYS:
        yield start, end


def _packed(family: socket.AddressFamily, text: str) -> bytes | None:
    """Return the bytes of an address, None where the text is none. Many times as fast as `ipaddress`."""
    try:
        return socket.inet_pton(family, text)
    except OSError:
        return None


def _ipv6(data: bytes, start: int, end: int) -> Iterator[Place]:
    while end > start and data[end - 1] in b":." and data[end - 2 : end] != b"::":
        end -= 1
    if _at(data, start - 1) in _ALNUM or _at(data, end) in _ALNUM or _at(data, start - 1) in b".:_":
        return
    text = data[start:end].decode()
    if _packed(socket.AF_INET6, text) is None:
        if "." in text:  # times, ports or the like, and an address of IPv4 behind them
            yield from ip(data, data.rindex(b":", start, end) + 1, end)
        return
    groups = [group for group in text.split(":") if group]
    if not groups or not any(character.isdigit() for character in text):
        return
    first = groups[0].lower()
    is_mapped = text.startswith("::") or len(groups) > 2
    is_given_out = len(first) == 4 and (first[0] in "23" or first[:2] in {"fc", "fd", "fe", "ff"})
    is_long = sum(map(len, groups)) >= (16 if len(groups) == 8 else 12)
    if ("." in groups[-1] and is_mapped) or (is_given_out and not text.startswith("::")) or is_long:
        yield start, end


def ssn(data: bytes, start: int, end: int) -> Iterator[Place]:
    """Take US social security numbers of areas, groups and serials that are given out."""
    before, behind = _at(data, start - 1), _at(data, end)
    if before in _ALNUM or behind in _ALNUM:
        return
    if (before in b"-." and _at(data, start - 2) in _ALNUM) or (behind in b"-" and _at(data, end + 1) in _NUMERALS):
        return
    area, group, serial = (int(found[0]) for found in _DIGITS.finditer(data, start, end))
    if area not in {0, 666} and area < 900 and group and serial:
        yield start, end


def jwt(data: bytes, start: int, end: int) -> Iterator[Place]:
    """Take JSON Web Tokens: the first part is an object of JSON that names its algorithm or type."""
    if _at(data, start - 1) in _ALNUM:
        return
    head = data[start:end].partition(b".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return
    if isinstance(header, dict) and not header.keys().isdisjoint({"alg", "typ", "enc", "kid"}):
        yield start, end


def private_key(data: bytes, start: int, end: int) -> Iterator[Place]:
    """Take private keys whole; without an end, all that follows."""
    del data
    yield start, end


_SECRET_LENGTH = 40  # bytes of a secret access key of AWS
_OF_SECRET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/+=")


def api_key(data: bytes, start: int, end: int) -> Iterator[Place]:
    """Take keys by the beginnings that their vendors give them."""
    text = data[start:end]
    if text[:1] in b"sS" and text[:6].lower() == b"secret":
        if _at(data, end) not in _OF_SECRET:
            yield end - _SECRET_LENGTH, end
        return
    if _at(data, start - 1) in _ALNUM:
        return
    if text[:4] in {b"AKIA", b"ASIA", b"ABIA", b"ACCA"} and _at(data, end) in _ALNUM:
        return
    if text.startswith(b"sk-") and b"-" not in text[3:] and not (_has_digit(text[3:]) and _has_letter(text[3:])):
        return
    yield start, end


def _has_digit(text: bytes) -> bool:
    return any(byte in _NUMERALS for byte in text)


def _has_letter(text: bytes) -> bool:
    return any(byte in _ALNUM and byte not in _NUMERALS for byte in text)


_SHORTEST_TOKEN = 16  # bytes of what stands alone before the @ of an address and is no mere user
_PLACEHOLDERS = b"$<{[*"


def url_credentials(data: bytes, start: int, end: int) -> Iterator[Place]:
    """Take user and password before the `@` of an address, and tokens and signatures in its query."""
    if data[start] in b"?&;":
        value = data.index(b"=", start, end) + 1
        if data[value] not in _PLACEHOLDERS:
            yield value, end
        return
    user = data.index(b"://", start, end) + 3
    info = data[user : end - 1]
    if info and (b":" in info or len(info) >= _SHORTEST_TOKEN) and info[0] not in _PLACEHOLDERS:
        yield user, end - 1
