#!/bin/bash
# fuzz.sh DURATION: every fuzz target for that long, two at a time; a table, and the log of what failed.
# The inputs found stay in Go's cache, and CI begins without them, so that it takes the same time everywhere.
set -uo pipefail
cd "$(dirname "$0")/.."
time=${1:-20s}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ "${CI:-}" = true ]; then corpus=$work/corpus; else corpus=$(go env GOCACHE)/fuzz/$(go list -m); fi

# One instrumented binary per package: go test would link it again for every target.
targets=$(git grep -oE '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' | sed -E 's|/[^/]*:func | |' | sort)
for dir in $(cut -d' ' -f1 <<<"$targets" | uniq); do
	mkdir -p "$work/$dir"
	go test -c -fuzz . -o "$work/$dir/fuzz.test" "./$dir" || exit 1
done

fuzz() { # package target
	local log=$work/$1/$2.log result
	for attempt in first second; do
		result=ok
		(cd "$1" && "$work/$1/fuzz.test" -test.run '^$' -test.fuzz "^$2\$" -test.fuzztime "$time" -test.fuzzminimizetime 1x -test.parallel 1 \
			-test.fuzzcachedir "$corpus/$1") >"$log" 2>&1 || result=FAIL
		# Go before 1.27 may call the end of the time a failure (https://go.dev/issue/75804): that, and only that, is tried again.
		[ $result = FAIL ] && grep -q '^ *context deadline exceeded$' "$log" && ! grep -q 'Failing input' "$log" || break
		[ $attempt = second ] || echo "$1 $2: Go took the end of the time for a failure, once more"
	done
	printf '%-10s %-20s %-5s %s\n' "$1" "$2" $result "$(grep -oE 'execs: [0-9]+' "$log" | tail -1 | cut -d' ' -f2)" >>"$work/table"
	[ $result = ok ] || cat "$log"
}
while read -r dir target; do
	[ "$(jobs -rp | wc -l)" -lt 2 ] || wait -n
	fuzz "$dir" "$target" &
done <<<"$targets"
wait

printf '%-10s %-20s %-5s %s\n' package target '' 'inputs tried'
sort "$work/table"
failed=$(grep -c ' FAIL ' "$work/table")
echo "$(grep -c ' ok ' "$work/table") passed, $failed failed"
[ "$failed" = 0 ]
