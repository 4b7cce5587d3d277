libreelcache_a_SOURCES += \
	src/upstream/address.c src/upstream/address.h \
	src/upstream/answer.c src/upstream/answer.h \
	src/upstream/drive.c src/upstream/drive.h \
	src/upstream/request_fields.c src/upstream/request_fields.h \
	src/upstream/template.c src/upstream/template.h \
	src/upstream/transfer.c src/upstream/transfer.h
