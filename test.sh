#!/usr/bin/env bash
# Runs every test of the workspace; ends non-zero when one fails or what they need cannot be had.
# Arguments go to the runner: `./test.sh -p rf-queue`, `./test.sh crash`.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
# shellcheck source=.ci/tools.sh
source .ci/tools.sh

if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust 1.95 or newer, see https://rustup.rs" >&2
    exit 1
fi

# install PACKAGES..: Debian's packages, without starting the services that some of them bring.
install() (
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
)

# What is needed beside Rust: a C compiler with the C library's headers (SQLite and zstd are built
# from source), curl (the end-to-end tests talk to the program as a user would), and the servers that
# the program works with; the tests start them themselves, on ports of their own.
packages=()
if ! command -v cc >/dev/null; then
    packages+=(gcc libc6-dev)
elif ! echo '#include <stdlib.h>' | cc -E -x c - >/dev/null 2>&1; then
    packages+=(libc6-dev)
fi
if ! command -v curl >/dev/null; then
    packages+=(curl ca-certificates)
fi
# A browser and its driver: tests look at pages as a person does.
command -v chromium >/dev/null || packages+=(chromium)
command -v chromedriver >/dev/null || packages+=(chromium-driver)
# Debian keeps the server's programs outside of the PATH.
if ! command -v psql >/dev/null || ! PATH=$PATH$(printf ':%s' /usr/lib/postgresql/*/bin) command -v initdb >/dev/null; then
    packages+=(postgresql)
fi
# A real mail server, for the notifications.
if ! /usr/bin/python3 -c 'import aiosmtpd' 2>/dev/null; then
    packages+=(python3 python3-aiosmtpd)
fi
# Shows that what is answered has been synced.
command -v strace >/dev/null || packages+=(strace)
# Prometheus scrapes the relay, and its promtool checks what it finds there.
command -v prometheus >/dev/null || packages+=(prometheus)
# Web servers that send copies of their traffic.
for server in nginx haproxy caddy; do
    PATH=$PATH:/usr/sbin command -v "$server" >/dev/null || packages+=("$server")
done
# Envoy is installed by Python, into a folder of its own.
/usr/bin/python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
if ((${#packages[@]})); then
    if ((EUID == 0)) && command -v apt-get >/dev/null; then
        echo "installing ${packages[*]}"
        install "${packages[@]}"
    else
        echo "these packages are missing; as root: apt-get install ${packages[*]}" >&2
        echo "(on another system: the packages that bring a C compiler with headers, curl, and the servers)" >&2
        exit 1
    fi
fi

ensure_envoy .ci/envoy.txt

if ensure_cargo_tool nextest; then
    exec cargo nextest run --workspace --profile ci "$@"
fi

# Without nextest nothing keeps the crash tests apart from each other, so tests run one at a time.
echo "cargo-nextest could not be installed: running 'cargo test', one test at a time, which is slower" >&2
RUST_TEST_THREADS=1 exec cargo test --workspace --no-fail-fast "$@"
