"""What an audit has shown, in words."""

from __future__ import annotations

from rich.console import Console

from pipeline.stages.values import AuditReport


def print_audit(report: AuditReport) -> None:
    """Claim, plan, guesses, bound, membership, verdict: in this order."""
    console = Console(highlight=False, soft_wrap=True)
    promised = f"epsilon {report.claim:.3f}, delta {report.delta:g}" if report.claim is not None else ""
    told = f"{promised}, of {report.releases}, for every {report.unit}" if promised else "none"
    console.print(f"  claim       {told}")
    console.print(f"  replica     {report.plan}; made-up records, the real training path")
    for one in report.guesses:
        console.print(
            f"  guesses     {one.right:,} of {one.guesses:,} right about {one.canaries:,} canaries: "
            f"epsilon is at least {one.shown:.3f}"
        )
    if found := report.membership:
        console.print(
            f"  membership  {found.shadows} replicas, {found.records:,} records: AUC {found.auc:.3f} +- "
            f"{found.auc_error:.2g} (0.5 by chance); at 1 % false alarms {100 * found.found:.1f} % +- "
            f"{100 * found.found_error:.2g} of the members are found"
        )
    console.print(f"  [bold]{report.text}[/]")
    if report.claim is not None and not report.refuted:
        console.print("  That a promise is not refuted does not prove it: docs/privacy.md says what it rests on.")
