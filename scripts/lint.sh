#!/bin/bash
# lint.sh: go vet, staticcheck, gofumpt, a tidy go.mod.
set -euo pipefail
cd "$(dirname "$0")/.."
go vet ./...
go tool staticcheck ./...
unformatted=$(go tool gofumpt -l .)
if [ -n "$unformatted" ]; then
	printf 'not formatted (make fmt mends it):\n%s\n' "$unformatted"
	exit 1
fi
go mod tidy -diff
