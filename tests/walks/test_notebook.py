"""The notebook runs on a smoke zoo, and uses public functions only."""

import json
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from pipeline.growing.build_zoo import build_zoo
from pipeline.zoo.show import ShownRow, show_zoo

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "1_tour_of_a_zoo.ipynb"
DRAWN = """
import json
lines = [axis.lines[-1] for axis in axes.flat if axis.lines]
drawn = [[line.axes.get_title(), line.get_drawstyle(), line.get_xydata().tolist()] for line in lines]
print("DRAWN", json.dumps(drawn))
"""


def test_the_tour_of_a_zoo(tmp_path, monkeypatch):
    zoo = str(tmp_path / "zoo")
    build_zoo(zoo, ["starter:lfw-faces", "starter:ground-textures"], pairs=9, preset_name="smoke", workers=0)
    monkeypatch.setenv("ZOO", zoo)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    notebook.cells.append(nbformat.v4.new_code_cell(DRAWN))
    NotebookClient(notebook, timeout=500).execute()
    texts = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("9 networks over 2 datasets" in text for text in texts)
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 4
    drawn = json.loads(texts[-1].removeprefix("DRAWN"))
    assert sorted(name for name, _, _ in drawn) == ["ground-textures", "lfw-faces"]
    for name, style, points in drawn:
        rows = [row for row in show_zoo(zoo).rows if row.dataset == name]
        best = {(row.params, row.val_accuracy) for row in rows if not any(beats(other, row) for other in rows)}
        assert style == "steps-post"
        assert [(round(1e6 * millions), accuracy) for millions, accuracy in points] == sorted(best)


def beats(one: ShownRow, other: ShownRow) -> bool:
    no_worse = one.params <= other.params and one.val_accuracy >= other.val_accuracy
    return no_worse and (one.params, one.val_accuracy) != (other.params, other.val_accuracy)


def test_it_uses_public_names_only():
    code = "\n".join(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code")
    assert "import _" not in code and "._" not in code and "tans_core" not in code
