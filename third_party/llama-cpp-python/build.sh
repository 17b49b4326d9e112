#!/bin/sh
# Compiles the llama-cpp-python that requirements.txt names, with cpu-attention.patch, into a wheel.
# usage: build.sh PYTHON FOLDER
set -eu
python=$1
folder=$2
here=$(cd "$(dirname "$0")" && pwd)
requirement=$(grep '^llama-cpp-python' "$here/../../requirements.txt")
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
trap 'exit 1' HUP INT TERM # dash does not go through EXIT for them

# GCC 12 takes the writes to AMX's tile configuration for dead stores and drops them, and on CPUs with
# AMX every prompt then crashes its process. For AVX512-FP16 ggml goes by 128 values at a time, and
# heads of 64 are left to scalar code.
export CFLAGS="${CFLAGS:-} -U__AVX512FP16__"
export CXXFLAGS="${CXXFLAGS:-} -fno-tree-dse -fno-dse -U__AVX512FP16__"

pip() { "$python" -m pip --quiet --disable-pip-version-check "$@"; }
pip download --no-deps --no-binary llama-cpp-python --dest "$source" "$requirement"
tar -xzf "$source"/llama_cpp_python-*.tar.gz -C "$source" --strip-components=1
patch --batch --forward --fuzz=0 --strip=1 --directory="$source/vendor/llama.cpp" \
  <"$here/cpu-attention.patch" >&2
pip wheel --no-cache-dir --no-deps --wheel-dir "$source/wheels" "$source"
# Whole or not at all: what lies in the folder is installed ever after.
mkdir -p "$folder"
for wheel in "$source"/wheels/*.whl; do
  cp "$wheel" "$folder/partial"
  mv "$folder/partial" "$folder/${wheel##*/}"
done
