libreelcache_a_SOURCES += \
	src/util/base.c src/util/base.h \
	src/util/clock.c src/util/clock.h \
	src/util/log.c src/util/log.h \
	src/util/networks.c src/util/networks.h \
	src/util/quality.c src/util/quality.h \
	src/util/span.h \
	src/util/spanset.c src/util/spanset.h \
	src/util/text_file.c src/util/text_file.h \
	src/util/words.h
