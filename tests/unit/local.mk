# one line a test; those of a module may also stand in the module's fragment
check_PROGRAMS += tests/unit/test_conf
check_PROGRAMS += tests/unit/test_eviction
check_PROGRAMS += tests/unit/test_inbox
check_PROGRAMS += tests/unit/test_log
check_PROGRAMS += tests/unit/test_media
check_PROGRAMS += tests/unit/test_networks
check_PROGRAMS += tests/unit/test_segment
check_PROGRAMS += tests/unit/test_jobs
check_PROGRAMS += tests/unit/test_origins
check_PROGRAMS += tests/unit/test_spanset
EXTRA_DIST += tests/unit/no-cmocka/cmocka.h
check_PROGRAMS += tests/unit/test_worker_query
check_PROGRAMS += tests/unit/test_worker_serve
EXTRA_DIST += tests/unit/worker_rig.h
check_PROGRAMS += tests/unit/test_store
check_PROGRAMS += \
	tests/unit/test_http_cache_control \
	tests/unit/test_http_conditional \
	tests/unit/test_http_date \
	tests/unit/test_http_forwarded \
	tests/unit/test_http_h2_request \
	tests/unit/test_http_head \
	tests/unit/test_http_lobby \
	tests/unit/test_http_proxy_header \
	tests/unit/test_http_range \
	tests/unit/test_http_target \
	tests/unit/test_http_text \
	tests/unit/test_http_tls
check_PROGRAMS += tests/unit/test_table
check_PROGRAMS += tests/unit/test_worker_conn
check_PROGRAMS += \
	tests/unit/test_upstream_address \
	tests/unit/test_upstream_answer \
	tests/unit/test_upstream_request_fields \
	tests/unit/test_upstream_template
check_PROGRAMS += tests/unit/test_upstream_transfer
EXTRA_DIST += tests/unit/upstream_origin.h
check_PROGRAMS += \
	tests/unit/test_worker_choice \
	tests/unit/test_worker_file
check_PROGRAMS += \
	tests/unit/test_worker_locate \
	tests/unit/test_worker_renditions
check_PROGRAMS += \
	tests/unit/test_resolution \
	tests/unit/test_resolver_command \
	tests/unit/test_resolver_directory \
	tests/unit/test_resolver_parse
check_PROGRAMS += \
	tests/unit/test_http_websocket \
	tests/unit/test_worker_control_parse
EXTRA_DIST += tests/unit/websocket_sink.h
