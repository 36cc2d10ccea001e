#!/usr/bin/env bash
# Makes .venv and installs hiervla into it; does nothing when that has been done for these very files.
#
#   PYTHON=/path/to/python   use this interpreter instead of the first suitable one on PATH
#   TORCH=default            take the build of torch that the index offers (on Linux: with CUDA, about 3 GB);
#                            without it, the CPU build is taken where one can be had
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
stamp=$venv/.hiervla-setup
say() { printf '\033[1mhiervla setup:\033[0m %s\n' "$*"; }
stop() { printf 'hiervla setup: %s\n' "$*" >&2; exit 1; }

# Debian packages: as root they are installed with a word about it, otherwise the command is printed.
debian() { # WHY PACKAGE...
    local why=$1
    shift
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "$why: installing the Debian packages $* with apt-get"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    else
        stop "$why. Install it and run this again: sudo apt-get install -y --no-install-recommends $*"
    fi
}

suitable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3 python}; do
        if suitable "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    return 1
}

# The place is part of it: scripts in a moved environment point to where it was.
fingerprint=$({ pwd -P; echo "${TORCH:-cpu}"; cat pyproject.toml constraints.txt scripts/setup.sh; } | cksum)
if [ -x $venv/bin/hiervla ] && [ "$(cat $stamp 2>/dev/null)" = "$fingerprint" ] && $venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi
rm -f $stamp

python=$(find_python) || {
    [ -z "${PYTHON:-}" ] || stop "PYTHON=$PYTHON is no Python 3.11 or newer with venv and ensurepip"
    debian "no Python 3.11 or newer with venv was found on PATH" python3 python3-venv
    python=$(find_python) || stop "Python 3.11 or newer is needed; set PYTHON=/path/to/python and run this again"
}
if ! $venv/bin/python -m pip --version >/dev/null 2>&1; then
    say "making $venv with $($python --version)"
    $python -m venv --clear $venv
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1
pip() { $venv/bin/python -m pip "$@"; }

torch=$(sed -n 's/^torch==//p' constraints.txt)
has_torch() { $venv/bin/python -c "import importlib.metadata as m, sys; sys.exit(m.version('torch').split('+')[0] != '$torch')" 2>/dev/null; }
if [ "${TORCH:-cpu}" = cpu ] && [ "$(uname -s)" = Linux ] && ! has_torch; then
    say "installing torch $torch for the CPU"
    pip install --quiet -c constraints.txt "torch==$torch+cpu" 2>/dev/null ||
        pip install --quiet -c constraints.txt "torch==$torch+cpu" \
            --extra-index-url https://download.pytorch.org/whl/cpu --timeout 15 --retries 0 2>/dev/null ||
        say "no CPU build of torch $torch can be had from here; the default one follows (with CUDA, about 3 GB)"
fi

say "installing hiervla and what it needs (versions: constraints.txt)"
pip install --quiet -c constraints.txt -e ".[dev]"

# MuJoCo draws the camera images; without a display that goes through EGL, in software where there is no GPU.
renders() {
    MUJOCO_GL=egl $venv/bin/python - >/dev/null 2>&1 <<'PYTHON'
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light pos='0 0 2'/><geom size='.1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    assert renderer.render().std() > 0
PYTHON
}
if [ "$(uname -s)" = Linux ] && ! renders; then
    debian "rendering without a display needs EGL" libegl1 libgl1-mesa-dri
    renders || stop "MuJoCo still cannot render through EGL; try: MUJOCO_GL=egl $venv/bin/python -c 'import mujoco; mujoco.GLContext(8, 8)'"
fi

echo "$fingerprint" >$stamp
say "ready: $venv/bin/hiervla --help"
