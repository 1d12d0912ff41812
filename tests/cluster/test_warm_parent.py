"""The warm parent: what it spares at import, and what its children are told."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kubecosm.cluster import linux, zygote


def test_sparing_imports_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/my/authorities.pem")
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    rich_before = sys.modules.get("rich")
    with zygote._without_extras():
        assert os.environ["SSL_CERT_FILE"] == os.devnull
        with pytest.raises(ImportError):
            import rich  # noqa: F401
    assert os.environ["SSL_CERT_FILE"] == "/my/authorities.pem"
    assert "SSL_CERT_DIR" not in os.environ
    assert sys.modules.get("rich") is rich_before


def test_libraries_work_without_what_is_spared() -> None:
    source = (
        "from kubecosm.cluster import zygote\n"
        "with zygote._without_extras():\n    import structlog, aiohttp, kubecosm.runtime.service\n"
        "import sys; assert 'rich' not in sys.modules\n"
        "import rich\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="process titles are Linux's")
def test_a_process_can_be_renamed() -> None:
    source = (
        "from kubecosm.cluster import linux\n"
        "linux.set_title('kubecosm a/b'); linux.set_command_name('kube-something-long')\n"
        "print(open('/proc/self/cmdline').read().rstrip(chr(0)), open('/proc/self/comm').read())\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "kubecosm a/b kube-something-"[: len("kubecosm a/b ") + linux.COMMAND_NAME_BYTES_MAX]


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_process_whose_parent_is_gone_already_ends_itself() -> None:
    source = "from kubecosm.cluster import linux; linux.die_with_parent(1 << 22); print('alive')"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
