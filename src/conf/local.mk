libreelcache_a_SOURCES += \
	src/conf/options.def
