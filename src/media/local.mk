libreelcache_a_SOURCES += \
	src/media/media.c src/media/media.h \
	src/media/media_inner.h \
	src/media/mp4.c src/media/mp4.h \
	src/media/webm.c src/media/webm.h
