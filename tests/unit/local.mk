# one line a test; those of a module may also stand in the module's fragment
check_PROGRAMS += tests/unit/test_conf
EXTRA_DIST += tests/unit/no-cmocka/cmocka.h
