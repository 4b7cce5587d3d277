libreelcache_a_SOURCES += \
	src/store/catalog.c src/store/catalog.h \
	src/store/chunk.c src/store/chunk.h \
	src/store/eviction.c src/store/eviction.h \
	src/store/fill.c src/store/fill.h \
	src/store/index.c src/store/index.h \
	src/store/inflight.c src/store/inflight.h \
	src/store/journal.c src/store/journal.h \
	src/store/layout.c src/store/layout.h \
	src/store/resolution.c src/store/resolution.h \
	src/store/lmdb_util.c src/store/lmdb_util.h \
	src/store/readers.c src/store/readers.h \
	src/store/store.c src/store/store.h
