#!/usr/bin/env bash
# debian_package.sh [--optional] "what it is for" "command, or another that serves as well" package…
# Installs Debian's packages where none of the commands is there and it may; says what to do where it may not.
set -euo pipefail
optional=
if [ "$1" = --optional ]; then optional=yes && shift; fi
purpose=$1 commands=$2
shift 2
for name in $commands; do
  command -v "$name" >/dev/null && exit 0
done
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "$1: installing Debian's package for $purpose …" >&2
  # Another `make` may hold dpkg's lock: wait for it rather than fail.
  if apt-get -qq -o DPkg::Lock::Timeout=300 update >&2 &&
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@" >/dev/null; then
    exit 0
  fi
fi
if [ -n "$optional" ]; then
  echo "$1: not found; $purpose are left out (Debian: apt-get install $*)" >&2
  exit 0
fi
echo "$1: not found. Install it (Debian: apt-get install $*) and run again." >&2
exit 2
