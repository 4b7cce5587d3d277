# sources of src/worker/
libreelcache_a_SOURCES += \
	src/worker/access_log.c src/worker/access_log.h \
	src/worker/answer.c src/worker/answer.h \
	src/worker/choice.c src/worker/choice.h \
	src/worker/chunks.c src/worker/controls.h \
	src/worker/control.c src/worker/control.h \
	src/worker/control_parse.c src/worker/control_parse.h \
	src/worker/desk.c src/worker/desk.h \
	src/worker/exchange.c \
	src/worker/file.c src/worker/file.h \
	src/worker/kept.c src/worker/kept.h \
	src/worker/limits.c src/worker/limits.h \
	src/worker/locate.c src/worker/locate.h \
	src/worker/metrics.c src/worker/metrics.h \
	src/worker/plan.c src/worker/plan.h \
	src/worker/renditions.c src/worker/renditions.h \
	src/worker/query.c src/worker/query.h \
	src/worker/resolving.c src/worker/resolving.h \
	src/worker/routes.c src/worker/routes.h \
	src/worker/serve.c src/worker/serve.h \
	src/worker/serve_head.c src/worker/serves.h \
	src/worker/wait.c \
	src/worker/web.c src/worker/web.h \
	src/worker/worker.c src/worker/worker.h
