"""The commands and their options. Nothing heavy is imported before a command runs, so that help is instant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import kubecosm

NAME = click.option("--name", default="default", show_default=True, envvar="KUBECOSM_NAME", help="Which cluster.")
COMPONENT = click.argument("component")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(kubecosm.__version__, message=f"kubecosm %(version)s (Kubernetes {kubecosm.KUBERNETES_VERSION})")
def cli() -> None:
    """A Kubernetes cluster in miniature: no Docker, no root, up in a second."""


@cli.command()
@NAME
@click.option("--data-dir", type=click.Path(path_type=Path), help="Keep the cluster in this directory.")
@click.option("--port", type=int, help="Port of the API server; 0 takes a free one.  [default: the cluster's own]")
@click.option("--nodes", type=int, help="How many nodes to simulate.  [default: 1]")
@click.option("--components", help="Start only these, separated by commas.  [default: all]")
@click.option("--detach", "-d", is_flag=True, help="Return when the cluster is ready, and leave it running.")
@click.option("--ephemeral", is_flag=True, help="Delete the cluster when it stops.")
@click.option("--set", "settings", multiple=True, metavar="COMPONENT.FLAG=VALUE", help="A flag of a component; may be repeated.")
@click.option("--timeout", type=float, default=60, show_default=True, help="Seconds to wait until everything is ready.")
def up(
    name: str, data_dir: Path | None, port: int | None, nodes: int | None, components: str | None, detach: bool, ephemeral: bool,
    settings: tuple[str, ...], timeout: float,
) -> None:  # fmt: skip
    """Start a cluster, and wait until all of it is ready."""
    from kubecosm.cli import up as command
    from kubecosm.cluster.launch import Options
    from kubecosm.cluster.spec import parse_components, parse_flags

    options = Options(
        name=name, data_dir=data_dir, port=port, nodes=nodes, ephemeral=ephemeral,
        components=parse_components(components) if components is not None else None,
        flags=parse_flags(settings) if settings else None,
    )  # fmt: skip
    command.up(options, detach=detach, seconds_max=timeout)


@cli.command()
@NAME
def down(name: str) -> None:
    """Stop a cluster; its objects stay on disk for the next `up`."""
    from kubecosm.cli import lifecycle

    lifecycle.down(name)


@cli.command()
@NAME
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def status(name: str, output: str) -> None:
    """Show a cluster's processes and nodes; exit code 1 unless it runs."""
    from kubecosm.cli import lifecycle

    lifecycle.status(name, output)


@cli.command("list")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def list_clusters(output: str) -> None:
    """Show all clusters."""
    from kubecosm.cli import lifecycle

    lifecycle.list_clusters(output)


@cli.command()
@NAME
@click.option("--force", is_flag=True, help="Stop it first if it runs.")
def delete(name: str, force: bool) -> None:
    """Remove a cluster and all that it stored."""
    from kubecosm.cli import lifecycle

    lifecycle.delete(name, force=force)


@cli.command()
@NAME
@click.option("--path", "only_path", is_flag=True, help="Print where it lies instead.")
def kubeconfig(name: str, only_path: bool) -> None:
    """Print the kubeconfig of a cluster."""
    from kubecosm.cli import lifecycle

    lifecycle.print_kubeconfig(name, only_path=only_path)


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--server", required=True, help="URL at which the components reach the API server.")
@click.option("--user-server", default="", help="URL at which you reach it, if another.")
@click.option("--shared", is_flag=True, help="Let every user of the machine read them, as containers may need.")
@click.option("--node", "nodes", multiple=True, help="A node whose kubelet hosts it alone and gets its identity; may be repeated.")
def keys(directory: Path, server: str, user_server: str, shared: bool, nodes: tuple[str, ...]) -> None:
    """Write certificates and kubeconfigs for components that you start yourself (docker-compose)."""
    from kubecosm.cli import keys as command

    command.write_keys(directory, server, user_server=user_server, shared=shared, nodes=nodes)


@cli.command()
@NAME
@click.option("--follow", "-f", is_flag=True, help="Go on as lines are written.")
@click.option("--tail", type=click.IntRange(min=0), help="Only so many last lines.")
@click.option("--raw", is_flag=True, help="JSON lines as they are, also in a terminal.")
@click.argument("component", required=False)
def logs(name: str, component: str | None, **options: Any) -> None:
    """Print the logs of a component, or of all."""
    from kubecosm.cli import logs as command

    command.logs(name, component, **options)


@cli.command("explain-scheduling")
@NAME
@click.option("--namespace", "-n", default="default", show_default=True, help="The pod's namespace.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
@click.argument("pod")
def explain_scheduling(name: str, pod: str, namespace: str, output: str) -> None:
    """Show why a pod runs where it runs, or nowhere: every node's filter result and scores."""
    from kubecosm.cli import explain

    explain.explain_scheduling(name, pod, namespace, output)


@cli.group()
def node() -> None:
    """Switch simulated nodes off and on."""


@node.command("shutdown")
@NAME
@click.option("--now", is_flag=True, help="As if the power had gone: pods are told nothing, and the API server hears no more of the node.")
@click.argument("node_name", metavar="NODE")
def shutdown_node(name: str, node_name: str, now: bool) -> None:
    """Shut a node down: its pods end in groups by priority, then it is off."""
    from kubecosm.cli import power

    power.switch(name, node_name, "off" if now else "shutdown")


@node.command("start")
@NAME
@click.argument("node_name", metavar="NODE")
def start_node(name: str, node_name: str) -> None:
    """Switch a node on again."""
    from kubecosm.cli import power

    power.switch(name, node_name, "on")


def _operation(op: str, help_text: str) -> None:
    @cli.command(op, help=help_text)
    @NAME
    @COMPONENT
    def run(name: str, component: str) -> None:
        from kubecosm.cli import lifecycle

        lifecycle.operate(name, op, component)


_operation("kill", "Kill a component's process (SIGKILL); the supervisor starts it again.")
_operation("pause", "Freeze a component's process (SIGSTOP).")
_operation("resume", "Let a paused component go on.")
_operation("restart", "Stop a component cleanly and start it again.")
