# Sourced by .ci/run and test.sh: cargo's own tools, installed when they are missing.

# ensure_cargo_tool NAME [INSTALL-FLAGS..]: makes `cargo NAME` work, or returns non-zero.
ensure_cargo_tool() {
    local name=$1 cargo_home=${CARGO_HOME:-$HOME/.cargo} root
    shift
    if [[ -w $cargo_home && (! -e $cargo_home/bin || -w $cargo_home/bin) ]]; then
        root=$cargo_home
    else
        root=${XDG_CACHE_HOME:-$HOME/.cache}/replayforge-tools
    fi
    PATH=$PATH:$root/bin
    if command -v "cargo-$name" >/dev/null; then
        return 0
    fi
    echo "cargo-$name is missing: building it once into $root (this takes some minutes)"
    cargo install "cargo-$name" --locked --root "$root" "$@"
}
