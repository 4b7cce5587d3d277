# for tests/run/test_media.py
noinst_PROGRAMS += tests/media/map_dump
tests_media_map_dump_LDADD = libreelcache.a $(all_libs)
