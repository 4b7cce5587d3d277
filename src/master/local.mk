libreelcache_a_SOURCES += \
	src/master/address.c src/master/address.h \
	src/master/certificates.c src/master/certificates.h \
	src/master/fault.c src/master/fault.h \
	src/master/inherited.c src/master/inherited.h \
	src/master/master.c src/master/master.h \
	src/master/prepare.c src/master/prepare.h \
	src/master/setup.c src/master/setup.h \
	src/master/sockets.c src/master/sockets.h \
	src/master/spawn.c src/master/spawn.h \
	src/master/supervise.c src/master/supervise.h \
	src/master/title.c src/master/title.h
check_PROGRAMS += \
	tests/unit/test_master_run \
	tests/unit/test_master_sockets \
	tests/unit/test_master_supervise
