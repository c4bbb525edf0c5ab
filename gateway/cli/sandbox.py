"""`vidgate sandbox`: every vendor's simulator over real HTTP, and the switches and faults of those that run."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import typer
import yaml

from gateway.cli.client import own_http
from gateway.cli.development import provider_sections
from gateway.cli.exit_codes import CommandError, ExitCode, code_of_status
from gateway.cli.options import AsJson, read_pairs
from gateway.cli.output import print_json, result_console, table
from gateway.cli.servers import LOOPBACK, PORT_BASE, SIGNALS, SimulatorPlan, installed, run, simulated, simulators
from gateway.config_errors import nearest

ADMIN = "/_sandbox"

app = typer.Typer(invoke_without_command=True)

Provider = Annotated[str, typer.Argument(help="Which provider's simulator.", show_default=False)]
PortBase = Annotated[int, typer.Option(min=0, help="First port of the simulators.")]
SimulatorUrl = Annotated[str, typer.Option("--url", help="Address of the simulator, when it is not at its usual port.")]


@app.callback()
def sandbox(
    context: typer.Context,
    *,
    port_base: Annotated[
        int, typer.Option(min=0, max=65_000, help="First port of the simulators; 0 takes free ones.")
    ] = PORT_BASE,
    speed: Annotated[float, typer.Option(min=0.01, help="How many times faster than life they are.")] = 1.0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = LOOPBACK,
    public_host: Annotated[
        str, typer.Option(help="Name under which others reach them, for links; the address when empty.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Serve every vendor's simulator over HTTP, with keys, credits, queues and faults.

    Point a gateway, or the vendor's own client library, at them as at the vendor.
    `set`, `fault` and `show` steer the simulators of a running `vidgate sandbox`
    or `vidgate dev`.

    [bold]Examples[/]
        vidgate sandbox
        vidgate sandbox --port-base 0 --speed 100 --json
        vidgate sandbox --host 0.0.0.0 --public-host simulators
        vidgate sandbox fault PROVIDER 502-after-accept --count 1
        vidgate sandbox set PROVIDER speed=10 credits_micros=0
    """
    if context.invoked_subcommand is None:
        run(_sandbox(SimulatorPlan(port_base, speed, host, public_host), as_json))


async def _sandbox(plan: SimulatorPlan, as_json: bool) -> None:
    known = installed()
    async with simulators(known, plan) as urls:
        sections = provider_sections(urls, known)
        if as_json:
            print_json({"simulators": urls, "providers": sections})
        else:
            _introduce(urls, {name: sections[name] for name in urls}, plan.port_base)
        stopped = asyncio.Event()
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        await stopped.wait()


def _introduce(urls: dict[str, str], sections: dict[str, dict[str, Any]], port_base: int) -> None:
    console = result_console()
    rows = table("provider", "simulated at", "steered and counted at")
    for name, url in urls.items():
        rows.add_row(name, f"[bold]{url}[/]", f"{ADMIN}/settings, faults, meter, invoice, clock")
    console.print(rows, "")
    config = {
        "providers": sections,
        "outbound": {"allow_hosts": [urlsplit(url).netloc for url in urls.values()]},
    }
    console.print("To point a gateway at them, in its configuration:\n", style="bold")
    console.print(yaml.safe_dump(config, sort_keys=False), markup=False, soft_wrap=True)
    first, url = next(iter(urls.items()))
    where = "" if port_base == PORT_BASE else f" --port-base {port_base}" if port_base else f" --url {url}"
    console.print("To spoil calls while they run, from another terminal:\n", style="bold")
    for words in (f"fault {first} 502-after-accept --count 1", f"set {first} speed=100", f"show {first}"):
        console.print(f"  vidgate sandbox {words}{where}", soft_wrap=True)
    console.print("\nCtrl-C stops it.", style="dim")


@app.command("set")
def set_switches(
    provider: Provider,
    switches: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...", help="Switches and their new values.")],
    *,
    port_base: PortBase = PORT_BASE,
    url: SimulatorUrl = "",
) -> None:
    """Change switches of a running simulator; a value is JSON, or else text.

    [bold]Examples[/]
        vidgate sandbox set PROVIDER speed=100
        vidgate sandbox set PROVIDER 'fault_rates={"submit": {"429": 0.2}}'
    """
    changes = {name: _value(text) for name, text in read_pairs(switches, "switch").items()}
    print_json(run(_ask("PATCH", _address(provider, port_base, url) + "/settings", changes)))


@app.command("fault")
def script_fault(
    provider: Provider,
    fault: Annotated[str, typer.Argument(help="For example 502-after-accept, 504-before-accept, 429, timeout.")],
    *,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many calls are spoiled.")] = 1,
    operation: Annotated[str, typer.Option(help="Which calls: submit, or another that `show` lists.")] = "submit",
    port_base: PortBase = PORT_BASE,
    url: SimulatorUrl = "",
) -> None:
    """Spoil the next calls of a running simulator, one fault a call.

    [bold]Example[/]
        vidgate sandbox fault PROVIDER 502-before-accept --count 2
    """
    body = {"operation": operation, "fault": fault.replace("-", "_"), "count": count}
    print_json(run(_ask("POST", _address(provider, port_base, url) + "/faults", body)))


@app.command("show")
def show(provider: Provider, *, port_base: PortBase = PORT_BASE, url: SimulatorUrl = "") -> None:
    """Show the switches, the faults to come, the counts and the invoice of a running simulator.

    [bold]Example[/]
        vidgate sandbox show PROVIDER
    """
    print_json(run(_show(_address(provider, port_base, url))))


async def _show(address: str) -> dict[str, Any]:
    return {part: await _ask("GET", f"{address}/{part}") for part in ("settings", "faults", "meter", "invoice")}


def _address(provider: str, port_base: int, url: str) -> str:
    """The admin pages of a provider's simulator: at the given address, or at its usual port."""
    if url:
        return url.rstrip("/") + ADMIN
    names = [plugin.name for plugin in simulated(installed())]
    if provider not in names:
        raise CommandError(ExitCode.USAGE, f"there is no simulator of {provider!r}; {nearest(provider, names)}")
    return f"http://127.0.0.1:{port_base + names.index(provider)}{ADMIN}"


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


async def _ask(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    try:
        async with own_http() as http:
            response = await http.request(method, url, json=body)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        what = f"no simulator answers at {url.removesuffix(ADMIN)}"
        raise CommandError(ExitCode.UNREACHABLE, what, "start one with `vidgate sandbox` or `vidgate dev`") from error
    try:
        answer = response.json()
    except ValueError:
        answer = {}
    if response.is_error:
        error_text = answer.get("error", f"HTTP {response.status_code}") if isinstance(answer, dict) else answer
        raise CommandError(code_of_status(response.status_code), f"the simulator refused: {error_text}")
    return answer
