"""The MLflow run of a build: one for a zoo, continued after a restart."""

from __future__ import annotations

from pathlib import Path

from pipeline.tracking import MlflowTracker, Tracker, sqlite_uri
from pipeline.zoo import Zoo


def track_build(store: Zoo, run: str, uri: str | None) -> Tracker:
    """Begin the run, or go on with the one that the journal names.

    Args:
        run: the driver's, for the journal.
        uri: of the tracking server; None: a sqlite file in the zoo's folder.
    """
    earlier = [event.payload["run_id"] for event in store.journal.events() if event.kind == "mlflow"]
    settings = store.settings

    def note(run_id: str) -> None:
        if run_id not in earlier:
            store.journal.append(run, [("mlflow", {"run_id": run_id})])

    tracker = MlflowTracker(uri or sqlite_uri(Path(store.uri)), "tans zoo", note)
    params = {
        "zoo": settings.zoo_id,
        "preset": settings.preset,
        "search space": settings.search_space,
        "width": settings.width,
        "image size": settings.image_size,
        "seed": settings.seed,
    }
    tracker.start(f"zoo {settings.zoo_id[:8]}", params, earlier[-1] if earlier else None)
    return tracker
