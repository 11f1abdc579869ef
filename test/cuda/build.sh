#!/usr/bin/env bash
# Compiles the stand-in for CUDA into the folder $1 and gives it the names of the libraries that ggml's CUDA backend asks for. One
# file is all three: the loader takes names that lead to the same file for the same library.
set -euo pipefail
source="$(dirname "$0")/stand-in.c"
versions="$(mktemp)"
trap 'rm -f "$versions"' EXIT
echo 'libcudart.so.13 { cuda*; __cuda*; }; libcublas.so.13 { cublas*; };' >"$versions"
mkdir -p "$1"
cc -shared -fPIC -O1 -Wall -Wno-unused-parameter -pthread -Wl,--version-script="$versions" -o "$1/libcuda.so.1" "$source"
ln -sf libcuda.so.1 "$1/libcudart.so.13"
ln -sf libcuda.so.1 "$1/libcublas.so.13"
