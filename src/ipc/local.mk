libreelcache_a_SOURCES += \
	src/ipc/ask.h \
	src/ipc/child.h \
	src/ipc/inbox.c src/ipc/inbox.h \
	src/ipc/query.h \
	src/ipc/resolve.h
