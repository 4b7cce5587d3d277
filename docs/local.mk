dist_man_MANS += docs/reelcache.ini.5
dist_man_MANS += docs/reelcache.8 docs/reelcachectl.1
EXTRA_DIST += docs/architecture.md docs/benchmarks.md
EXTRA_DIST += docs/protocol.md
