#!/usr/bin/env bash
# What a container runs: a command in a checkout that outlives it. The image's is copied into the volume once, and
# brought up to date when the image is newer; state, workspaces and branches of runs stay.
set -euo pipefail
image=${FIRE_OPD_IMAGE:-/srv/fire-opd} home=${FIRE_OPD_VOLUME:-/var/lib/fire-opd}
checkout=$home/checkout

if [ ! -d "$checkout" ]; then
    rm -rf "$home/.new"
    git clone --quiet "$image" "$home/.new"
    mv "$home/.new" "$checkout"
fi
git -C "$checkout" fetch --quiet "$image" HEAD
git -C "$checkout" merge --quiet --ff-only FETCH_HEAD ||
    { echo "$checkout has commits that this image has not; it runs as it is" >&2; }

cd "$checkout"
export PATH="$image/.venv/bin:$PATH" PYTHONPATH="$checkout" TORCH_EXTENSIONS_DIR="$image/.venv/torch_extensions"
exec "$@"
