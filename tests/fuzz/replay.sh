#!/bin/sh
# Gives each fuzz target its corpus, once.
set -u
faults=0 seen=0
for program in ${FUZZ_PROGRAMS:?}; do
	name=${program##*/fuzz_}
	for input in "${REEL_SRCDIR:?}/tests/fuzz/corpus/$name"/*; do
		[ -f "$input" ] || {
			echo "$name has no corpus"
			faults=$((faults + 1))
			continue
		}
		seen=$((seen + 1))
		"${REEL_BUILDDIR:?}/$program" "$input" >replay.out 2>&1 || {
			cat replay.out
			echo "$name fails on $input"
			faults=$((faults + 1))
		}
	done
done
rm -f replay.out
echo "$seen inputs, $faults faults"
[ "$seen" -gt 0 ] && [ "$faults" -eq 0 ]
