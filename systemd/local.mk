if INSTALL_UNITS
nodist_systemdsystemunit_DATA = systemd/reelcache.service
dist_systemdsystemunit_DATA = systemd/reelcache.socket
dist_sysusers_DATA = systemd/sysusers.d/reelcache.conf
dist_tmpfiles_DATA = systemd/tmpfiles.d/reelcache.conf
endif
EXTRA_DIST += systemd/reelcache.service.in
CLEANFILES += systemd/reelcache.service

systemd/reelcache.service: systemd/reelcache.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) systemd && \
		$(SUBST) <'$(srcdir)/systemd/reelcache.service.in' >$@.tmp && \
		mv $@.tmp $@
