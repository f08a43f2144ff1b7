#!/bin/sh
# Install the Debian packages named as arguments where they are missing: as root, or by naming them in one line.
missing=""
for package in "$@"; do
	dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo "installing Debian packages:$missing"
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >/tmp/duologue-apt.log 2>&1 && exit 0
	tail -5 /tmp/duologue-apt.log
fi
echo "duologue needs these Debian packages: run  sudo apt-get install$missing" >&2
exit 1
