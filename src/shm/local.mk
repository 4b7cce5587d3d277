libreelcache_a_SOURCES += \
	src/shm/segment.c src/shm/segment.h \
	src/shm/stats.def
