# sources of src/http/
libreelcache_a_SOURCES += \
	src/http/conn.c src/http/conn.h \
	src/http/sink.h
