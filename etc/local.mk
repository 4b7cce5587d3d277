EXTRA_DIST += etc/reelcache.ini
