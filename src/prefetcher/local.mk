libreelcache_a_SOURCES += \
	src/prefetcher/admin.c src/prefetcher/admin.h \
	src/prefetcher/describe.c src/prefetcher/describe.h \
	src/prefetcher/plan.c src/prefetcher/plan.h \
	src/prefetcher/prefetcher.c src/prefetcher/prefetcher.h \
	src/prefetcher/run.c src/prefetcher/run.h
