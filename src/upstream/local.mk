libreelcache_a_SOURCES += \
	src/upstream/address.c src/upstream/address.h \
	src/upstream/template.c src/upstream/template.h
