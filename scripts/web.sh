#!/bin/bash
# web.sh: bundles the web console into console/web/dist, from a lock file with exact versions. Without npm, or where its registry cannot be
# reached, it says so and leaves it out: the binary then works without it. With CI=true that is an error.
set -uo pipefail
cd "$(dirname "$0")/../console/web"

leave() {
	echo "web: $1: the binary is built without the web console" >&2
	[ "${CI:-}" != true ]
	exit
}
command -v npm >/dev/null || leave "npm is not there (Debian: apt-get install npm)"
if [ node_modules/.package-lock.json -ot package-lock.json ]; then
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2 || leave "npm cannot install what package-lock.json names"
	touch node_modules/.package-lock.json
fi
node_modules/.bin/tsc -p . || exit
node build.mjs || exit
most=61440 size=$(cat dist/index.html dist/assets/*.{js,css,svg} | gzip -9 | wc -c)
[ "$size" -le $most ] || { echo "web: the first load is $size bytes packed, more than $most" >&2; exit 1; }
echo "web: console/web/dist, $size bytes packed"
