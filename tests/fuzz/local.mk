# A fuzz target NAME is tests/fuzz/fuzz_NAME.c with LLVMFuzzerTestOneInput(),
# and its corpus tests/fuzz/corpus/NAME/.  `make check' replays every corpus;
# after ./configure --enable-fuzzing CC=clang the targets fuzz:
#	tests/fuzz/fuzz_NAME SCRATCH_FOLDER ../tests/fuzz/corpus/NAME
# Three lines and the corpus below make a new one.

fuzz_programs =
fuzz_corpora =

if ENABLE_FUZZING
fuzz_main =
fuzz_ldflags = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_DATA = $(fuzz_programs)
else
fuzz_main = tests/fuzz/replay.c
fuzz_ldflags = $(AM_LDFLAGS)
endif

fuzz_programs += tests/fuzz/fuzz_conf
tests_fuzz_fuzz_conf_SOURCES = tests/fuzz/fuzz_conf.c $(fuzz_main)
tests_fuzz_fuzz_conf_LDFLAGS = $(fuzz_ldflags)
fuzz_corpora += tests/fuzz/corpus/conf

fuzz_programs += tests/fuzz/fuzz_head
tests_fuzz_fuzz_head_SOURCES = tests/fuzz/fuzz_head.c $(fuzz_main)
tests_fuzz_fuzz_head_LDFLAGS = $(fuzz_ldflags)
fuzz_corpora += tests/fuzz/corpus/head

fuzz_programs += tests/fuzz/fuzz_range
tests_fuzz_fuzz_range_SOURCES = tests/fuzz/fuzz_range.c $(fuzz_main)
tests_fuzz_fuzz_range_LDFLAGS = $(fuzz_ldflags)
fuzz_corpora += tests/fuzz/corpus/range

fuzz_programs += tests/fuzz/fuzz_cache_control
tests_fuzz_fuzz_cache_control_SOURCES = tests/fuzz/fuzz_cache_control.c $(fuzz_main)
tests_fuzz_fuzz_cache_control_LDFLAGS = $(fuzz_ldflags)
fuzz_corpora += tests/fuzz/corpus/cache_control

fuzz_programs += tests/fuzz/fuzz_media
tests_fuzz_fuzz_media_SOURCES = tests/fuzz/fuzz_media.c $(fuzz_main)
tests_fuzz_fuzz_media_LDFLAGS = $(fuzz_ldflags)
fuzz_corpora += tests/fuzz/corpus/media

fuzz_programs += tests/fuzz/fuzz_resolution
tests_fuzz_fuzz_resolution_SOURCES = tests/fuzz/fuzz_resolution.c $(fuzz_main)
tests_fuzz_fuzz_resolution_LDFLAGS = $(fuzz_ldflags)
fuzz_corpora += tests/fuzz/corpus/resolution

fuzz_programs += tests/fuzz/fuzz_forwarded
tests_fuzz_fuzz_forwarded_SOURCES = tests/fuzz/fuzz_forwarded.c $(fuzz_main)
tests_fuzz_fuzz_forwarded_LDFLAGS = $(fuzz_ldflags)
fuzz_corpora += tests/fuzz/corpus/forwarded

fuzz_programs += tests/fuzz/fuzz_proxy_header
tests_fuzz_fuzz_proxy_header_SOURCES = tests/fuzz/fuzz_proxy_header.c $(fuzz_main)
tests_fuzz_fuzz_proxy_header_LDFLAGS = $(fuzz_ldflags)
fuzz_corpora += tests/fuzz/corpus/proxy_header

fuzz_programs += tests/fuzz/fuzz_websocket
tests_fuzz_fuzz_websocket_SOURCES = tests/fuzz/fuzz_websocket.c $(fuzz_main)
tests_fuzz_fuzz_websocket_LDFLAGS = $(fuzz_ldflags)
fuzz_corpora += tests/fuzz/corpus/websocket

fuzz_programs += tests/fuzz/fuzz_h2
tests_fuzz_fuzz_h2_SOURCES = tests/fuzz/fuzz_h2.c $(fuzz_main)
tests_fuzz_fuzz_h2_LDFLAGS = $(fuzz_ldflags)
fuzz_corpora += tests/fuzz/corpus/h2

EXTRA_PROGRAMS = $(fuzz_programs)
CLEANFILES += $(fuzz_programs)
check_DATA = $(fuzz_programs)
lint_tests += tests/fuzz/replay.sh
EXTRA_DIST += tests/fuzz/replay.c tests/fuzz/replay.sh $(fuzz_corpora)
