"""An exported network, loaded with torch, safetensors and `ofa` alone: the lines that the README shows."""

import json
import sys
from pathlib import Path

import torch
from ofa.imagenet_classification import networks
from safetensors.torch import load_file, save_file


def load_exported(folder: Path) -> torch.nn.Module:
    config = json.loads((folder / "config.json").read_text())["network"]
    network = getattr(networks, config["name"]).build_from_config(config)
    for layer in network.modules():
        if config["padding"] == "tensorflow-same" and getattr(layer, "stride", None) == (2, 2):
            before, after = (layer.kernel_size[0] - 2) // 2, (layer.kernel_size[0] - 1) // 2
            layer.padding, sides = (0, 0), (before, after, before, after)
            layer.register_forward_pre_hook(lambda _, x, sides=sides: torch.nn.functional.pad(x[0], sides))
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    return network.eval()


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:]):
        with torch.inference_mode():
            logits = load_exported(folder)(load_file(folder / "images.safetensors")["images"])
        save_file({"logits": logits}, folder / "logits.safetensors")
    print(sorted(name for name in sys.modules if name.split(".")[0] in ("tans_core", "pipeline")))
