# shellcheck shell=bash
# Shared by the scripts: sourced after `set -eu`, from the repository's root.

say() { printf '%s\n' "$@"; }
warn() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
	warn "$@"
	exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Debian's Python first: scapy, numpy and torch come from its packages, and another python3 on PATH would not see them.
python3_cmd() {
	if [ -x /usr/bin/python3 ]; then
		echo /usr/bin/python3
	else
		command -v python3 || die "no python3: run scripts/setup test"
	fi
}

# build_in DIR [meson options]: configures DIR once, then builds it. Meson reconfigures by itself when a meson.build changes.
# A folder whose configuration was broken off has no build.ninja and is configured again.
# build_targets: what to build of it; empty: everything.
build_targets=
build_in() {
	build_dir=$1
	shift
	if [ ! -f "$build_dir/build.ninja" ]; then
		meson setup "$build_dir" "$@" || return 1
	fi
	# shellcheck disable=SC2086 # no targets: everything
	ninja -C "$build_dir" $build_targets
}
