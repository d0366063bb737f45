#!/bin/bash
# test.sh: the suites side by side, one summary line each; logs stay in build/test. With CI=true nothing may skip for a missing part.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin:/sbin
logs=build/test
rm -rf $logs && mkdir -p $logs

suite() { # name command...
	local name=$1 start=$SECONDS
	shift
	if "$@" >"$logs/$name.log" 2>&1; then echo ok; else echo FAIL; fi >"$logs/$name.result"
	echo $((SECONDS - start)) >"$logs/$name.seconds"
	line "$name"
}
line() {
	local log=$logs/$1.log
	printf '%-8s %-5s %4ss  %s\n' "$1" "$(<"$logs/$1.result")" "$(<"$logs/$1.seconds")" \
		"$(grep -cE '^ *--- PASS|^ok ' "$log" || true) passed, $(grep -cE '^ *--- FAIL|^FAIL' "$log" || true) failed, $(grep -cE '^ *--- SKIP' "$log" || true) skipped"
}

if [ -d "${WHARFWATCH_DATA:-../shared/data}" ]; then
	echo "data     captures of real exporters are present: their tests run"
else
	echo "data     captures of real exporters are absent (WHARFWATCH_DATA): their tests are skipped"
fi
echo "building"
go build -trimpath -o build/wharfwatch ./cmd/wharfwatch && go vet ./... || exit 1

suite live go test -count=1 -v -timeout 15m -run '^TestLive' ./cmd/wharfwatch ./enrich ./rig &
live=$!
suite lint scripts/lint.sh
suite unit go test -count=1 -v -timeout 10m -skip '^TestLive|^TestKill' ./...
suite kill go test -count=1 -v -timeout 10m -run '^TestKill' ./...
CGO_ENABLED=1 suite race go test -race -short -count=1 -timeout 15m ./flow ./enrich ./baseline ./alerts ./console
suite fuzz scripts/fuzz.sh "${FUZZTIME:-3s}"
wait $live

passed=0 failed=0
for result in $logs/*.result; do
	if [ "$(<"$result")" = ok ]; then passed=$((passed + 1)); else
		failed=$((failed + 1))
		name=$(basename "$result" .result)
		echo "--- $name, the end of its log ($logs/$name.log):"
		grep -E '^ *--- FAIL|^FAIL|panic:|_test.go:[0-9]+:|^[a-z].*\.go:[0-9]+' "$logs/$name.log" | head -60
		tail -20 "$logs/$name.log"
	fi
done
echo "suites: $passed passed, $failed failed"
[ $failed = 0 ]
