# run: a demo gateway. test: everything. lint, bench, fuzz, deb: as named. generated: writes what is
# made from the types and the command line (schema, man pages, completions).
# clients-table: docs/clients.md.
# On a fresh Debian 12 nothing but Rust, make and root is needed: `deps` installs the rest.

SHELL := /bin/bash
export CARGO_TERM_COLOR ?= auto

.PHONY: run build test clients-table lint bench fuzz generated deb deps deps-test clean

run: deps
	cargo build --release
	exec target/release/keygate demo

build: deps
	cargo build --release

test: deps deps-test
	rm -rf target/canary
	cargo test --lib --bins --tests -- --quiet
	cargo test --doc
	cargo test --test main -- --ignored nothing_leaked --quiet

clients-table: deps deps-test
	UPDATE_CLIENTS=1 cargo test --test main clients:: -- --quiet

lint: deps
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --no-deps --lib --document-private-items --quiet

bench: deps
	cargo bench --bench gate --bench json_model --bench ws_frame --bench jwt --bench sessions --bench allocations
	benches/load/run
	KEYGATE_BINARY=$(CURDIR)/target/release/keygate KEYGATE_BODY_MIB=100 cargo test --test main abuse::fifty -- --nocapture

# FUZZ_SECONDS for each target, 30 unless told.
fuzz: deps
	@command -v cargo-fuzz > /dev/null || cargo install --locked cargo-fuzz
	fuzz/run

generated: deps
	UPDATE_GENERATED=1 cargo test --lib --quiet -- the_committed_

deb: build
	packaging/deb/build

# Pingora's zlib-ng needs cmake.
deps:
	@tools/install cmake:cmake cc:build-essential

deps-test: deps
	@tools/install systemd-run:systemd unshare:util-linux ip:iproute2 curl:curl
	@tests/clients/setup
	@tests/browser/setup

clean:
	cargo clean
