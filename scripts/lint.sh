#!/bin/bash
# lint.sh [quick]: what can be said of the code without running it. quick leaves out other machines and the look at the binary.
set -uo pipefail
cd "$(dirname "$0")/.."

formatted() {
	local files
	files=$(git ls-files --cached --others --exclude-standard '*.go' | xargs go tool gofumpt -l) && [ -z "$files" ] || { printf 'not formatted (make fmt mends it):\n%s\n' "$files"; return 1; }
}
vet_for() { GOOS=$1 GOARCH=$2 CGO_ENABLED=0 go vet ./...; }
static() {
	local binary=build/static
	CGO_ENABLED=0 go build -trimpath -o $binary ./cmd/wharfwatch || return
	go version -m $binary | grep -q 'CGO_ENABLED=0' || { echo "$binary is built with cgo"; return 1; }
	! readelf -lW $binary | grep INTERP || { echo "$binary asks for a dynamic linker"; return 1; }
	rm $binary
}

failed=0
check() { # name command...: in the words of go test, so that they are counted with the tests
	local name=$1 start=$SECONDS verdict=PASS
	shift
	"$@" || { verdict=FAIL failed=1; }
	echo "--- $verdict: $name ($((SECONDS - start))s)"
}
check vet go vet ./...
check staticcheck go tool staticcheck ./...
check gofumpt formatted
check tidy go mod tidy -diff
if [ "${1:-}" != quick ]; then
	check vet-linux-arm64 vet_for linux arm64
	check vet-darwin-arm64 vet_for darwin arm64
	check static static
fi
exit $failed
