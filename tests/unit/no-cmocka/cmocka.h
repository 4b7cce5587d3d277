/* Found instead of the real one when configure did not see cmocka. */
#error "cmocka is missing: install it (Debian: libcmocka-dev), run configure again"
