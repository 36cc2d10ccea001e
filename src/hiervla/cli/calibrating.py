"""``calibrate``: when the policies' own heads should stop a skill, from records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hiervla.executor.calibration import Confusion, Fit, SkillFit


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("calibrate")(calibrate)


def calibrate(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUNS...", help="Run records, or folders of them.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file with the thresholds.")] = Path("thresholds.json"),
) -> int:
    """Fit the thresholds of the done- and progress-heads on recorded runs, and say where to put them."""
    import json

    from hiervla.executor.calibration import attempts_of, find_records, fit, proposal
    from hiervla.executor.record.errors import OutputError
    from hiervla.executor.record.reader import RunRecord
    from hiervla.skills import SkillLibrary

    library = SkillLibrary.load()
    records = find_records(runs)
    fits = fit((a for path in records for a in attempts_of(RunRecord.open(path))), library)
    print(f"{len(records)} records. A boundary at which an attempt went on counts as not done; so does the end of one")
    print("whose own check said no. A head that ended the attempts itself agrees with them by construction; only")
    print("attempts that failed or timed out speak about its threshold.")
    for made in fits:
        _print(made)
    try:
        out.write_text(json.dumps(proposal(fits, library, records), indent=1) + "\n")
    except OSError as error:
        raise OutputError(out, error.strerror or str(error)) from error
    print(f"\nthresholds, and where to put them: {out}")
    return 0


def _print(made: SkillFit) -> None:
    failed = made.attempts - made.worked
    print(f"\n{made.skill}: {made.attempts} attempts, {made.worked} worked, {failed} did not")
    if made.unsure:
        print(f"  {made.unsure} more are left out: their own check was unsure, or was not asked")
    if made.silent:
        print(f"  {made.silent} more are left out: the record does not hold what the heads said at the end")
    for fitted in made.fits.values():
        _print_head(fitted)
    if not failed and made.attempts:
        print(
            "  no attempt failed: what a wrong stop looks like is not in these records, keep what the termination has"
        )


def _print_head(fitted: Fit) -> None:
    name = fitted.head.replace("_", " ")
    unused = "" if fitted.used else ", not asked by the termination"
    print(f"  {name}{unused}")
    same = fitted.best == fitted.now
    _print_matrix("present", fitted.now)
    if not same:
        _print_matrix("fitted", fitted.best)
    elif fitted.enough:
        print("    no other threshold does better; keep it")
    if fitted.highest is not None and fitted.lowest is not None:
        print(f"    at most {fitted.highest:.4f} while not done, at least {fitted.lowest:.4f} when done")
    if not fitted.enough:
        done, not_done = fitted.now.stops + fitted.now.misses, fitted.now.early + fitted.now.goes_on
        print(f"    only {done} done and {not_done} not done: too few to go by")


def _print_matrix(label: str, c: Confusion) -> None:
    print(f"    {label} {c.threshold:.4f}, balanced accuracy {c.balanced:.3f}")
    print(f"      {'':9}{'stop':>6}{'go on':>7}")
    print(f"      {'done':9}{c.stops:6d}{c.misses:7d}")
    print(f"      {'not done':9}{c.early:6d}{c.goes_on:7d}")
