"""``forensift reproduce tff``: the study of transferable forensic features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from . import options

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from .. import studies

COLOURS = {"inside the interval": "green", "outside the interval": "red"}


def reproduce_tff(
    data: Path,
    weights: list[str],
    rank_data: Path | None,
    protocol: studies.Protocol,
    archs: list[str],
    generators: list[str],
    tables: list[str],
    *,
    resume: bool,
    device: str,
    out: Path,
) -> None:
    """Run the protocol, write its tables and figures, and print published against ours."""
    from .. import figures, studies
    from ..data import scan
    from ..files import write_bytes, write_csv, write_manifest, write_with
    from ..fmap_ranking import save_ranking
    from ..records import Skipped, skipped_table

    if not weights:
        raise UserError("tff: give the published weights, --weights DIR or FILE")
    found = studies.find_weights(weights)
    images = scan(data)
    ranked = scan(rank_data) if rank_data is not None else None
    chosen_device = options.choose_device(device)
    output = options.output_folder(out)
    skipped: list[Skipped] = []
    with options.steps("reproducing") as told:
        try:
            result = studies.reproduce_tff(
                images,
                found,
                output,
                archs=archs,
                tables=tables or list(studies.TABLES),
                generators=generators,
                rank_images=ranked,
                protocol=protocol,
                device=chosen_device,
                resume=resume,
                told=told,
                skipped=skipped,
            )
        finally:
            write_csv(output / "skipped.csv", skipped_table(dict.fromkeys(skipped)))
    write_csv(output / "reproduction.csv", result.cells)
    text = studies.reproduction_markdown(result.cells, result.notes)
    write_bytes(output / "reproduction.md", text.encode())
    scores = result.scores
    if len(scores):
        write_with(output / "scores.parquet", lambda path: scores.to_parquet(path, index=False))
    for name, table in result.dropout.items():
        write_csv(output / name / "dropout.csv", table)
        write_csv(output / name / "dropout_summary.csv", result.summary[name])
        write_csv(output / name / "dropped.csv", result.dropped[name])
        title = f"{name}: {result.facts['k'][name]} feature maps dropped"
        figure = figures.plot_dropout(result.summary[name], title=title)
        figures.save(figure, output / name, "dropout")
    for name, table in result.median_test.items():
        write_csv(output / name / "median_test.csv", table)
    for name, kinds in result.rankings.items():
        for kind, one in kinds.items():
            save_ranking(one, output / name / f"progan_val-{kind}.csv")
    drawn = result.cells[result.cells["ours"].notna() & result.cells["published"].notna()]
    for name in set(drawn["table"]) & set(studies.TABLES):
        figures.save(figures.plot_reproduction(drawn, name), output, f"reproduction-{name}")
    write_manifest(output, result.facts)
    console = options.console()
    measured = result.cells[result.cells["ours"].notna()]
    for name, own in measured.groupby("table", sort=False):
        console.print(_printed(studies.shown_rows(own), str(name)))
    console.print(studies.tally(result.cells), markup=False, highlight=False)
    for note in result.notes:
        console.print(f"- {note}", markup=False, highlight=False)
    print(f"{result.facts['used']} images used, {len(result.skipped)} skipped; tables in {output}")


def _printed(rows: pd.DataFrame, title: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    same = [
        head for head in ("input", "generator", "mask", "quantity") if len(set(rows[head])) == 1
    ]
    shown = rows.drop(columns=same)
    said = ", ".join([title, *(str(rows[head].iloc[0]) for head in same)])
    drawn = Table(title=escape(said), title_justify="left")
    for head in shown.columns:
        right = head in ("published", "ours [95 %]", "difference")
        drawn.add_column(escape(head), justify="right" if right else "left", no_wrap=right)
    for row in shown.astype(str).to_dict("records"):
        drawn.add_row(*map(escape, row.values()), style=COLOURS.get(row["verdict"]))
    return drawn
