"""sottovoce client roster | forget: whom the data owner knows, and what is withdrawn."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clients.home import Home

DEFAULT = Path("sottovoce-client")
HomeArgument = Annotated[Path, typer.Argument(help="The client's home.")]


def roster_list(home: HomeArgument = DEFAULT) -> None:
    """Whom this client knows, and who vouches for the fingerprint."""
    found = _home(home)
    typer.echo(f"  {found.policy.name:24} this client   {found.identity.public.fingerprint}")
    for name, known in found.known_clients.entries().items():
        if name != found.policy.name:
            said = "compared" if known.by == "owner" else "NOT COMPARED"
            typer.echo(f"  {name:24} {said:13} {known.fingerprint}")


def roster_pin(
    who: Annotated[str, typer.Argument(help="The card of the other client, or its name when it was met already.")],
    fingerprint: Annotated[str | None, typer.Argument(help="What its owner read to you; asked for if missing.")] = None,
    home: Annotated[Path, typer.Option(help="Your home.")] = DEFAULT,
) -> None:
    """Know another client, if the fingerprint its owner reads to you is the one that is shown here."""
    from pipeline.language.card import ClientCard
    from privacy.errors import KeyMismatch, NotFound

    known = _home(home).known_clients
    if who.endswith(".json"):
        card = ClientCard.read(Path(who))
        name, shown = card.name, card.fingerprint
    else:
        entries = known.entries()
        if who not in entries and fingerprint is None:
            raise NotFound(f"{who} was never met here", remedy="Give its card, or its name and its fingerprint.")
        name, shown = who, entries[who].fingerprint if who in entries else _grouped(fingerprint or "")
    heard = _grouped(fingerprint or typer.prompt(f"  Fingerprint of {name}, as its owner reads it to you"))
    if heard != shown and who.endswith(".json"):
        raise KeyMismatch(
            f"the card of {name} has fingerprint {shown}, you heard another",
            remedy="The card was swapped or misread: get it again over a way you trust.",
        )
    if heard != shown:
        typer.echo(f"  it was {shown} before: what you heard is believed")
    known.pin({name: heard})
    typer.echo(f"  {name} is known by {heard}")


def roster_remove(
    name: Annotated[str, typer.Argument(help="Name of the other client.")],
    home: Annotated[Path, typer.Option(help="Your home.")] = DEFAULT,
) -> None:
    """Know a client no more: no run with it has this client as a member."""
    _home(home).known_clients.remove(name)
    typer.echo(f"  {name} is not known here any more")


def _grouped(fingerprint: str) -> str:
    """As it is printed. Raises ConfigError."""
    from privacy.errors import ConfigError

    digits = "".join(fingerprint.split()).upper()
    if len(digits) != 32 or set(digits) - set("0123456789ABCDEF"):
        raise ConfigError("a fingerprint has 32 digits, 0 to 9 and A to F", remedy="Ask for it once more.")
    return " ".join(digits[at : at + 4] for at in range(0, 32, 4))


def forget(
    home: HomeArgument = DEFAULT,
    executions: Annotated[
        bool, typer.Option(help="End every execution that has not ended, and forget what it made here, too.")
    ] = False,
) -> None:
    """Remove every snapshot of the data, all features made from it, and your own layers of personal models.

    The ledger stays: what was spent is spent. Says which models were made from the data, for the operator to withdraw.
    """
    from clients.forgetting import forget_all

    found = _home(home)
    with found.locked():
        snapshots, models = forget_all(found, unfinished=executions)
    typer.echo(f"  {snapshots} snapshots and what was made from them are gone; the source itself is yours")
    for model in models:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(model.time))
        state = f"model {model.digest[:16]}" if model.digest else "no model yet"
        typer.echo(f"  trained on them: execution {model.execution}  {when}  {state}")
    if models:
        typer.echo("  The operator knows which versions they are by `vouched_for` in lineage.json: ask for withdrawal.")


def _home(root: Path) -> Home:
    from clients.home import Home
    from privacy.errors import NotFound

    if not (root / "policy.yaml").exists():
        raise NotFound(f"{root} is not a client's home", remedy=f"Make one: sottovoce client init {root}")
    return Home(root)


def register(client: typer.Typer) -> None:
    """Add the owner's commands about others, and about the past."""
    roster = typer.Typer(help="The other clients: whose fingerprints you have compared.")
    roster.command("list")(roster_list)
    roster.command("pin")(roster_pin)
    roster.command("remove")(roster_remove)
    client.add_typer(roster, name="roster", no_args_is_help=True)
    client.command()(forget)
