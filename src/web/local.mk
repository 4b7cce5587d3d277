# the watch page: [http] web = $(pkgdatadir)/web
webdir = $(pkgdatadir)/web
dist_web_DATA = \
	src/web/icon.svg \
	src/web/index.html \
	src/web/player.js \
	src/web/style.css
