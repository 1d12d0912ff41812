#!/bin/sh
# Breaks a cluster of its own once for each seed given (or three new ones), and says whether anything acknowledged was lost.
#
#   deploy/chaos.sh [SEED ...]      FAULTS=50 deploy/chaos.sh 7
#
# Exit code 0 only if every run passed. A failing seed is repeated with `deploy/chaos.sh SEED`.
set -eu
PYTHON=${PYTHON:-python3}
FAULTS=${FAULTS:-30}
KUBECOSM_HOME=$(mktemp -d)
export KUBECOSM_HOME
NAME=chaos-$$
trap '"$PYTHON" -m kubecosm.cli delete --force --name "$NAME" >/dev/null; rm -rf "$KUBECOSM_HOME"' EXIT

"$PYTHON" -m kubecosm.cli up --name "$NAME" --nodes 3 --detach
if [ $# -eq 0 ]; then
    set -- $(od -An -N12 -tu4 /dev/urandom)
fi
for seed in "$@"; do
    "$PYTHON" -m kubecosm.chaos --name "$NAME" --seed "$seed" --faults "$FAULTS" --log-level=warning
done
