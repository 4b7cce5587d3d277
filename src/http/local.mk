# sources of src/http/
libreelcache_a_SOURCES += \
	src/http/conn.c src/http/conn.h \
	src/http/conn_inner.h src/http/conn_send.c \
	src/http/h2.c src/http/h2.h \
	src/http/h2_inner.h src/http/h2_request.c src/http/h2_stream.c \
	src/http/sink.h \
	src/http/tls.c src/http/tls.h \
	src/http/tls_kernel.c src/http/tls_kernel.h \
	src/http/websocket.c src/http/websocket.h \
	src/http/wire.c src/http/wire.h
libreelcache_a_SOURCES += \
	src/http/base64.c src/http/base64.h \
	src/http/cache_control.c src/http/cache_control.h \
	src/http/cache_status.c src/http/cache_status.h \
	src/http/conditional.c src/http/conditional.h \
	src/http/date.c src/http/date.h \
	src/http/etag.c src/http/etag.h \
	src/http/fields.c src/http/fields.h \
	src/http/forwarded.c src/http/forwarded.h \
	src/http/head.c src/http/head.h \
	src/http/json.c src/http/json.h \
	src/http/lobby.c src/http/lobby.h \
	src/http/problem.c src/http/problem.h \
	src/http/proxy_header.c src/http/proxy_header.h \
	src/http/range.c src/http/range.h \
	src/http/slice.c src/http/slice.h \
	src/http/status.c src/http/status.h \
	src/http/target.c src/http/target.h
