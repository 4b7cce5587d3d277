dist_man_MANS += docs/reelcache.ini.5
EXTRA_DIST += docs/architecture.md
