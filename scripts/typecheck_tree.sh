#!/bin/sh
# The package as it is installed, made of symbolic links: kubecosm/* and services as kubecosm/services. For tools that read folders.
set -eu
cd "$(dirname "$0")/.."
tree=build/typecheck/kubecosm
rm -rf build/typecheck
mkdir -p "$tree"
for entry in kubecosm/*; do
    [ "${entry##*/}" = __pycache__ ] || ln -s "../../../$entry" "$tree/"
done
ln -s ../../../services "$tree/services"
