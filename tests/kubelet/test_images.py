"""Images: their names, whether they may be pulled, why they cannot be, and whom they run as."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.resources import Object
from kubecosm.services.kubelet.cri.images import ImageNameError, full_name, parse_image
from kubecosm.services.kubelet.env.environment import ConfigMissing
from kubecosm.services.kubelet.nodes.objects import image_list
from kubecosm.services.kubelet.pods.context import check_user
from kubecosm.services.kubelet.sim.profiles import ImageProfile, ImageProfiles
from kubecosm.services.kubelet.sim.pulls import pull_problem

from .lab import Lab, container, in_lab, make_pod


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.25", "docker.io/library/nginx:1.25"),
        ("bitnami/redis", "docker.io/bitnami/redis:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("host:5000/a/b:c", "host:5000/a/b:c"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
        ("a.example/b@sha256:" + "0" * 64, "a.example/b@sha256:" + "0" * 64),
    ],
)
def test_runtimes_call_images_by_their_full_names(text: str, name: str) -> None:
    assert full_name(text) == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Nginx", "invalid reference format: repository name (library/Nginx) must be lowercase"),
        ("a/B:c", "invalid reference format: repository name (a/B) must be lowercase"),
        ("nginx:", "invalid reference format"),
        ("-nginx", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("f" * 64, f"invalid repository name ({'f' * 64}), cannot specify 64-byte hexadecimal strings"),
    ],
)
def test_a_wrong_name_is_refused_in_the_words_of_the_reference_library(text: str, message: str) -> None:
    with pytest.raises(ImageNameError) as refusal:
        parse_image(text)
    assert str(refusal.value) == message


def test_a_pull_fails_in_containerds_words() -> None:
    missing = pull_problem(parse_image("nginx:nope"), "fail")
    name = "docker.io/library/nginx:nope"
    reference = f'failed to pull and unpack image "{name}": failed to resolve reference "{name}"'
    assert missing == f"rpc error: code = NotFound desc = {reference}: {name}: not found"
    nowhere = pull_problem(parse_image("registry.invalid/a/b:c"), "")
    assert 'failed to do request: Head "https://registry.invalid/v2/a/b/manifests/c": dial tcp: lookup registry.invalid on ' in nowhere
    assert nowhere.endswith(": no such host")
    assert "pull access denied" in pull_problem(parse_image("a/b"), "denied")
    assert pull_problem(parse_image("nginx"), "") == ""


def waiting(lab: Lab) -> Object:
    """The waiting state that was told last; empty if there is none."""
    history = lab.statuses.history.get("uid-web")
    found: Object = history[-1]["containerStatuses"][0]["state"].get("waiting") or {} if history else {}
    return found


def test_an_image_that_may_not_be_pulled_is_waited_for_until_the_node_has_it() -> None:
    async def story(lab: Lab) -> None:
        lab.run(make_pod(container(imagePullPolicy="Never")))
        await lab.until(lambda: waiting(lab).get("reason") == "ErrImageNeverPull")
        message = 'Container image "nginx:1.25" is not present with pull policy of Never'
        assert waiting(lab)["message"] == message
        assert ("Warning", "ErrImageNeverPull", message) in lab.events.seen
        assert ("Warning", "Failed", "Error: ErrImageNeverPull") in lab.events.seen
        lab.run(make_pod(container(), name="other"))  # pulls it
        await lab.until_phase("Running")

    in_lab(story)


def test_a_wrong_image_name_is_told_and_nothing_is_pulled() -> None:
    async def story(lab: Lab) -> None:
        lab.run(make_pod(container(image="Nginx")))
        await lab.until(lambda: waiting(lab).get("reason") == "InvalidImageName")
        assert waiting(lab)["message"] == (
            'Failed to apply default image tag "Nginx": couldn\'t parse image name "Nginx": '
            "invalid reference format: repository name (library/Nginx) must be lowercase"
        )
        assert lab.events.reasons() == ["InspectFailed", "Failed"]

    in_lab(story)


def test_the_status_tells_the_full_name_and_changing_nothing_but_the_spelling_restarts_nothing() -> None:
    async def story(lab: Lab) -> None:
        worker = lab.run(make_pod(container(image="nginx")))
        await lab.until_phase("Running")
        assert lab.status()["containerStatuses"][0]["image"] == "docker.io/library/nginx:latest"
        spelt = [container(image="docker.io/library/nginx:latest")]
        worker.update(
            {**worker.pod, "metadata": {**worker.pod["metadata"], "generation": 2}, "spec": {**worker.pod["spec"], "containers": spelt}}
        )
        await lab.clock.sleep(5)
        assert lab.status()["containerStatuses"][0]["restartCount"] == 0

    in_lab(story)


@pytest.mark.parametrize(
    ("of_pod", "of_container", "image_user", "problem"),
    [
        pytest.param({"runAsNonRoot": True}, {}, "", "container has runAsNonRoot and image will run as root", id="root image"),
        pytest.param({"runAsNonRoot": True}, {}, "0:0", "container has runAsNonRoot and image will run as root", id="user 0"),
        pytest.param({"runAsNonRoot": True}, {"runAsUser": 0}, "101", "container's runAsUser breaks non-root policy", id="asked for root"),
        pytest.param(
            {"runAsNonRoot": True}, {}, "app",
            "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root", id="by name",
        ),
        pytest.param({"runAsNonRoot": True}, {}, "101", "", id="numbered"),
        pytest.param({"runAsNonRoot": True}, {}, None, "", id="unknown"),
        pytest.param({"runAsNonRoot": True, "runAsUser": 7}, {}, "", "", id="pod's user"),
        pytest.param({"runAsNonRoot": True}, {"runAsNonRoot": False}, "", "", id="container may"),
        pytest.param({}, {}, "", "", id="nobody minds"),
    ],
)  # fmt: skip
def test_a_container_that_must_not_be_root_is_held_to_it(
    of_pod: Object, of_container: Object, image_user: str | None, problem: str
) -> None:
    pod: Any = make_pod(container(securityContext=of_container), securityContext=of_pod)
    spec = pod["spec"]["containers"][0]
    if not problem:
        check_user(pod, spec, image_user)
        return
    with pytest.raises(ConfigMissing) as refusal:
        check_user(pod, spec, image_user)
    assert refusal.value.reason == "CreateContainerConfigError"
    assert refusal.value.message == f'{problem} (pod: "web_default(uid-web)", container: c)'


def test_what_is_known_of_roots_images_holds_for_official_ones_only() -> None:
    profiles = ImageProfiles([ImageProfile("mine", user="")])
    assert profiles.user_of("nginx:1.25") == ""
    assert profiles.user_of("example.com/nginx") is None
    assert profiles.user_of("nginxinc/nginx-unprivileged:1") == "101"
    assert profiles.user_of("example.com/mine") == ""
    assert profiles.user_of("example.com/other") is None


def test_images_can_be_there_from_the_start() -> None:
    profiles = ImageProfiles(preloaded=["shop/*", "*:dev"])
    assert profiles.is_preloaded("docker.io/shop/cart:1")
    assert profiles.is_preloaded("localhost/thing:dev")
    assert not profiles.is_preloaded("docker.io/library/nginx:1.25")


def test_the_status_tells_whom_a_container_runs_as() -> None:
    async def story(lab: Lab) -> None:
        context = {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "supplementalGroups": [4000]}
        lab.run(make_pod(container(), container("own", securityContext={"runAsUser": 7}), securityContext=context))
        await lab.until_phase("Running")
        first, own = (status["user"]["linux"] for status in lab.status()["containerStatuses"])
        assert first == {"uid": 1000, "gid": 3000, "supplementalGroups": [3000, 2000, 4000]}
        assert own["uid"] == 7

    in_lab(story)


def test_a_node_tells_of_its_largest_images() -> None:
    async def story(lab: Lab) -> None:
        lab.run(make_pod(container(), container("d"), container("other", image="redis")))
        await lab.until_phase("Running")
        assert len(lab.new_images) == 2, "each image once"
        listed = image_list(lab.runtime.images("node-0"), lab.runtime.image_id)
        assert {one["names"][1] for one in listed} == {"docker.io/library/nginx:1.25", "docker.io/library/redis:latest"}
        assert listed[0]["sizeBytes"] >= listed[1]["sizeBytes"]
        assert listed[0]["names"][0].startswith("docker.io/library/")
        many = [(f"docker.io/a/b:{number}", number) for number in range(60)]
        assert [one["sizeBytes"] for one in image_list(many, str)] == list(range(59, 9, -1))

    in_lab(story)
