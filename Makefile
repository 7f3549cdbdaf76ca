# `make demo` and `make test` are all the set-up there is: each first runs
# scripts/setup.sh, which installs what is missing or says what to install.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo sim-full build test test-unit conformance chart image test-image test-aws test-kube lint check-config fmt bench setup-demo setup-test setup-conformance setup-bench setup-chart setup-image setup-aws setup-kube setup-lint clean-tools

# Test tools that the system lacks are unpacked under target/tools (no root, no
# service left running). nginx lives in sbin, which is not on every user's PATH.
export PATH := $(CURDIR)/target/tools/bin:$(PATH):/usr/sbin:/sbin

CARGO ?= cargo
# Extra arguments, as in `make demo ARGS='--seed 7 --hold'` and `make bench ARGS=--quick`.
ARGS ?=

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: setup-demo ## Build, then watch regions die and come back (ARGS='--seed 7 --hold')
	$(CARGO) run --locked -- demo $(ARGS)

# Some three hours on two cores; ended early, it goes on from target/sim-full.json. SEEDS=n plays fewer.
SEEDS ?= 100000
sim-full: setup-demo ## 100,000 random worlds in virtual time, and what they have tried: every fault x transition x refusal
	$(CARGO) build --locked --release
	target/release/proxima simulate --seeds $(SEEDS) --resume target/sim-full.json --coverage 100 --aimed 200

build: setup-demo ## Build the binary: target/debug/proxima
	$(CARGO) build --locked

# Under make a missing test tool is a failure; under plain `cargo test` the
# tests that need it say loudly that they are skipped.
test: export PROXIMA_REQUIRE_TOOLS := 1
test: setup-test ## Every test, doc tests included; installs the test tools
	$(CARGO) test --locked

# Not optimised, so that a change is built in seconds; beside the other build, not instead of it.
test-unit: setup-demo ## The inner loop: unit tests of the library and the architecture test
	$(CARGO) test --locked --lib --test architecture --config 'profile.dev.package.proxima.opt-level=0'

conformance: export PROXIMA_REQUIRE_TOOLS := 1
conformance: setup-conformance ## What the traffic plane holds, shown by real peers: grpcio, websockets, curl, haproxy, h2load, sslyze, slowhttptest
	$(CARGO) test --locked --test conformance -- --include-ignored

# The binary as the tests build it, so that nothing is built twice after `make test`. Its ministack is that of setup-aws.
test-aws: export PROXIMA_REQUIRE_TOOLS := 1
test-aws: export PROXIMA_MINISTACK ?= $(CURDIR)/target/aws/bin/ministack
test-aws: setup-aws setup-chart ## Credentials, rights, buckets, Terraform and the runbook's commands, against stand-ins for AWS
	$(CARGO) test --locked --test aws_run
	scripts/test-aws.sh

# Some minutes: a watch lives for one, the API is away for one, and tests wait for that. PROXIMA_KUBE_AWAY=5: for five seconds.
test-kube: export PROXIMA_KUBE_AWAY ?= 60
test-kube: export PROXIMA_REQUIRE_TOOLS := $(if $(KUBEBUILDER_ASSETS),1)
test-kube: setup-kube ## Endpoints, the Lease, rights and the chart's objects against a real kube-apiserver (KUBEBUILDER_ASSETS)
	$(CARGO) test --locked --test kube --test kube_lease -- --include-ignored --nocapture

chart: setup-chart ## The Helm chart: golden files, lint, refusals, Kubernetes' schemas, checkov (ARGS=--bless writes the golden files)
	scripts/chart.sh $(ARGS)

image: setup-image ## Compile and build the container image, and run it (minutes; ARGS='--tag NAME')
	scripts/image.sh $(ARGS)

test-image: setup-image ## The same with a binary that is there already: target/release/proxima, or the debug build
	scripts/image.sh --prebuilt $(firstword $(wildcard target/release/proxima target/debug/proxima) target/release/proxima)

# The binary as it is shipped: no embedded world, the release profile.
bench: setup-bench ## Proxima beside nginx, haproxy and bare Pingora (ARGS=--quick: a minute), then what a decision costs; target/bench/report.json
	$(CARGO) bench --locked --no-default-features --bench edge -- $(ARGS)
	$(CARGO) bench --locked --no-default-features --bench decide

lint: setup-lint ## Format, clippy, docs, the production build, dependencies, shell scripts
	scripts/lint.sh

check-config: build ## `proxima check` on every file in config/
	@shopt -s nullglob; for file in config/*.toml; do \
	  echo "check $$file"; target/debug/proxima check "$$file" || exit 1; done

fmt: ## Format the sources
	$(CARGO) fmt

setup-demo:
	@scripts/setup.sh build

setup-test:
	@scripts/setup.sh build test

setup-conformance:
	@scripts/setup.sh build conformance

setup-aws:
	@scripts/setup.sh build aws

setup-bench:
	@scripts/setup.sh build bench

setup-kube:
	@scripts/setup.sh build kube

setup-chart:
	@scripts/setup.sh chart

setup-image:
	@scripts/setup.sh image

setup-lint:
	@scripts/setup.sh build lint

clean-tools: ## Remove the downloaded test tools (the build stays)
	rm -rf target/tools target/venv target/peers target/chart target/image target/aws target/setup
