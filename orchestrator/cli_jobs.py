"""The verbs for jobs of a Ray cluster: submit, status, stop. Each talks to the jobs server of its head node."""

import importlib
import os
import shlex
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from orchestrator.errors import ConfigError
from orchestrator.options import INTERRUPTED, Config, Fresh, JobGoesOn, Sets
from orchestrator.ray_settings import set_environment
from orchestrator.submission import chosen, submission
from orchestrator.terminal import out

LAST = 20  # lines of a job that status shows
DASHBOARD = "http://127.0.0.1:8265"
app = typer.Typer()

Server = Annotated[
    str,
    typer.Option(
        "--address",
        envvar=["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"],
        help="The jobs server: http, the head node, and the port of Ray's dashboard.",
    ),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="The name that 'mtal submit' gave the job.")]


@app.command()
def submit(
    config: Config,
    address: Server = DASHBOARD,
    set_: Sets = None,
    working_dir: Annotated[
        Path | None,
        typer.Option(help="The folder that travels; default: that of the YAML, with the files of strategies in it."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Pass a variable on, by its name; Ray logs its value, so names of secrets are refused. Repeatable.",
        ),
    ] = None,
    python: Annotated[
        str | None, typer.Option(help="The Python on the cluster that has mtal; default: the mtal on its PATH.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", "--submission-id", help="What to call the job; default: run and time.")
    ] = None,
    fresh: Fresh = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the end.")] = False,
) -> None:
    """Run an experiment as a job of a Ray cluster, and show what it prints. The same command again carries on.

    [bold]Example:[/bold]  mtal submit mine.yaml --address http://127.0.0.1:8265 --set output=/shared/runs
    """
    job = submission(
        config, set_ or [], folder=working_dir, fresh=fresh or [], python=python, name=name,
        environment=chosen(env or [], os.environ),
    )  # fmt: skip
    server = _server(address)
    server.submit(job)
    typer.echo(f"job: {job.id}")
    if no_wait:
        _next_steps(job.id, server.address)
    else:
        _follow(server, job.id)


@app.command()
def status(
    id_: Annotated[str | None, typer.Argument(metavar="[ID]", help="A job; without it, all jobs are listed.")] = None,
    address: Server = DASHBOARD,
    follow: Annotated[bool, typer.Option("--follow", help="Show all that the job prints, until it ends.")] = False,
) -> None:
    """Say how the jobs of a cluster are, or one job with the last lines that it printed.

    [bold]Example:[/bold]  mtal status mine-20260102-030405 --address http://127.0.0.1:8265
    """
    if id_ is None and follow:
        raise ConfigError("--follow: expected the name of a job beside it; mtal status lists them")
    server = _server(address)
    if id_ is None:
        out.print(_table(server.jobs()))
    elif follow:
        _follow(server, id_)
    else:
        job = server.job(id_)
        for line in server.log(id_).splitlines()[-LAST:]:
            typer.echo(line)
        typer.echo(f"{id_}: {_described(job)}")


@app.command()
def stop(id_: Id, address: Server = DASHBOARD) -> None:
    """Stop a job. What it has finished stays, and the same submit carries on from there.

    [bold]Example:[/bold]  mtal stop mine-20260102-030405 --address http://127.0.0.1:8265
    """
    typer.echo(f"{id_}: {_described(_server(address).stop(id_))}")


def _server(address: str) -> Any:
    """The jobs server; ConfigError where the part of Ray that talks to it is not installed."""
    if find_spec("ray") is None or find_spec("aiohttp") is None:
        raise ConfigError(
            "jobs: the part of Ray that talks to a jobs server is not installed; expected mtal with its extra: "
            "pip install 'mtal[jobs]', or 'ray[default]' beside it"
        )
    set_environment(address)
    return _jobs().JobsServer(address)


def _jobs() -> Any:
    return importlib.import_module("orchestrator.jobs")


def _follow(server: Any, name: str) -> None:
    """Show all output of a job, and end with its exit code. Ctrl-C leaves the job alone."""
    try:
        job = server.follow(name, lambda text: typer.echo(text, nl=False))
    except KeyboardInterrupt:
        typer.echo(f"\n{name}: goes on without this command")
        _next_steps(name, server.address)
        raise JobGoesOn(INTERRUPTED) from None
    typer.echo(f"{name}: {_described(job)}")
    raise typer.Exit(_jobs().exit_code(job))


def _next_steps(name: str, address: str) -> None:
    where = shlex.join([name, "--address", address])
    typer.echo(f"follow it:  mtal status {where} --follow")
    typer.echo(f"stop it:    mtal stop {where}")


def _described(job: Any) -> str:
    """The state of a job in few words, and why where it did not start."""
    words = [str(job.status).lower()]
    if job.start_time and job.end_time:
        words.append(f"after {_duration(job)}")
    if job.driver_exit_code:
        words.append(f"with exit code {job.driver_exit_code}")
    elif job.message and str(job.status) == "FAILED":
        words.append(f"({' '.join(job.message.split())[:300]})")
    return " ".join(words)


def _duration(job: Any) -> str:
    seconds = ((job.end_time or datetime.now().timestamp() * 1000) - job.start_time) / 1000
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _table(jobs: Sequence[Any]) -> Table:
    table = Table("job", "status", "started", "took", "command", title=f"{len(jobs)} jobs")
    for job in jobs:
        started = datetime.fromtimestamp(job.start_time / 1000) if job.start_time else None
        table.add_row(
            job.submission_id,
            str(job.status).lower(),
            f"{started:%Y-%m-%d %H:%M:%S}" if started else "",
            _duration(job) if started else "",
            job.entrypoint,
        )
    return table
