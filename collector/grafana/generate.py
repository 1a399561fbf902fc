"""Makes the dashboards: ``python -m collector.grafana.generate``, or ``make docs``.

They are made by Grafana's own library for it, ``grafana-foundation-sdk``, and committed, so that nobody has to run this
to use them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from collector.grafana.runs import run, run_of_victorialogs, runs
from collector.grafana.states import celery, freshness, health, rate_limits

FOLDER: Final = Path(__file__).parent / "dashboards"
ALL: Final = (runs, run, run_of_victorialogs, freshness, rate_limits, celery, health)


def files() -> dict[str, str]:
    """Return each dashboard by the name of its file."""
    made = [dashboard().build() for dashboard in ALL]
    encoder = JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False)
    return {f"{str(each.uid).removeprefix('otelsync-')}.json": encoder.encode(each) + "\n" for each in made}


def main() -> None:
    """Write them, and remove others."""
    texts = files()
    for path in FOLDER.glob("*.json"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
