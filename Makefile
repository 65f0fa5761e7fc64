# Go 1.25 or newer is the one precondition; make deps installs the rest.

GO          ?= go
RACE        ?=
# A number of runs, not a time: at the end of a time the fuzzing engine now and
# then takes its own deadline for a finding (golang.org/issue/75804).
FUZZTIME    ?= 100000x
# One run of the swap machine's target is two whole swaps.
FUZZSWAPS   ?= 2000x
BENCHTIME   ?= 1s
FIGURES     ?= 10000000
MODEL       ?= full
SWAPS       ?= 1000000
SEED        ?= 1
# A soak of a million swaps wants a hundred hits of each possible cell of fault ×
# state; with FOR a soak ends after that time at the latest.
LEAST       ?= $(shell [ $(SWAPS) -ge 1000000 ] && echo 100 || echo 0)
FOR         ?= 0
SOAKFLAGS   ?=
RUNS        ?= 1000
AGENT       ?= 500
BACKEND     ?= 200
BROKER      ?= 100
POSTGRES    ?= 50
KILLFLAGS   ?=
TESTFLAGS   ?=
DEMOFLAGS   ?=
LISTEN      ?=
LINT_VERSION = v2.15.0
LINT         = .tools/golangci-lint-$(LINT_VERSION)

.DEFAULT_GOAL = help

.PHONY: help
help: ## show this
	@echo 'make demo       the whole system on this machine, with simulated cabinets and riders; Ctrl-C ends it'
	@echo 'make monitoring the demo with Prometheus and Alertmanager beside it; dashboards: backend/monitoring/README.md'
	@echo 'make test       all tests; make test RACE=1 (or make race) with the race detector'
	@echo
	@echo 'make build      the three programs into bin/'
	@echo 'make deps       install what is missing beside Go (the others do this themselves)'
	@echo 'make lint       gofmt, go vet and golangci-lint $(LINT_VERSION)'
	@echo 'make fuzz       each fuzz target FUZZTIME (now $(FUZZTIME)), swaps FUZZSWAPS (now $(FUZZSWAPS))'
	@echo 'make soak       simulated fleets: SWAPS (now $(SWAPS)) swaps from SEED (now $(SEED)), with faults'
	@echo 'make safety     every danger in every trouble, RUNS (now $(RUNS)) times each from SEED: power is off within two seconds'
	@echo 'make matrix     the power cut at every moment of every course of a swap, and at every moment after that'
	@echo 'make kill-loop  the real programs, killed: AGENT BACKEND BROKER POSTGRES times (now $(AGENT) $(BACKEND) $(BROKER) $(POSTGRES)) from SEED'
	@echo 'make bugs       defects built into copies of the sources: each has to be found'
	@echo 'make bench      benchmarks, each for BENCHTIME (now $(BENCHTIME)); figures of FIGURES (now $(FIGURES)) swaps'
	@echo 'make model      the model of the swap, and that each defect in it is found (Spin); MODEL=quick for less'
	@echo 'make clean      remove what these have made'
	@echo
	@echo 'One test:       go test ./backend/internal/postgres -run NAME'
	@echo 'Demo with more: make demo DEMOFLAGS="--cabinets 5 --riders 20"'
	@echo 'For a phone:    make demo LISTEN=0.0.0.0:8443'

.PHONY: go
go:
	@v=$$($(GO) env GOVERSION 2>/dev/null | sed -E 's/^go1\.([0-9]+).*/\1/'); \
	if ! [ "$${v:-0}" -ge 25 ] 2>/dev/null; then \
		echo 'Go 1.25 or newer is needed: install it from https://go.dev/dl and run make again.' >&2; exit 1; fi

.PHONY: deps
deps: go
	@.ci/deps all

.PHONY: build
build: go
	$(GO) build -trimpath -o bin/ ./firmware-agent ./backend ./simulator

.PHONY: demo
demo: go
	@.ci/deps demo
	@$(MAKE) --no-print-directory build
	bin/simulator demo $(if $(LISTEN),--listen $(LISTEN)) $(DEMOFLAGS)

.PHONY: monitoring
monitoring: go
	@.ci/deps monitoring
	@$(MAKE) --no-print-directory build
	bin/simulator demo --monitoring backend/monitoring $(if $(LISTEN),--listen $(LISTEN)) $(DEMOFLAGS)

# Three at once on two cores: the tests of the whole system mostly wait. They take
# longest, so they begin first and the others run beside them; with the race
# detector they need the machine for themselves, and come last.
.PHONY: test
test: deps
	$(GO) test -timeout 20m -parallel 3 $(if $(RACE),-race) $(TESTFLAGS) $(if $(RACE),,./simulator/acceptance) ./...

.PHONY: soak
soak: go
	$(GO) test ./simulator/soak -count=1 -v -timeout 0 -run '^TestSoak$$' -seed $(SEED) -swaps $(SWAPS) -for $(FOR) -least $(LEAST) $(SOAKFLAGS)

.PHONY: matrix
matrix: go
	$(GO) test ./simulator/soak -count=1 -v -timeout 0 -run '^TestCrashMatrix$$' -matrix

.PHONY: safety
safety: go
	$(GO) test ./firmware-agent/internal/safety -count=1 -v -timeout 0 -run '^TestPowerIsOffInTime$$' -runs $(RUNS) -seed $(SEED)

.PHONY: kill-loop
kill-loop: deps
	@$(MAKE) --no-print-directory build
	bin/simulator demo --exit --listen 127.0.0.1:0 --seed $(SEED) --cabinets 6 --riders 30 --swaps 10 --replicas 2 --bad-network \
		--kill-agents $(AGENT) --kill-backend $(BACKEND) --kill-broker $(BROKER) --kill-postgres $(POSTGRES) $(KILLFLAGS)

.PHONY: bugs
bugs: go
	$(GO) test ./simulator/soak -count=1 -v -timeout 0 -run '^TestSeededBugs$$' -bugs

.PHONY: race
race:
	@$(MAKE) --no-print-directory test RACE=1

.PHONY: lint
lint: go $(LINT)
	@unformatted=$$(gofmt -l firmware-agent backend protocol simulator); \
	if [ -n "$$unformatted" ]; then echo "gofmt -w $$unformatted" >&2; exit 1; fi
	$(GO) vet ./...
	$(LINT) run ./...

$(LINT):
	@mkdir -p .tools/new
	GOBIN=$(CURDIR)/.tools/new $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv .tools/new/golangci-lint $@

.PHONY: fuzz
fuzz: go
	@set -e; grep -rn --include='*_test.go' -o '^func Fuzz[A-Za-z0-9_]*' firmware-agent backend protocol simulator | \
	sed -E 's|/[^/]*:[0-9]+:func | |' | while read -r package target; do \
		echo "fuzz $$package $$target"; \
		runs=$(FUZZTIME); if [ $$target = FuzzMachine ]; then runs=$(FUZZSWAPS); fi; \
		$(GO) test ./$$package -run '^$$' -fuzz "^$$target\$$" -fuzztime $$runs -fuzzminimizetime 100x </dev/null; \
	done

.PHONY: bench
bench: deps
	FIGURES_SWAPS=$(FIGURES) $(GO) test -run '^$$' -bench . -benchtime $(BENCHTIME) -timeout 60m ./...

.PHONY: model
model:
	@.ci/deps all
	protocol/model/check $(MODEL)

.PHONY: clean
clean:
	rm -rf bin .demo .tools
