#!/bin/bash
# eval.sh: the whole evaluation at full size, progress on standard error, tables at the end; publishes docs/evaluation.md, its plots and
# results.json unless a figure is worse than the published one beyond noise (WHARFWATCH_EVAL_ACCEPT=1 publishes nevertheless).
# RUN=Beacon takes only the tests whose names hold that; the other parts stay from the last run. WHARFWATCH_EVAL_SEEDS=development
# draws from the development seeds into build/eval-development, prints and publishes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
parts=$PWD/build/eval
[ "${WHARFWATCH_EVAL_SEEDS:-}" != development ] || parts=$PWD/build/eval-development
mkdir -p "$parts"
export WHARFWATCH_EVAL=$parts
[ -d "${WHARFWATCH_DATA:-../shared/data}" ] || echo "eval: no captures (WHARFWATCH_DATA names their folder): their part stays as it was" >&2
for room in ./baseline ./cmd/wharfwatch; do
	go test -count=1 -v -timeout 120m -run "^Test[A-Za-z]*${RUN:-}[A-Za-z]*Eval$" "$room" | grep --line-buffered -vE '^(=== |PASS$)'
done
go test -count=1 -v -run '^TestPublish$' ./eval | grep -vE '^(=== |PASS$)'
