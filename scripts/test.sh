#!/bin/bash
# test.sh: the suites side by side, a summary line each; logs stay in build/test. What was skipped is listed with its reason. With CI=true
# only two reasons are good: the captures of real exporters are absent, or a suite is -short because another one runs that test whole.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin:/sbin
logs=build/test
rm -rf $logs && mkdir -p $logs

data=${WHARFWATCH_DATA:-../shared/data}
if [ -d "$data" ]; then
	WHARFWATCH_DATA=$(cd "$data" && pwd)
	export WHARFWATCH_DATA
	echo "captures of real exporters are present ($data): their tests run"
	good='-short:'
else
	echo "captures of real exporters are absent (WHARFWATCH_DATA names their folder): their tests are skipped"
	good='-short:|WHARFWATCH_DATA'
fi

# skips prints a line per reason in a log of go test -v: the reason, a tab, the tests.
skips() {
	awk '
		/^ +[a-z0-9_]+\.go:[0-9]+: / { reason = $0; sub(/^ +[a-z0-9_]+\.go:[0-9]+: /, "", reason) }
		/^ *--- SKIP: / { tests[reason] = tests[reason] " " $3 }
		END { for (r in tests) print r "\t" tests[r] }' "$1" | sort
}

suite() { # name command...
	local name=$1 start=$SECONDS result=ok log=$logs/$1.log
	shift
	"$@" >"$log" 2>&1 || result=FAIL
	local passed failed skipped
	passed=$(grep -cE '^ *--- PASS|^Benchmark.* ns/op| ok +[0-9]+$' "$log")
	failed=$(grep -cE '^ *--- FAIL| FAIL +[0-9]+$' "$log")
	skipped=$(grep -cE '^ *--- SKIP' "$log")
	if [ "${CI:-}" = true ] && skips "$log" | cut -f1 | grep -qvE -e "$good"; then
		result=FAIL
		echo "skipped for something that CI must have" >>"$log"
	fi
	[ $result = ok ] || touch "$logs/$name.failed"
	{
		printf '%-6s %-5s%4ss  %d passed, %d failed, %d skipped\n' "$name" $result $((SECONDS - start)) "$passed" "$failed" "$skipped"
		skips "$log" | awk -F '\t' '{ print "       skipped:" $2 " (" $1 ")" }'
	} >"$logs/$name.summary"
	cat "$logs/$name.summary" # in one piece: suites end at the same time
}
tests() { go test -count=1 -v "$@"; }
race() { CGO_ENABLED=1 tests -race -short -timeout 15m ./flow ./enrich ./baseline ./alerts ./console; }

# Live and kill mostly wait. They have ^C as the others have it, which a shell takes from what it starts in the background.
(trap - INT && suite live tests -p 3 -timeout 15m -run '^TestLive' ./cmd/wharfwatch ./enrich ./rig) &
(trap - INT && suite kill tests -timeout 10m -run '^TestKill' ./cmd/wharfwatch ./state) &
suite lint scripts/lint.sh
suite unit tests -timeout 10m -skip '^TestLive|^TestKill' ./...
suite race race
suite fuzz scripts/fuzz.sh "${FUZZTIME:-$([ "${CI:-}" = true ] && echo 20s || echo 3s)}"
suite bench go test -timeout 10m -run '^$' -bench . -benchtime 1x ./...
wait

passed=0 failed=0
for summary in $logs/*.summary; do
	name=$(basename "$summary" .summary) log=${summary%.summary}.log
	if [ ! -e "$logs/$name.failed" ]; then
		passed=$((passed + 1))
		continue
	fi
	failed=$((failed + 1))
	echo "--- $name ($log), what failed and the end:"
	grep -nE '^ *--- FAIL|^FAIL|^panic:|WARNING: DATA RACE|^ +[a-z0-9_]+\.go:[0-9]+: |^[a-z/_]+\.go:[0-9]+' "$log" |
		grep -B 8 -E -- '--- FAIL|:FAIL|panic:|RACE|^[0-9]+:[a-z]' | head -80
	echo ...
	tail -15 "$log"
done
echo "suites: $passed passed, $failed failed"
[ $failed = 0 ]
