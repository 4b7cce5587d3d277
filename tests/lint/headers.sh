#!/bin/sh
# Every header of src/ compiles alone, with the flags of this build, and is
# guarded: a second inclusion changes nothing.
set -u
srcdir=${REEL_SRCDIR:-.}
faults=0 seen=0
scratch=$(mktemp -d) || exit 99
trap 'rm -rf "$scratch"' EXIT
for header in $(cd "$srcdir/src" && find . -name '*.h' | sed 's|^\./||' | sort); do
	seen=$((seen + 1))
	# the second line: an empty file is not a translation unit
	printf '#include "%s"\n#include "%s"\nextern int unused;\n' \
		"$header" "$header" >"$scratch/alone.c"
	# shellcheck disable=SC2086 # both are lists of words
	eval "${CC:-cc} ${REEL_COMPILE:--D_GNU_SOURCE -std=gnu11 -I$srcdir/src}" \
		-Werror -fsyntax-only "$scratch/alone.c" || {
		echo "src/$header does not compile alone"
		faults=$((faults + 1))
	}
done
echo "$seen headers, $faults faults"
[ "$seen" -gt 0 ] && [ "$faults" -eq 0 ]
