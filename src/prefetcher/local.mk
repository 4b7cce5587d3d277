libreelcache_a_SOURCES += \
	src/prefetcher/admin.c src/prefetcher/admin.h \
	src/prefetcher/describe.c src/prefetcher/describe.h \
	src/prefetcher/jobs.c src/prefetcher/jobs.h \
	src/prefetcher/locator.c src/prefetcher/locator.h \
	src/prefetcher/origins.c src/prefetcher/origins.h \
	src/prefetcher/playheads.c src/prefetcher/playheads.h \
	src/prefetcher/plan.c src/prefetcher/plan.h \
	src/prefetcher/prefetcher.c src/prefetcher/prefetcher.h \
	src/prefetcher/query.c src/prefetcher/query.h \
	src/prefetcher/run.c src/prefetcher/run.h \
	src/prefetcher/schedule.c src/prefetcher/schedule.h
