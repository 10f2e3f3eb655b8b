"""The files for Prometheus and Grafana."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "cluster" / "monitoring"


@pytest.mark.parametrize("mistake", [False, True])
def test_prometheus_takes_its_file_and_would_not_take_a_mistake(mistake: bool, tmp_path: Path):
    if not shutil.which("promtool"):
        pytest.skip("no promtool here: it comes with Prometheus")
    text = (FOLDER / "prometheus.yml").read_text()
    (file := tmp_path / "prometheus.yml").write_text(
        text.replace("file_sd_configs", "file_sd_config" if mistake else "file_sd_configs")
    )
    done = subprocess.run(["promtool", "check", "config", file], capture_output=True, text=True)
    assert (done.returncode != 0) == mistake, done.stdout + done.stderr


def test_prometheus_reads_the_list_that_ray_keeps():
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    assert job == {
        "job_name": "ray",
        "file_sd_configs": [{"files": ["/tmp/ray/prom_metrics_service_discovery.json"]}],
    }


def test_grafana_is_given_a_source_and_a_folder_of_boards():
    (source,) = yaml.safe_load((FOLDER / "provisioning" / "datasources" / "tans.yml").read_text())["datasources"]
    assert (source["type"], source["access"], source["url"]) == ("prometheus", "proxy", "$TANS_PROMETHEUS")
    (provider,) = yaml.safe_load((FOLDER / "provisioning" / "dashboards" / "tans.yml").read_text())["providers"]
    assert (provider["type"], provider["options"]) == ("file", {"path": "$TANS_DASHBOARDS"})
