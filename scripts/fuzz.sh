#!/bin/bash
# fuzz.sh DURATION: every fuzz target for that long, a table at the end.
set -uo pipefail
cd "$(dirname "$0")/.."
time=${1:-20s} failed=0 passed=0
out=$(mktemp)
trap 'rm -f "$out"' EXIT
printf '%-10s %-28s %-6s %s\n' package target result 'inputs tried'
while read -r file target; do
	dir=$(dirname "$file")
	if go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1x "./$dir" >"$out" 2>&1; then
		result=ok passed=$((passed + 1))
	else
		result=FAIL failed=$((failed + 1))
	fi
	printf '%-10s %-28s %-6s %s\n' "$dir" "$target" "$result" "$(grep -oE 'execs: [0-9]+' "$out" | tail -1 | cut -d' ' -f2)"
	[ $result = ok ] || cat "$out"
done < <(git grep -oE '^func Fuzz[A-Za-z0-9]+' -- '*_test.go' | sed 's/:func / /')
echo "$passed passed, $failed failed"
[ $failed = 0 ]
