"""What leaves the process: exports that `ofa` alone loads, and imports that stay light."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tans_core.search_space import make_search_space

LOADER = Path(__file__).with_name("load_exported.py")


def test_exported_networks_load_without_our_packages(tmp_path):
    expected = {}
    for name in ("ofa-lite", "ofa-mbv3"):
        space = make_search_space(name)
        topology = space.sample(1, torch.Generator().manual_seed(5))[0].tolist()
        network = space.subnet(space.architecture(topology), 6, torch.Generator().manual_seed(6))
        images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(7))
        network(images)  # running statistics of its own
        with torch.inference_mode():
            expected[name] = network.eval()(images)
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"network": space.export_config(network)}))
        save_file(network.state_dict(), folder / "weights.safetensors")
        save_file({"images": images}, folder / "images.safetensors")
    folders = [str(tmp_path / name) for name in expected]
    done = subprocess.run([sys.executable, str(LOADER), *folders], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
    for name, logits in expected.items():
        there = load_file(tmp_path / name / "logits.safetensors")["logits"]
        torch.testing.assert_close(there, logits)  # that process may have another number of threads


def test_importing_the_room_imports_neither_ofa_nor_torchvision():
    code = "import sys, tans_core.search_space; print([n for n in ('ofa', 'torchvision') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
