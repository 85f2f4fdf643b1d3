#!/usr/bin/env bash
# `make chaos` lets system calls of a real agent fail with strace. Installs it where that is possible; the tests that
# need it are left out where it is not.
set -euo pipefail
command -v strace >/dev/null && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "strace: installing Debian's package for the tests of failing disks …" >&2
  # Another `make` may hold dpkg's lock: wait for it rather than fail.
  if apt-get -qq -o DPkg::Lock::Timeout=300 update >&2 &&
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends strace >/dev/null; then
    exit 0
  fi
fi
echo "strace: not found; its tests are left out (Debian: apt-get install strace)" >&2
