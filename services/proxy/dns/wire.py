"""Between DNS messages and the zone: parse a query, build a response, truncate, and keep ready answers in wire format.

A repeated question (same bytes after the id) is answered from a bounded cache by patching the id: the message library is paid once.
Answers with several records are kept in several rotations, handed out in turn, as CoreDNS' loadbalance plugin does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from .zone import Answer, Record, Zone

UDP_SIZE_DEFAULT = 512
UDP_SIZE_MAX = 1232
TCP_SIZE_MAX = 65535
ROTATIONS_MAX = 8
NEGATIVE_TTL_SECONDS = 5


@dataclass(frozen=True)
class Question:
    """A parsed query; `name` is lower case without the final dot, `size_max` the largest response its sender takes."""

    message: dns.message.Message
    name: str
    type: str
    size_max: int


def parse(query: bytes, *, tcp: bool) -> Question | None:
    """None for what deserves no answer at all. A query that is not a plain question comes back with an empty type."""
    try:
        message = dns.message.from_wire(query, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return None
    if message.flags & dns.flags.QR:
        return None
    size = TCP_SIZE_MAX if tcp else max(UDP_SIZE_DEFAULT, min(message.payload, UDP_SIZE_MAX)) if message.edns >= 0 else UDP_SIZE_DEFAULT
    if message.opcode() != dns.opcode.QUERY or len(message.question) != 1 or message.question[0].rdclass != dns.rdataclass.IN:
        return Question(message, "", "", size)
    question = message.question[0]
    return Question(message, question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype), size)


def refuse(question: Question, rcode: dns.rcode.Rcode) -> bytes:
    """A response without records: NOTIMP, SERVFAIL, …"""
    response = dns.message.make_response(question.message, our_payload=UDP_SIZE_MAX)
    response.set_rcode(rcode)
    return response.to_wire(max_size=question.size_max)


def respond(question: Question, answer: Answer, zone: Zone, ttl: int, *, extra: Sequence[dns.rrset.RRset] = (), rotation: int = 0) -> bytes:
    """The response in wire format, truncated (TC) when it does not fit. `extra` are upstream's records behind an alias."""
    response = dns.message.make_response(question.message, our_payload=UDP_SIZE_MAX, recursion_available=True)
    response.flags |= dns.flags.AA
    records = list(answer.records)
    if records and rotation:
        records = records[rotation % len(records) :] + records[: rotation % len(records)]
    owner = question.message.question[0].name
    response.answer = [*_rrsets(records, ttl, owner, question.name), *extra]
    if not response.answer:
        response.authority = _rrsets([zone.soa()], NEGATIVE_TTL_SECONDS, owner, question.name)
        response.set_rcode(dns.rcode.NOERROR if answer.exists else dns.rcode.NXDOMAIN)
    response.additional = _rrsets(answer.additional, ttl, owner, question.name)
    return response.to_wire(max_size=question.size_max, prefer_truncation=True, want_shuffle=False)  # the order is our rotation


def respond_upstream(question: Question, rrsets: Sequence[dns.rrset.RRset], rcode: dns.rcode.Rcode) -> bytes:
    """A response that carries what an upstream resolver said."""
    response = dns.message.make_response(question.message, our_payload=UDP_SIZE_MAX, recursion_available=True)
    response.answer = list(rrsets)
    response.set_rcode(rcode)
    return response.to_wire(max_size=question.size_max, prefer_truncation=True)


def _rrsets(records: Sequence[Record], ttl: int, asked: dns.name.Name, asked_text: str) -> list[dns.rrset.RRset]:
    """Group records into RRsets; the owner is spelled as the question spelled it (some clients check the case)."""
    sets: OrderedDict[tuple[str, str], dns.rrset.RRset] = OrderedDict()
    for record in records:
        key = (record.name, record.type)
        if key not in sets:
            owner = asked if record.name == asked_text else dns.name.from_text(record.name)
            sets[key] = dns.rrset.RRset(owner, dns.rdataclass.IN, dns.rdatatype.from_text(record.type))
            sets[key].update_ttl(ttl)
        sets[key].add(dns.rdata.from_text("IN", record.type, record.data, origin=dns.name.root, relativize=False), ttl)
    return list(sets.values())


class AnswerCache:
    """Ready responses by query bytes, valid while the zone's serial stands; the least recently used gives way."""

    def __init__(self, entries_max: int) -> None:
        self._entries: OrderedDict[bytes, tuple[str, list[bytes]]] = OrderedDict()
        self._entries_max = entries_max
        self._serial = 0

    def get(self, query: bytes, serial: int) -> tuple[str, bytes] | None:
        """The question's type and the response without its id."""
        if serial != self._serial:
            self._entries.clear()
            self._serial = serial
            return None
        entry = self._entries.get(query[2:])
        if entry is None:
            return None
        self._entries.move_to_end(query[2:])
        rtype, variants = entry
        body = variants[0]
        if len(variants) > 1:
            variants.append(variants.pop(0))
        return rtype, body

    def put(self, query: bytes, rtype: str, responses: Sequence[bytes]) -> None:
        self._entries[query[2:]] = (rtype, [response[2:] for response in responses])
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)
