libreelcache_a_SOURCES += \
	src/store/chunk.c src/store/chunk.h \
	src/store/index.c src/store/index.h \
	src/store/layout.c src/store/layout.h \
	src/store/store.h
