libreelcache_a_SOURCES += \
	src/conf/conf.c src/conf/conf.h \
	src/conf/option.c src/conf/option.h \
	src/conf/options.def
