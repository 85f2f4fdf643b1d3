#!/usr/bin/env bash
# Commands for phones are tested with mksh, Android's own shell, too. Installs it where that is possible; the tests that
# need it are left out where it is not.
set -euo pipefail
command -v mksh >/dev/null && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "mksh: installing Debian's package for the tests of commands …" >&2
  # Another `make test` may hold dpkg's lock: wait for it rather than fail.
  if apt-get -qq -o DPkg::Lock::Timeout=300 update >&2 &&
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends mksh >/dev/null; then
    exit 0
  fi
fi
echo "mksh: not found; its tests are left out (Debian: apt-get install mksh)" >&2
