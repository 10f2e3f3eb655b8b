"""The notebook runs on a smoke zoo, and uses public functions only."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

from pipeline.growing.build_zoo import build_zoo

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "1_tour_of_a_zoo.ipynb"


def test_the_tour_of_a_zoo(tmp_path, monkeypatch):
    zoo = str(tmp_path / "zoo")
    build_zoo(zoo, ["starter:lfw-faces", "starter:ground-textures"], pairs=9, preset_name="smoke", workers=0)
    monkeypatch.setenv("ZOO", zoo)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    NotebookClient(notebook, timeout=120).execute()
    texts = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("9 networks over 2 datasets" in text for text in texts)
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 4


def test_it_uses_public_names_only():
    code = "\n".join(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code")
    assert "import _" not in code and "._" not in code
