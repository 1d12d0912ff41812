"""Refusals show Go's internal structs as Go's encoder prints them."""

from __future__ import annotations

import json

from kubecosm.services.apiserver.registry.gotypes import difference, dump


def test_structs_show_all_their_fields_in_order():
    assert json.dumps(dump("Toleration", {"key": "k", "tolerationSeconds": 5})) == (
        '{"Key": "k", "Operator": "", "Value": "", "Effect": "", "TolerationSeconds": 5}'
    )
    assert dump("ContainerPort", {"containerPort": 80, "protocol": "TCP"}) == {
        "Name": "", "HostPort": 0, "ContainerPort": 80, "Protocol": "TCP", "HostIP": "",
    }  # fmt: skip


def test_the_host_fields_of_a_pod_lie_in_its_security_context():
    shown = dump("PodSpec", {"containers": [{"name": "c"}], "hostNetwork": True, "nodeSelector": {"b": "1", "a": "2"}})
    assert shown["SecurityContext"]["HostNetwork"] is True
    assert list(shown["NodeSelector"]) == ["a", "b"]
    assert shown["Containers"][0]["Resources"] == {"Limits": None, "Requests": None, "Claims": None}
    assert shown["Volumes"] is None


def test_a_difference_shows_three_lines_around_each_change():
    old = {"containers": [], "restartPolicy": "Always", "dnsPolicy": "Default"}
    text = difference("PodSpec", old, {**old, "restartPolicy": "Never"})
    head, *lines = text.splitlines()
    assert head.startswith("@@ -")
    assert '- "RestartPolicy": "Always",' in lines
    assert '+ "RestartPolicy": "Never",' in lines
    assert len(lines) == 3 + 2 + 3
    assert difference("PodSpec", old, old) == ""
