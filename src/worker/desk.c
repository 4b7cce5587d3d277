#include "worker/desk.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "http/date.h"
#include "http/fields.h"
#include "util/clock.h"

int desk_init_common(struct desk *desk)
{
	struct fields f;

	fields_init(&f, desk->common, sizeof(desk->common));
	FIELDS_LITERAL(&f, "Server: reelcache\r\n");
	if (*desk->conf->http.cors_origin != '\0') {
		FIELDS_ADD(&f, "Access-Control-Allow-Origin",
			   slice_of(desk->conf->http.cors_origin));
		FIELDS_ADD(&f, "Timing-Allow-Origin",
			   slice_of(desk->conf->http.cors_origin));
		FIELDS_LITERAL(&f, "Access-Control-Expose-Headers: "
				   "Content-Range, Content-Length, "
				   "Accept-Ranges, ETag, Age, Cache-Status, "
				   "Reelcache-Quality\r\n");
	}
	if (desk->conf->main.debug_headers)
		FIELDS_ADD_U64(&f, "X-Worker", (uint64_t)getpid());
	desk->common_bytes = (size_t)(f.at - f.dst);
	return f.error;
}

int64_t desk_wall_s(struct desk *desk)
{
	uint64_t now_us = desk_now_us(desk);

	if (desk->wall_at_us != now_us) {
		desk->wall_at_us = now_us;
		desk->wall_s = clock_wall_s();
	}
	return desk->wall_s;
}

const char *desk_date(struct desk *desk, int64_t wall_s)
{
	if (desk->date_s != wall_s || desk->date[0] == '\0') {
		desk->date_s = wall_s;
		date_format(desk->date, wall_s);
	}
	return desk->date;
}
