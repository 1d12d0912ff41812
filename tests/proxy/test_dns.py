"""The cluster's names, from Services to bytes on the wire."""

import asyncio

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from kubecosm.api.meta import Key
from kubecosm.api.resources import Object
from kubecosm.services.proxy.dns.server import Resolver
from kubecosm.services.proxy.dns.upstream import Outcome, Upstream
from kubecosm.services.proxy.dns.zone import Zone, service_records

from .objects import endpoint, endpoint_slice, service
from .test_balancer import StillClock

WEB = service()
HEADLESS = service("db", clusterIP="None")
DB_SLICE = endpoint_slice(endpoint("127.64.0.2", hostname="db-0"), endpoint("127.64.0.3", hostname="db-1"), port=9042, name="cql")


def zone_of(*pairs: tuple[Object, list[Object]]) -> Zone:
    zone = Zone("cluster.local")
    zone.server_ip = "127.32.0.10"
    zone.set_namespaces(["default", "kube-system"])
    for svc, slices in pairs:
        key = Key(svc["metadata"]["namespace"], svc["metadata"]["name"])
        zone.put(key, service_records(svc, slices, "cluster.local"))
    return zone


ZONE = zone_of((WEB, []), (HEADLESS, [DB_SLICE]), (service("out", type="ExternalName", clusterIP="", externalName="example.org"), []))


@pytest.mark.parametrize(
    ("name", "rtype", "data"),
    [
        pytest.param("web.default.svc.cluster.local", "A", ["127.32.0.20"], id="cluster ip"),
        pytest.param("_http._tcp.web.default.svc.cluster.local", "SRV", ["0 100 80 web.default.svc.cluster.local"], id="srv"),
        pytest.param("20.0.32.127.in-addr.arpa", "PTR", ["web.default.svc.cluster.local"], id="ptr of a service"),
        pytest.param("db.default.svc.cluster.local", "A", ["127.64.0.2", "127.64.0.3"], id="headless"),
        pytest.param("db-0.db.default.svc.cluster.local", "A", ["127.64.0.2"], id="stateful pod"),
        pytest.param("2.0.64.127.in-addr.arpa", "PTR", ["db-0.db.default.svc.cluster.local"], id="ptr of a pod"),
        pytest.param("127-64-0-9.default.pod.cluster.local", "A", ["127.64.0.9"], id="pod by address"),
        pytest.param("dns-version.cluster.local", "TXT", ['"1.1.0"'], id="version"),
        pytest.param("ns.dns.cluster.local", "A", ["127.32.0.10"], id="name server"),
        pytest.param("out.default.svc.cluster.local", "CNAME", ["example.org"], id="external name"),
    ],
)
def test_names_of_the_specification_resolve(name: str, rtype: str, data: list[str]) -> None:
    assert [r.data for r in ZONE.lookup(name, rtype).records] == data


def test_srv_of_a_headless_service_names_every_pod_and_adds_its_address() -> None:
    answer = ZONE.lookup("_cql._tcp.db.default.svc.cluster.local", "SRV")
    assert [r.data for r in answer.records] == [f"0 50 9042 db-{i}.db.default.svc.cluster.local" for i in (0, 1)]
    assert [r.data for r in answer.additional] == ["127.64.0.2", "127.64.0.3"]


@pytest.mark.parametrize(
    "name", ["nosuch.default.svc.cluster.local", "web.other.svc.cluster.local", "x.cluster.local", "a.b.c.svc.cluster.local"]
)
def test_unknown_names_do_not_exist(name: str) -> None:
    assert not ZONE.lookup(name, "A").exists


@pytest.mark.parametrize("name", ["web.default.svc.cluster.local", "default.svc.cluster.local", "svc.cluster.local", "cluster.local"])
def test_known_names_without_such_a_record_exist_all_the_same(name: str) -> None:
    answer = ZONE.lookup(name, "MX")
    assert answer.exists
    assert not answer.records


def test_pods_that_are_not_ready_are_left_out() -> None:
    zone = zone_of((HEADLESS, [endpoint_slice(endpoint("127.64.0.2", ready=False), endpoint("127.64.0.3"))]))
    assert [r.data for r in zone.lookup("db.default.svc.cluster.local", "A").records] == ["127.64.0.3"]


def test_a_removed_service_takes_its_names_with_it() -> None:
    zone = zone_of((WEB, []))
    zone.put(Key("default", "web"), None)
    assert not zone.lookup("web.default.svc.cluster.local", "A").exists
    assert not zone.covers("20.0.32.127.in-addr.arpa")


class FakeUpstream(Upstream):
    """An upstream that knows one address and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__((), StillClock(), 1.0)
        self.asked: list[str] = []

    async def _ask(self, name: str, rtype: str) -> Outcome:
        self.asked.append(name)
        if name != "example.org":
            return [], dns.rcode.NXDOMAIN
        return [dns.rrset.from_text("example.org.", 60, "IN", rtype, "192.0.2.1")], dns.rcode.NOERROR


def ask(
    zone: Zone, name: str, rtype: str = "A", *, tcp: bool = False, times: int = 1, upstream: FakeUpstream | None = None
) -> list[dns.message.Message]:
    async def scenario() -> list[dns.message.Message]:
        answers = []
        async with asyncio.TaskGroup() as tasks:
            resolver = Resolver(zone, upstream or FakeUpstream(), tasks, ttl_seconds=30, cache_entries_max=10)
            for _ in range(times):
                query = dns.message.make_query(name, rtype)
                answer = resolver.answer_now(query.to_wire(), tcp=tcp)
                if answer is not None and not isinstance(answer, bytes):
                    answer = await resolver.answer_later(answer)
                assert answer is not None
                answers.append(dns.message.from_wire(answer))
                assert answers[-1].id == query.id
        return answers

    return asyncio.run(scenario())


def test_an_answer_carries_ttl_authority_and_the_questions_spelling() -> None:
    (answer,) = ask(ZONE, "WEB.default.svc.cluster.LOCAL")
    assert answer.flags & dns.flags.AA
    assert answer.answer[0].to_text() == "WEB.default.svc.cluster.LOCAL. 30 IN A 127.32.0.20"


def test_nxdomain_carries_the_soa() -> None:
    (answer,) = ask(ZONE, "nosuch.default.svc.cluster.local")
    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert answer.authority[0].to_text().startswith("cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. ")


def test_a_change_of_the_zone_is_seen_at_once_in_spite_of_the_cache() -> None:
    zone = zone_of((WEB, []))
    assert ask(zone, "web.default.svc.cluster.local", times=2)[1].answer
    zone.put(Key("default", "web"), None)
    assert ask(zone, "web.default.svc.cluster.local")[0].rcode() == dns.rcode.NXDOMAIN


def test_repeated_questions_get_the_addresses_in_turn() -> None:
    answers = ask(ZONE, "db.default.svc.cluster.local", times=4)
    firsts = [a.answer[0][0].to_text() for a in answers]
    assert set(firsts) == {"127.64.0.2", "127.64.0.3"}


def test_a_large_answer_is_truncated_over_udp_and_whole_over_tcp() -> None:
    pods = [endpoint(f"127.64.0.{i}") for i in range(2, 120)]
    zone = zone_of((HEADLESS, [endpoint_slice(*pods)]))
    (udp,) = ask(zone, "db.default.svc.cluster.local")
    (tcp,) = ask(zone, "db.default.svc.cluster.local", tcp=True)
    assert udp.flags & dns.flags.TC
    assert len(udp.to_wire()) <= 512
    assert len(tcp.answer[0]) == 118


def test_other_names_are_asked_upstream_once_and_then_remembered() -> None:
    upstream = FakeUpstream()
    answers = ask(ZONE, "example.org", times=3, upstream=upstream)
    assert [a.answer[0][0].to_text() for a in answers] == ["192.0.2.1"] * 3
    assert upstream.asked == ["example.org"]


def test_an_external_name_is_followed_upstream() -> None:
    (answer,) = ask(ZONE, "out.default.svc.cluster.local")
    assert [rrset.to_text().split(" IN ")[1] for rrset in answer.answer] == ["CNAME example.org.", "A 192.0.2.1"]


def test_garbage_and_responses_get_no_answer_and_odd_opcodes_are_refused() -> None:
    async def scenario() -> None:
        async with asyncio.TaskGroup() as tasks:
            resolver = Resolver(ZONE, FakeUpstream(), tasks, ttl_seconds=30, cache_entries_max=10)
            assert resolver.answer_now(b"\xff" * 40, tcp=False) is None
            response = dns.message.make_response(dns.message.make_query("web.default.svc.cluster.local", "A"))
            assert resolver.answer_now(response.to_wire(), tcp=False) is None
            notify = dns.message.make_query("cluster.local", "SOA")
            notify.set_opcode(dns.opcode.NOTIFY)
            answer = resolver.answer_now(notify.to_wire(), tcp=False)
            assert isinstance(answer, bytes)
            assert dns.message.from_wire(answer).rcode() == dns.rcode.NOTIMP

    asyncio.run(scenario())
