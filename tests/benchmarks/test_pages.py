"""What docs/robustness.md says stands in the results that are kept beside it."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "robustness.md").read_text()


def result(name: str):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def test_the_soak_stands_on_its_page():
    soak = result("soak")
    assert f"exactly {soak['rows']}; {soak['keys']}" in PAGE and soak["rows"] == soak["keys"] == soak["pairs"]
    assert [(end["signal"], end["status"]) for end in soak["ends"]] == [
        ("SIGKILL", -9),
        ("SIGTERM", 0),
        ("SIGINT", 130),
    ]
    assert (
        "a SIGKILL at {} rows, a SIGTERM at {}, a Ctrl-C at {}".format(*(end["rows"] for end in soak["ends"])) in PAGE
    )
    assert max(end["took_s"] for end in soak["ends"]) < 2.4
    tenths = soak["second_and_last_tenth"]
    assert f"the driver, last tenth against the second | {soak['driver_rss_growth']:.2f} times" in PAGE
    assert f"the workers | {soak['actor_rss_growth']:.2f} times" in PAGE
    for name in ("commit", "decision"):
        early, late = tenths[f"{name}_ms"]
        assert f"{soak[f'{name}_growth']:.2f} times" in PAGE and f"({early:.0f} to {late:.0f} ms)" in PAGE
    assert f"two minutes later | {soak['left_over']} |" in PAGE


def test_the_trials_stand_on_their_page():
    trials = result("trials")
    assert {trial["outcome"] for trial in trials} == {"passed"}
    fifty = [trial["seen"] for trial in trials if trial["scenario"].startswith("e23 fifty runs")]
    assert len(fifty) == 8 and all(re.fullmatch(r"\{\d+: 50\}", seen) for seen in fifty)
    section = PAGE.partition("`make trials`\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"([\d.]+) s\b", section))
    assert told and told <= {seconds for trial in trials for seconds in re.findall(r"[\d.]+", trial["seen"])}


def test_the_fuzzing_stands_on_its_page():
    fuzz = result("fuzz")
    assert f"{fuzz['inputs']:,} archives and pictures" in PAGE and f"(seed {fuzz['seed']})" in PAGE
    assert fuzz["bad"] == 0 and f"the slowest took {fuzz['slowest_s']:.1f} s" in PAGE


def test_the_recipes_stand_on_their_page():
    page = (ROOT / "docs" / "recipe.md").read_text()

    def cell(side: dict) -> str:
        low, high = side["over_base_interval"]
        gain = f" ({side['over_base_points']:+.1f}; {low:+.1f} to {high:+.1f})" if low != high else ""
        return f"{side['accuracy']:.1f}{gain}"

    candidates = result("recipe")["candidates"]
    assert len(candidates) >= 4
    for name, sides in candidates.items():
        assert f"| {name} | {cell(sides['smallest'])} | {cell(sides['row'])} | {sides['all']['cost']:.2f} |" in page
