"""A place for checkpoints that not all nodes see is found before anything is trained."""

from pathlib import Path

from pipeline.on_ray.storage import look_for


def test_a_node_that_sees_what_was_written_and_can_write_beside_it_leaves_nothing(tmp_path):
    (tmp_path / "mark").write_text("abc")
    assert look_for(str(tmp_path / "mark"), "abc") is None
    assert [path.name for path in tmp_path.iterdir()] == ["mark"]


def test_a_node_with_another_disk_there_says_so(tmp_path):
    assert look_for(str(tmp_path / "mark"), "abc") == "does not see what is written there"
    (tmp_path / "mark").write_text("of another run")
    assert look_for(str(tmp_path / "mark"), "abc") == "has something else there"


def test_a_node_that_cannot_write_there_says_so():
    version = Path("/proc/version")  # nobody writes beside it
    said = look_for(str(version), version.read_text())
    assert said is not None and said.startswith("cannot write there")
