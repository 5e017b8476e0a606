# The three commands of the README, and a few for developers. They ask for root through sudo where they need it.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
CARGO ?= cargo
# What the virtual rack needs of Debian; a C compiler is for the Rust crate of the cryptography.
PACKAGES := ca-certificates curl dnsmasq-base dosfstools e2fsprogs fdisk gcc iproute2 libc6-dev mmdebstrap mtools nftables openssh-client procps systemd-container xz-utils zstd

.PHONY: up down installer test test-lives test-arm64 lint bench chaos fuzz deps

up: deps
	@SUDO="$(SUDO)" CARGO="$(CARGO)" scripts/up.sh

down:
	@SUDO="$(SUDO)" CARGO="$(CARGO)" scripts/down.sh

test: PACKAGES += binutils cpio python3-minimal qemu-system-x86 snmpd
test: deps
	$(CARGO) test --workspace --no-run
	$(SUDO) env "PATH=$$PATH" "HOME=$$HOME" $(CARGO) test --workspace --no-fail-fast -- --include-ignored --skip lives:: --skip arm64_board

# Lives of clusters, of all distributions, and other long tests: an hour and a half. ROWS= names some.
ROWS ?= lives::
test-lives: PACKAGES += binutils ovmf python3-minimal qemu-system-x86 systemd-boot-efi
test-lives: deps
	$(CARGO) test --workspace --no-run
	$(SUDO) env "PATH=$$PATH" "HOME=$$HOME" $(CARGO) test --workspace --no-fail-fast -- --include-ignored $(ROWS)

# The program that a board without a system boots from the network: make installer ARCH=arm64 for Raspberry Pis.
ARCH ?= $(shell dpkg --print-architecture)
installer: PACKAGES := gcc libc6-dev
installer: deps
	@CARGO="$(CARGO)" scripts/installer.sh $(ARCH)

# Boards with arm64 that boot in QEMU. Making their systems takes half an hour, once.
test-arm64: PACKAGES += arch-test qemu-system-arm qemu-user-static binfmt-support
test-arm64: deps
	$(SUDO) env "PATH=$$PATH" "HOME=$$HOME" $(CARGO) test -p bramble --test racks -- --ignored arm64_board

# Rounds in which something goes wrong at a random moment of a random command: make chaos N=100 SEED=1
N ?= 100
SEED ?= 1
chaos: PACKAGES += faketime python3
chaos: deps
	$(CARGO) build --release --locked
	$(SUDO) env "PATH=$$PATH" python3 scripts/chaos.py --rounds $(N) --seed $(SEED)

lint: PACKAGES := gcc libc6-dev shellcheck
lint: deps
	scripts/lint-shell.sh
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

bench: PACKAGES += bmap-tools python3-venv time
bench: deps
	$(CARGO) build --release --workspace
	$(SUDO) env "PATH=$$PATH" python3 bench/run.py $(PARTS)

deps:
	@missing=$$(dpkg-query -W -f='$${Package} $${db:Status-Abbrev}\n' $(PACKAGES) 2>/dev/null | awk '$$2 == "ii" { print $$1 }' | sort >.deps; \
	for p in $(PACKAGES); do grep -qxF "$$p" .deps || echo "$$p"; done; rm -f .deps); \
	if [ -n "$$missing" ]; then \
		echo "Installing:" $$missing; \
		$(SUDO) apt-get -q update && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $$missing; \
	fi
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: install it with rustup, see https://rustup.rs"; exit 1; }

# Bytes that nothing should have, for each parser: SECONDS for each target, two at a time on two cores. What was found before
# is gone on with (fuzz/target/found). A night's worth: make fuzz SECONDS=1800.
fuzz: PACKAGES := g++ gcc libc6-dev
fuzz: deps
	@CARGO="$(CARGO)" SECONDS="$(SECONDS)" TARGETS="$(TARGETS)" JOBS="$(JOBS)" TIMEOUT="$(TIMEOUT)" scripts/fuzz.sh
