#!/usr/bin/env bash
# Makes .venv with everything that the project needs, at the versions of constraints.txt. Run by `make`.
set -euo pipefail
cd "$(dirname "$0")"

readonly needed_gb=12  # PyTorch for Linux brings CUDA's libraries
fail() { echo "error: $1" >&2; exit 1; }

python=$(command -v python3.11) || fail "python3.11 is not here; install it (Debian: apt-get install python3.11 python3.11-venv) and run this again"
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "python3.11 cannot make virtual environments; install python3.11-venv and run this again"
free_gb=$(df -Pk . | awk 'NR == 2 {print int($4 / 1048576)}')
[ "$free_gb" -ge "$needed_gb" ] || [ -d .venv ] || fail "$free_gb GB are free here and the installation needs $needed_gb; free some space and run this again"

[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "installing into .venv, which takes some minutes the first time ..."
if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt '.[dev]' 2> .venv/pip.log; then
    cat .venv/pip.log >&2
    command -v cc > /dev/null || fail "the installation failed, and no C compiler is here; install one (Debian: apt-get install build-essential) and run this again"
    fail "the installation failed; the lines above say why, .venv/pip.log keeps them"
fi
touch .venv/installed
