# `make` lists what there is.
.DEFAULT_GOAL := help
CARGO ?= cargo

.PHONY: help run doctor test test-deps test-web test-rules nine nine-step test-long sweep lint bench peers first-frame fuzz firestore-load take-over cameras soak audit sanitize

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Serve on http://localhost:8080/
	$(CARGO) run --release

doctor: ## Check this machine and say what to set
	$(CARGO) run --release -- doctor

test: test-deps test-web test-rules ## Everything CI runs: lints, unit tests, simulated meetings, browsers
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) test

test-deps: ## Install what the tests need (Debian packages), or say what is missing
	scripts/test-deps

test-web: ## Unit tests of the page's modules
	node --test signaling/web/tests/

test-rules: test-deps ## Firestore's security rules, against Google's emulator
	node --test deploy/firestore/tests/*.test.mjs

firestore-load: test-deps ## Three nodes, 2,000 offers at once, a node killed: who answered, and how soon
	$(CARGO) test --release --test firestore_load -- --nocapture

test-long: test-deps ## What browsers see on bad networks, with every codec, five minutes of coming and going, and the sanitizers: 25 minutes; keeps docs/networks.txt
	$(CARGO) test --test networks -- --include-ignored --nocapture --test-threads 1 2>&1 \
		| grep -av 'INFO\|WARN' | tee docs/networks.txt | cat
	grep -q 'test result: ok' docs/networks.txt
	scripts/soak 300
	scripts/sanitize
	$(MAKE) nine-step

soak: ## Two hours (or SECONDS_SOAKED) of people who come and go, 20 a second: docs/soak.txt, docs/soak.svg
	scripts/soak $(or $(SECONDS_SOAKED),7200) docs/soak.svg > docs/soak.txt || { tail -n 12 docs/soak.txt; exit 1; }
	tail -n 3 docs/soak.txt

nine: test-deps ## A minute with nine people in a room, one of them a browser, and its figures
	$(CARGO) test --release --test nine -- --ignored --nocapture

nine-step: test-deps ## A minute with nine people, the network of one of them narrow for a while: docs/nine.svg, docs/nine.png
	$(CARGO) test --test nine_step -- --ignored --nocapture

sweep: ## Simulated nodes and people until MEETING_HOURS (1000) have passed, from seed FROM on in STEPs; or SEED once more
	MILLRACE_HOURS=$(MEETING_HOURS) MILLRACE_FROM=$(FROM) MILLRACE_STEP=$(STEP) MILLRACE_SEED=$(SEED) MILLRACE_SPAN=$(SPAN) \
		$(CARGO) test --release --test sweep -- sweep::sweep --ignored --nocapture

take-over: ## The program is replaced under a thousand sessions: nothing lost, nothing twice, and the gap
	$(CARGO) test --release --test upgrade a_thousand -- --ignored --nocapture

cameras: test-deps ## A hundred RTSP cameras of 2 Mbit/s into one node: what is lost inside it, and its cores
	$(CARGO) test --release --test cameras a_hundred -- --ignored --nocapture

lint: audit ## rustfmt, clippy and the dependency policy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets -- -D warnings

audit: ## Licences, sources and advisories of all dependencies; fails where the advisories cannot be reached
	scripts/audit

sanitize: ## What is near unsafe code, under AddressSanitizer
	scripts/sanitize

bench: ## Figures: engine, wire, floor
	$(CARGO) bench -p benches

peers: ## Cost per packet beside Janus and bare forwarders, in a network namespace (root)
	rm -f benches/peers.jsonl
	scripts/peers benches/peers.jsonl
	$${CARGO_TARGET_DIR:-target}/release/millrace-load plot benches/peers.jsonl > benches/peers.svg

first-frame: test-deps ## Milliseconds from Join to the first decoded frame: the median of ten
	$(CARGO) bench -p control --bench join

fuzz: ## Run each fuzz target for a minute, JOBS at once; SECONDS_EACH=600 for longer
	scripts/fuzz $(or $(SECONDS_EACH),60)
