reelcachectl_SOURCES += \
	src/ctl/admin.c src/ctl/admin.h \
	src/ctl/field.c src/ctl/field.h \
	src/ctl/reelcachectl.c \
	src/ctl/show.c src/ctl/show.h \
	src/ctl/table.c src/ctl/table.h
