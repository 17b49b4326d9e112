#!/bin/sh
# Names everything that is missing to install Brigade, with the Debian package that has it.
# usage: require-tools.sh [PYTHON], where a virtual environment is still to be made with PYTHON
set -eu
missing=
packages=

has() { command -v "$1" >/dev/null 2>&1; }
lacks() {
  missing="$missing
  $1"
  packages="$packages $2"
}

if [ $# -gt 0 ]; then
  if ! has "$1" || ! "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    lacks "Python 3.11 or newer (if $1 is not the one, set PYTHON=/path/to/python3.11)" \
      "python3 python3-venv"
  elif ! "$1" -c 'import ensurepip, venv' 2>/dev/null; then
    lacks "the module venv of Python" "$(basename "$1")-venv"
  fi
fi
# Of "ccache g++" the first word is a program.
set -- ${CXX:-c++}
has "$1" || lacks "a C++ compiler ($1)" g++
set -- ${CC:-cc}
has "$1" || lacks "a C compiler ($1)" gcc
has make || lacks make make
has patch || lacks patch patch

if [ -n "$missing" ]; then
  printf 'Before Brigade can be installed, this is missing:%s\nDebian and Ubuntu: apt install%s\n' \
    "$missing" "$packages" >&2
  exit 1
fi
