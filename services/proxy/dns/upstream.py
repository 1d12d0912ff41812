"""Names outside the cluster: asked of the host's resolvers through aiodns, kept for as long as their TTL says (bounded)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from kubecosm.runtime.clock import Clock

if TYPE_CHECKING:
    import aiodns

ENTRIES_MAX = 4096
TTL_SECONDS_MAX = 30.0
NEGATIVE_TTL_SECONDS = 5.0
ARES_ENODATA, ARES_ENOTFOUND = 1, 4
Outcome = tuple[list[dns.rrset.RRset], dns.rcode.Rcode]

PRESENTATION: dict[str, str] = {
    "A": "{addr}",
    "AAAA": "{addr}",
    "CNAME": "{cname}.",
    "NS": "{nsdname}.",
    "PTR": "{dname}.",
    "MX": "{priority} {exchange}.",
    "SRV": "{priority} {weight} {port} {target}.",
    "SOA": "{mname}. {rname}. {serial} {refresh} {retry} {expire} {minimum}",
}
"""How the resolver's fields of each type read as text; TXT is built apart, other types are not forwarded."""


class Upstream:
    """Forwards questions. A resolver that fails or stays silent makes SERVFAIL, as any forwarder answers."""

    def __init__(self, servers: tuple[str, ...], clock: Clock, timeout_seconds: float) -> None:
        self._servers = servers
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._resolver: aiodns.DNSResolver | None = None
        self._cache: OrderedDict[tuple[str, str], tuple[float, Outcome]] = OrderedDict()

    async def resolve(self, name: str, rtype: str) -> Outcome:
        """The records of a name and the response code to pass on."""
        now = self._clock.monotonic()
        cached = self._cache.get((name, rtype))
        if cached is not None and cached[0] > now:
            return cached[1]
        outcome = await self._ask(name, rtype)
        if outcome[1] != dns.rcode.SERVFAIL:
            ttl = min((float(r.ttl) for r in outcome[0]), default=NEGATIVE_TTL_SECONDS)
            self._cache[name, rtype] = (now + min(ttl, TTL_SECONDS_MAX), outcome)
            if len(self._cache) > ENTRIES_MAX:
                self._cache.popitem(last=False)
        return outcome

    async def close(self) -> None:
        if self._resolver is not None:
            await self._resolver.close()

    async def _ask(self, name: str, rtype: str) -> Outcome:
        import aiodns  # costs an event thread: only once somebody asks for an outside name

        if rtype not in PRESENTATION and rtype != "TXT":
            return [], dns.rcode.NOTIMP
        if self._resolver is None:
            self._resolver = aiodns.DNSResolver(nameservers=self._servers or None, timeout=self._timeout_seconds, tries=2)
        try:
            result = await self._resolver.query_dns(name, rtype)
        except aiodns.error.DNSError as error:
            code = error.args[0] if error.args else 0
            known = {ARES_ENODATA: dns.rcode.NOERROR, ARES_ENOTFOUND: dns.rcode.NXDOMAIN}
            return [], known.get(code, dns.rcode.SERVFAIL)
        return _rrsets(result.answer), dns.rcode.NOERROR


def _rrsets(records: list[Any]) -> list[dns.rrset.RRset]:
    sets: OrderedDict[tuple[str, int], dns.rrset.RRset] = OrderedDict()
    for record in records:
        rtype = dns.rdatatype.to_text(dns.rdatatype.RdataType.make(record.type))
        text = _presentation(rtype, record.data)
        if text is None:
            continue
        key = (record.name, record.type)
        if key not in sets:
            sets[key] = dns.rrset.RRset(dns.name.from_text(record.name), dns.rdataclass.IN, dns.rdatatype.from_text(rtype))
        sets[key].add(dns.rdata.from_text("IN", rtype, text), record.ttl)
    return list(sets.values())


def _presentation(rtype: str, data: Any) -> str | None:
    if rtype == "TXT":
        raw = data.data if isinstance(data.data, bytes) else str(data.data).encode()
        return '"' + "".join(chr(b) if 32 <= b < 127 and b not in (34, 92) else f"\\{b:03d}" for b in raw) + '"'
    template = PRESENTATION.get(rtype)
    if template is None:
        return None
    fields = {k: v.rstrip(".") if isinstance(v, str) else v for k, v in vars(data).items()}
    return template.format(**fields)
