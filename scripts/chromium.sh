#!/usr/bin/env bash
# The browser tests drive Debian's Chromium. Installs it where that is possible; says what to do where it is not.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
  command -v "$name" >/dev/null && exit 0
done
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "chromium: installing Debian's package for the browser tests …" >&2
  # Another `make test` may hold dpkg's lock: wait for it rather than fail.
  apt-get -qq -o DPkg::Lock::Timeout=300 update >&2
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends chromium fonts-noto-cjk >/dev/null
  exit 0
fi
echo "chromium: not found. Install it (Debian: apt-get install chromium fonts-noto-cjk) and run again." >&2
exit 2
