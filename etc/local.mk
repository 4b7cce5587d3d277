EXTRA_DIST += \
	etc/logrotate \
	etc/packaging/debian/changelog \
	etc/packaging/debian/control \
	etc/packaging/debian/copyright \
	etc/packaging/debian/docs \
	etc/packaging/debian/rules \
	etc/packaging/debian/source/format \
	etc/packaging/debian/tests/control \
	etc/packaging/debian/tests/run \
	etc/packaging/install-deps \
	etc/packaging/rpm/reelcache.spec \
	etc/reelcache.ini

confdir = $(sysconfdir)/reelcache

# a file that is there is the administrator's
install-data-local:
	$(MKDIR_P) '$(DESTDIR)$(confdir)'
	test -e '$(DESTDIR)$(confdir)/reelcache.ini' || \
		$(INSTALL_DATA) '$(srcdir)/etc/reelcache.ini' \
			'$(DESTDIR)$(confdir)/reelcache.ini'

# unless it never was changed
uninstall-local:
	if cmp -s '$(srcdir)/etc/reelcache.ini' \
			'$(DESTDIR)$(confdir)/reelcache.ini'; then \
		rm -f '$(DESTDIR)$(confdir)/reelcache.ini'; \
		rmdir '$(DESTDIR)$(confdir)' 2>/dev/null || :; \
	fi
