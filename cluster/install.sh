#!/usr/bin/env bash
# Inside the image: the locked packages into the system's Python, for cuda or for cpu.
set -euo pipefail

device=$1
lock=${2:-requirements.lock}
system=(uv pip install --system --no-cache)
case $device in cuda | cpu) ;; *) echo "DEVICE is cuda or cpu, not $device" >&2 && exit 2 ;; esac

# Entries of the lock whose names match; each is a line of name and version, and lines of hashes behind it.
entries() { sed -n "/^\($1\)==/,/[^\\\\]\$/p" "$lock"; }
others() { sed "/^\($1\)==/,/[^\\\\]\$/d" "$lock"; }

entries uv > uv.txt
python -m pip install --no-cache-dir --require-hashes -r uv.txt
if [[ $device == cuda ]]; then
    "${system[@]}" --require-hashes -r "$lock"
else
    # Wheels of torch without CUDA have hashes of their own, so these two are held to their versions alone.
    others 'nvidia-[a-z0-9-]*\|cuda-[a-z-]*\|triton\|torch\|torchvision' > others.txt
    "${system[@]}" --require-hashes -r others.txt --no-deps
    entries 'torch\|torchvision' | sed -n 's/^\(torch[a-z]*==[^ ]*\).*/\1/p' > torch.txt
    "${system[@]}" --torch-backend cpu --no-deps -r torch.txt
fi
rm -f uv.txt others.txt torch.txt
