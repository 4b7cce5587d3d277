libreelcache_a_SOURCES += \
	src/resolver/command.c src/resolver/command.h \
	src/resolver/directory.c src/resolver/directory.h \
	src/resolver/fetch.c src/resolver/fetch.h \
	src/resolver/jobs.c src/resolver/jobs.h \
	src/resolver/parse.c src/resolver/parse.h \
	src/resolver/resolver.c src/resolver/resolver.h
