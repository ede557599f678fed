"""sottovoce models: the versions of a model, what each promises, what it was made from, and which of them is used."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pipeline.store.registry import Registered, Registry
    from pipeline.store.workspace import Workspace

models = typer.Typer(help="Versions of a model: list, show, compare, promote, retire.", no_args_is_help=True)
WORKSPACE = Annotated[Path | None, typer.Option(help="Folder that holds the registry.")]
MODEL = Annotated[str | None, typer.Option(help="Model; default: the only one registered.")]
AS_JSON = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
VERSION = Annotated[int, typer.Argument(help="Number of the version.")]
COMPARED = ("model.json", "features.json", "privacy.json", "schema.json")
"""Files of a version whose settings are compared."""


@models.command("list")
def list_versions(model: MODEL = None, workspace: WORKSPACE = None, as_json: AS_JSON = False) -> None:
    """Every version, the newest first: its place, its headline, what it promises."""
    _, registry, name = _opened(workspace, model)
    places = _places(registry, name)
    for one in registry.versions(name):
        if as_json:
            typer.echo(json.dumps(_told(one, places.get(one.version, ""))))
            continue
        headline = next(iter(_metrics(one)), "")
        promised = str(_read(one, "privacy.json").get("text", "")).partition(";")[0]
        place = places.get(one.version) or _standing(one)
        typer.echo(f"  v{one.version:<4} {_when(one.registered)}  {headline:28}  {promised}   {place}")


@models.command()
def show(version: VERSION, model: MODEL = None, workspace: WORKSPACE = None, as_json: AS_JSON = False) -> None:
    """One version: metrics with errors, privacy statement, whose data made it, what was decided about it."""
    _, registry, name = _opened(workspace, model)
    found = registry.version(name, version)
    place = _places(registry, name).get(version, "")
    privacy, lineage = _read(found, "privacy.json"), _read(found, "lineage.json")
    if as_json:
        typer.echo(json.dumps({**_told(found, place), "privacy_statement": privacy, "lineage": lineage}))
        return
    typer.echo(f"  {name} v{version}   {place or _standing(found)}   registered {_when(found.registered)}")
    for line in _metrics(found):
        typer.echo(f"    {line}")
    typer.echo(f"  promises   {privacy.get('text', 'nothing that can be read')}")
    for line in privacy.get("lines", ()):
        reads = str(line.get("reads", "")).replace("everyone", "all")
        typer.echo(f"    {line.get('purpose', ''):14} {line.get('rounds', 1)} x over {reads} records")
    rounds = lineage.get("rounds", {})
    typer.echo(f"  made from  {len(lineage.get('features', {}))} clients, {len(rounds)} rounds")
    for client, digest in sorted(lineage.get("features", {}).items()):
        took = sum(client in present for present in rounds.values())
        typer.echo(f"    {client:24} features {digest[:16]}   in {took} of {len(rounds)} rounds")
    for word in ("reasons", "earned", "dropped", "retired"):
        if told := found.said.get(word):
            typer.echo(f"  {word:10} {told}")
    typer.echo(f"  files      {found.folder}")


@models.command()
def diff(
    first: VERSION, second: VERSION, model: MODEL = None, workspace: WORKSPACE = None, as_json: AS_JSON = False
) -> None:
    """What is different between two versions: metrics against the error of their difference, settings, clients."""
    _, registry, name = _opened(workspace, model)
    one, other = registry.version(name, first), registry.version(name, second)
    metrics = {
        metric: {"from": one.metrics[metric], "to": other.metrics[metric], "error": _error(one, other, metric)}
        for metric in one.metrics
        if metric in other.metrics
    }
    settings = dict(_changes(one, other))
    if as_json:
        typer.echo(json.dumps({"metrics": metrics, "settings": settings}))
        return
    for metric, told in metrics.items():
        moved = told["to"] - told["from"]
        plain = "beyond its error" if abs(moved) > 2 * told["error"] else "within its error"
        typer.echo(
            f"  {metric:16} {told['from']:.4f} -> {told['to']:.4f}   {moved:+.4f} +- {told['error']:.4f}  {plain}"
        )
    for place, (before, after) in settings.items():
        typer.echo(f"  {place:40} {json.dumps(before)} -> {json.dumps(after)}")
    if not settings:
        typer.echo("  the same settings, columns and promises")


@models.command()
def using(
    client: Annotated[str, typer.Argument(help="Name of a client.")],
    features: Annotated[str, typer.Option(help="Of these features only: a digest, or its beginning.")] = "",
    model: MODEL = None,
    workspace: WORKSPACE = None,
    as_json: AS_JSON = False,
) -> None:
    """Which versions a client's data is in: those to retire where it was withdrawn."""
    _, registry, name = _opened(workspace, model)
    places, found = _places(registry, name), 0
    for one in registry.versions(name):
        digest = _read(one, "lineage.json").get("features", {}).get(client)
        if digest and digest.startswith(features):
            found += 1
            place = places.get(one.version) or _standing(one)
            told = {"version": one.version, "features": digest, "place": place}
            typer.echo(json.dumps(told) if as_json else f"  v{one.version:<4} features {digest[:16]}   {place}")
    if not found and not as_json:
        typer.echo(f"  no version of {name} has data of {client} in it")


@models.command()
def promote(
    version: VERSION,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also one that was not blessed.")] = False,
    model: MODEL = None,
    workspace: WORKSPACE = None,
) -> None:
    """Make a version champion, and have it answer everything."""
    from privacy.errors import VersionRefused
    from server.serving.traffic.moving import crown

    space, registry, name = _opened(workspace, model)
    found = registry.usable(name, version)
    if not found.blessed and not anyway:
        why = found.said.get("reasons") or "it was never judged"
        raise VersionRefused(f"version {version} of {name} was not blessed: {why}", remedy="--anyway promotes it.")
    crown(space, name, version, typer.echo)
    typer.echo(f"  {name} v{version} is champion")


@models.command()
def retire(
    version: VERSION,
    why: Annotated[str, typer.Argument(help="In words, for whoever looks for it later.")],
    model: MODEL = None,
    workspace: WORKSPACE = None,
) -> None:
    """Take a version out of use for good: it answers nobody, and becomes champion no more. Its files stay."""
    from privacy.errors import ConfigError
    from server.serving.traffic.moving import move

    space, registry, name = _opened(workspace, model)
    registry.version(name, version)
    champion = registry.champion(name)
    if champion and champion.version == version:
        raise ConfigError(
            f"version {version} of {name} is champion", remedy="Promote another one first: sottovoce models promote N"
        )
    if not why.strip():
        raise ConfigError("an empty reason helps nobody", remedy='Such as: models retire 3 "data withdrawn"')
    number, traffic = str(version), registry.traffic(name)
    left = {one: share for one, share in traffic.shares.items() if one != number}
    if number in traffic.versions:
        whole = sum(left.values())
        shares = {one: share / whole for one, share in left.items()} if whole else {"champion": 1.0}
        others = {key: [one for one in getattr(traffic, key) if one != number] for key in ("shadow", "live")}
        move(space, name, lambda now: {"shares": shares, **others}, typer.echo)
    challenger = registry.challenger(name)
    if challenger and challenger.version == version:
        registry.challenge(name, None)
    registry.note(name, version, {"retired": " ".join(why.split())[:500]})
    typer.echo(f"  {name} v{version} is retired")


def _opened(workspace: Path | None, model: str | None) -> tuple[Workspace, Registry, str]:
    from pipeline.store.registry import Registry
    from server.naming import chosen_model

    space, name = chosen_model(workspace, model)
    return space, Registry(space.registry_url, space.models), name


def _places(registry: Registry, name: str) -> dict[int, str]:
    """Champion and challenger, and who else answers."""
    traffic = registry.traffic(name)
    found = {int(one): f"answers {share:.0%}" for one, share in traffic.shares.items() if one.isdecimal()}
    for place, one in (("challenger", registry.challenger(name)), ("champion", registry.champion(name))):
        if one:
            found[one.version] = ", ".join(filter(None, (place, found.get(one.version))))
    return found


def _standing(one: Registered) -> str:
    if one.retired:
        return f"retired: {one.retired}"
    if one.dropped:
        return f"dropped: {one.dropped}"
    return "blessed" if one.blessed else f"not blessed: {one.said.get('reasons') or 'never judged'}"


def _metrics(one: Registered) -> Iterator[str]:
    """The headline first, as they were registered with the version."""
    kept = _read(one, "metrics.json").get("metrics", {})
    names = [name for name in kept if name in one.metrics] or list(one.metrics)
    for name in names:
        error = f" +- {one.errors[name]:.4f}" if name in one.errors else ""
        yield f"{name} {one.metrics[name]:.4f}{error}"


def _error(one: Registered, other: Registered, metric: str) -> float:
    return float((one.errors.get(metric, 0.0) ** 2 + other.errors.get(metric, 0.0) ** 2) ** 0.5)


def _changes(one: Registered, other: Registered) -> Iterator[tuple[str, tuple[object, object]]]:
    """Settings that differ, by file and path."""
    for file in COMPARED:
        before, after = dict(_flat(_read(one, file))), dict(_flat(_read(other, file)))
        for place in sorted({*before, *after}):
            if before.get(place) != after.get(place):
                yield f"{file.removesuffix('.json')}{place}", (before.get(place), after.get(place))


def _flat(tree: Any, place: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _flat(value, f"{place}.{name}")
    else:
        yield place, tree


def _read(one: Registered, file: str) -> dict[str, Any]:
    """A file of a version; empty where it is not there, or is not the one that was registered."""
    from privacy.errors import VersionRefused

    try:
        return dict(json.loads(one.read(file)))
    except (VersionRefused, ValueError):
        return {}


def _told(one: Registered, place: str) -> dict[str, object]:
    return {
        "version": one.version,
        "place": place,
        "registered": one.registered,
        "blessed": one.blessed,
        "retired": one.retired,
        "dropped": one.dropped,
        "metrics": dict(one.metrics),
        "errors": dict(one.errors),
        "privacy": one.said.get("privacy", ""),
        "reasons": one.said.get("reasons", ""),
    }


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.add_typer(models, name="models")
