"""What Services and EndpointSlices mean for traffic."""

from kubecosm.api.resources import Object
from kubecosm.services.proxy.dialer import NodeAddress
from kubecosm.services.proxy.places import Places
from kubecosm.services.proxy.table import Address, Backend, Place, routes_of

from .objects import endpoint, endpoint_slice, service


def test_a_cluster_ip_service_routes_to_its_ready_endpoints() -> None:
    slices = [endpoint_slice(endpoint("127.64.0.2"), endpoint("127.64.0.3", ready=False))]
    routes = routes_of(service(), slices)
    assert list(routes) == [Address("127.32.0.20", 80, "TCP")]
    assert routes[Address("127.32.0.20", 80, "TCP")].backends == (Backend("127.64.0.2", 8080, "node-0"),)


def test_endpoints_of_several_slices_are_merged_and_the_ready_duplicate_wins() -> None:
    slices = [endpoint_slice(endpoint("127.64.0.2", ready=False)), endpoint_slice(endpoint("127.64.0.2"), endpoint("127.64.1.2", "node-1"))]
    (route,) = routes_of(service(), slices).values()
    assert {b.address for b in route.backends} == {"127.64.0.2", "127.64.1.2"}


def test_terminating_endpoints_serve_only_when_none_is_ready() -> None:
    dying = endpoint("127.64.0.9", ready=False, serving=True, terminating=True)
    (only_dying,) = routes_of(service(), [endpoint_slice(dying)]).values()
    assert [b.address for b in only_dying.backends] == ["127.64.0.9"]
    (mixed,) = routes_of(service(), [endpoint_slice(dying, endpoint("127.64.0.2"))]).values()
    assert [b.address for b in mixed.backends] == ["127.64.0.2"]


def test_a_service_without_backends_listens_nowhere_so_that_the_kernel_refuses() -> None:
    assert routes_of(service(), []) == {}
    assert routes_of(service(), [endpoint_slice(endpoint("127.64.0.2", ready=False))]) == {}


def test_headless_and_external_name_services_have_no_address() -> None:
    slices = [endpoint_slice(endpoint("127.64.0.2"))]
    assert routes_of(service(clusterIP="None"), slices) == {}
    assert routes_of(service(type="ExternalName", externalName="example.org", clusterIP=""), slices) == {}


def test_node_port_and_load_balancer_add_their_fronts() -> None:
    svc = service(type="LoadBalancer", externalIPs=["127.0.0.9"], ports=[{"name": "http", "port": 80, "nodePort": 30080}])
    svc["status"] = {"loadBalancer": {"ingress": [{"ip": "127.48.0.1"}]}}
    routes = routes_of(svc, [endpoint_slice(endpoint("127.64.0.2"))])
    assert {(a.ip, a.port): r.front for a, r in routes.items()} == {
        ("127.32.0.20", 80): "ClusterIP",
        ("127.0.0.9", 80): "ExternalIP",
        ("", 30080): "NodePort",
        ("127.48.0.1", 80): "LoadBalancer",
    }


def test_a_local_traffic_policy_keeps_to_the_nodes_own_endpoints() -> None:
    svc = service(type="NodePort", externalTrafficPolicy="Local", ports=[{"name": "http", "port": 80, "nodePort": 30080}])
    routes = routes_of(svc, [endpoint_slice(endpoint("127.64.0.2", "node-0"), endpoint("127.64.1.2", "node-1"))])
    node_port, cluster_ip = routes[Address("", 30080, "TCP")], routes[Address("127.32.0.20", 80, "TCP")]
    assert [b.address for b in node_port.backends_for(Place("node-1"))] == ["127.64.1.2"]
    assert node_port.backends_for(Place("node-2")) == ()
    assert len(cluster_ip.backends_for(Place("node-1"))) == 2


def test_ports_are_matched_by_name_and_protocol() -> None:
    svc = service(ports=[{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "http", "port": 80}])
    slices = [endpoint_slice(endpoint("127.64.0.2"), port=5353, name="dns", protocol="UDP")]
    assert list(routes_of(svc, slices)) == [Address("127.32.0.20", 53, "UDP")]


def test_a_node_whose_own_endpoints_all_terminate_still_serves_local_traffic_with_them() -> None:
    svc = service(internalTrafficPolicy="Local")
    dying = endpoint("127.64.0.2", "node-0", ready=False, serving=True, terminating=True)
    (route,) = routes_of(svc, [endpoint_slice(dying, endpoint("127.64.1.2", "node-1"))]).values()
    assert [b.address for b in route.backends_for(Place("node-0"))] == ["127.64.0.2"]
    assert [b.address for b in route.backends_for(Place("node-1"))] == ["127.64.1.2"]
    assert [b.address for b in route.backends_for(Place())] == ["127.64.1.2"]


def hinted(ip: str, node: str, zone: str = "", *, for_node: str = "", **conditions: bool) -> Object:
    hints: Object = {"forZones": [{"name": zone}]} if zone else {}
    if for_node:
        hints["forNodes"] = [{"name": for_node}]
    return {**endpoint(ip, node, **conditions), "hints": hints}


def test_hints_keep_traffic_in_its_zone() -> None:
    (route,) = routes_of(service(), [endpoint_slice(hinted("127.64.0.2", "n0", "a"), hinted("127.64.1.2", "n1", "b"))]).values()
    assert [b.address for b in route.backends_for(Place("n0", "a"))] == ["127.64.0.2"]
    assert [b.address for b in route.backends_for(Place("n9", "b"))] == ["127.64.1.2"]
    assert len(route.backends_for(Place("n9", "c"))) == 2, "a zone that no endpoint is meant for"
    assert len(route.backends_for(Place())) == 2, "from outside the cluster"


def test_hints_keep_traffic_on_its_node_before_its_zone() -> None:
    rows = hinted("127.64.0.2", "n0", "a", for_node="n0"), hinted("127.64.1.2", "n1", "a", for_node="n1")
    (route,) = routes_of(service(), [endpoint_slice(*rows)]).values()
    assert [b.address for b in route.backends_for(Place("n1", "a"))] == ["127.64.1.2"]
    assert len(route.backends_for(Place("n2", "a"))) == 2


def test_hints_count_only_if_every_ready_endpoint_has_some() -> None:
    rows = hinted("127.64.0.2", "n0", "a"), endpoint("127.64.1.2", "n1"), hinted("127.64.0.9", "n0", "a", ready=False)
    (route,) = routes_of(service(), [endpoint_slice(*rows)]).values()
    assert not route.asks_place
    assert [b.address for b in route.backends_for(Place("n0", "a"))] == ["127.64.0.2", "127.64.1.2"]
    (placed,) = routes_of(service(), [endpoint_slice(rows[0], endpoint("127.64.1.2", "n1", ready=False))]).values()
    assert placed.asks_place


def test_a_client_is_where_its_pod_or_its_socket_is() -> None:
    nodes = {
        "n0": NodeAddress("n0", "127.16.0.1", 10250, True, "a", ("127.64.0.0/24",)),
        "n1": NodeAddress("n1", "127.16.0.2", 10250, True, "b", ("127.64.1.0/24",)),
    }
    places = Places(nodes)
    assert places.place_of("", "127.64.1.7") == Place("n1", "b")
    assert places.place_of("", "127.16.0.1") == Place("n0", "a")
    assert places.place_of("n0", "127.64.1.7") == Place("n0", "a"), "a NodePort: the node that was asked"
    assert places.place_of("", "127.0.0.1") == Place()
    nodes["n2"] = NodeAddress("n2", "127.16.0.3", 10250, True, "c", ("127.64.2.0/24",))
    places.forget()
    assert places.place_of("", "127.64.2.1") == Place("n2", "c")
