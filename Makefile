# Two commands do everything on a fresh Debian or Ubuntu machine with Go: make run, make test.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN   := build/wharfwatch
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
export CGO_ENABLED ?= 0

.PHONY: help
help: ## what can be made here
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: setup build ## build everything and start the monitor on its embedded defaults (ARGS="--netflow :9995" adds flags)
	$(BIN) run $(ARGS)

.PHONY: web
web: console/web/dist/index.html ## the web console's bundle, in console/web/dist (needs npm)
console/web/dist/index.html: $(wildcard console/web/src/* console/web/*.json console/web/build.mjs)
	@scripts/web.sh

.PHONY: build
build: web ## the static binary, in build/wharfwatch
	@mkdir -p build
	go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN) ./cmd/wharfwatch

.PHONY: setup
setup: ## install what is lacking to build and run (Debian, Ubuntu); elsewhere: say what to install
	@scripts/setup.sh run

.PHONY: test
test: ## everything: lint, unit, race, short fuzzing, the live scene on a real engine; one line per suite
	@scripts/setup.sh test
	@$(MAKE) --no-print-directory web
	@scripts/test.sh

.PHONY: test-short
test-short: ## the quick loop: vet, staticcheck, gofumpt, unit tests
	@scripts/lint.sh quick
	go test -short ./...

.PHONY: fuzz
fuzz: ## fuzz every parser of hostile input (FUZZTIME=60s each) and print a table
	@scripts/fuzz.sh $(or $(FUZZTIME),60s)

.PHONY: bench
bench: ## Go benchmarks of each stage (COUNT=3 times each, BENCH=Decode: these)
	go test -run '^$$' -bench '$(or $(BENCH),.)' -benchmem -count $(or $(COUNT),3) ./flow ./enrich ./baseline ./alerts

.PHONY: eval
eval: ## what the detectors find and invent, at full size: docs/evaluation.md and results.json (RUN=Beacon: one part)
	@scripts/eval.sh

.PHONY: bench-peers
bench-peers: ## what a flow and a packet cost beside goflow2, nfdump, pmacct and softflowd (needs the rig: WHARFWATCH_BENCH)
	@scripts/peers.sh

.PHONY: soak
soak: ## kill -9 at 200 random moments on a live feed (KILLS=20: as often) and say what was lost
	WHARFWATCH_KILLS=$(or $(KILLS),200) go test -count=1 -timeout 60m -run 'TestKill' -v ./cmd/wharfwatch

.PHONY: vuln
vuln: ## known vulnerabilities in what is linked (asks vuln.go.dev)
	go tool govulncheck ./...

.PHONY: fmt
fmt: ## format
	go tool gofumpt -w .
