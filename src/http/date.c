#include "http/date.h"

#include <errno.h>

#define DAY_S       INT64_C(86400)
#define YEAR_0_S    INT64_C(-62167219200)
#define YEAR_9999_S INT64_C(253402300799)

static const char month_names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
static const char day_names[] = "SunMonTueWedThuFriSat";
static const char *const long_day_names[] = {
	"Sunday",   "Monday", "Tuesday",  "Wednesday",
	"Thursday", "Friday", "Saturday",
};

struct civil {
	int64_t year;
	int month; /* 1 to 12 */
	int day;
	int hour;
	int minute;
	int second;
};

/*
 * Days since 1970-01-01 and back, in the Gregorian calendar.  Years begin in
 * March here, so that the leap day is the last one of its year; an era is
 * the 400 years (146097 days) after which the calendar repeats.  1970-01-01
 * is day 719468 counted from 0000-03-01.
 */
static int64_t days_of(int64_t year, int month, int day)
{
	int64_t y = year - (month <= 2);
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t year_of_era = y - era * 400;
	int64_t day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
	int64_t day_of_era = year_of_era * 365 + year_of_era / 4 -
			     year_of_era / 100 + day_of_year;

	return era * 146097 + day_of_era - 719468;
}

static void civil_of(int64_t days, struct civil *c)
{
	int64_t d = days + 719468;
	int64_t era = (d >= 0 ? d : d - 146096) / 146097;
	int64_t day_of_era = d - era * 146097;
	int64_t year_of_era = (day_of_era - day_of_era / 1460 +
			       day_of_era / 36524 - day_of_era / 146096) /
			      365;
	int64_t day_of_year =
		day_of_era -
		(365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t month = (5 * day_of_year + 2) / 153; /* 0 = March */

	c->day = (int)(day_of_year - (153 * month + 2) / 5 + 1);
	c->month = (int)(month < 10 ? month + 3 : month - 9);
	c->year = year_of_era + era * 400 + (c->month <= 2);
}

static void put_two(char *dst, int value)
{
	dst[0] = (char)('0' + value / 10);
	dst[1] = (char)('0' + value % 10);
}

void date_format(char dst[DATE_BYTES + 1], int64_t wall_s)
{
	struct civil c;
	int64_t days;
	int64_t second;
	int64_t weekday;

	if (wall_s < YEAR_0_S)
		wall_s = YEAR_0_S;
	if (wall_s > YEAR_9999_S)
		wall_s = YEAR_9999_S;
	days = wall_s / DAY_S - (wall_s % DAY_S < 0);
	second = wall_s - days * DAY_S;
	weekday = ((days + 4) % 7 + 7) % 7;
	civil_of(days, &c);
	memcpy(dst, "Sun, 06 Nov 1994 08:49:37 GMT", DATE_BYTES + 1);
	memcpy(dst, day_names + 3 * weekday, 3);
	put_two(dst + 5, c.day);
	memcpy(dst + 8, month_names + 3 * (c.month - 1), 3);
	put_two(dst + 12, (int)(c.year / 100));
	put_two(dst + 14, (int)(c.year % 100));
	put_two(dst + 17, (int)(second / 3600));
	put_two(dst + 20, (int)(second / 60 % 60));
	put_two(dst + 23, (int)(second % 60));
}

static bool is_leap(int64_t year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int month_days(int64_t year, int month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30,
				    31, 31, 30, 31, 30, 31 };

	return month == 2 && is_leap(year) ? 29 : days[month - 1];
}

/* A second of 60 is taken for the second after it. */
static int civil_to_wall(const struct civil *c, int64_t *wall_s)
{
	if (c->day < 1 || c->day > month_days(c->year, c->month) ||
	    c->hour > 23 || c->minute > 59 || c->second > 60)
		return -EINVAL;
	*wall_s = days_of(c->year, c->month, c->day) * DAY_S + c->hour * 3600 +
		  c->minute * 60 + c->second;
	return 0;
}

/* Reads the text from left to right; the first misfit sticks. */
struct reader {
	const char *at;
	const char *end;
	bool bad;
};

static void read_literal(struct reader *r, const char *literal)
{
	size_t n = strlen(literal);

	if (r->bad || (size_t)(r->end - r->at) < n ||
	    memcmp(r->at, literal, n) != 0) {
		r->bad = true;
		return;
	}
	r->at += n;
}

static int read_digits(struct reader *r, int count)
{
	int value = 0;

	for (int i = 0; i < count; i++) {
		if (r->bad || r->at == r->end || *r->at < '0' || *r->at > '9') {
			r->bad = true;
			return 0;
		}
		value = value * 10 + (*r->at++ - '0');
	}
	return value;
}

/* One of the names of three letters; 1 is the first. */
static int read_name(struct reader *r, const char *names)
{
	if (!r->bad && r->end - r->at >= 3) {
		for (int i = 0; names[3 * i] != '\0'; i++) {
			if (memcmp(r->at, names + 3 * i, 3) == 0) {
				r->at += 3;
				return i + 1;
			}
		}
	}
	r->bad = true;
	return 1;
}

static void read_time(struct reader *r, struct civil *c)
{
	c->hour = read_digits(r, 2);
	read_literal(r, ":");
	c->minute = read_digits(r, 2);
	read_literal(r, ":");
	c->second = read_digits(r, 2);
}

/* ", 06 Nov 1994 08:49:37 GMT" */
static void read_imf(struct reader *r, struct civil *c)
{
	read_literal(r, ", ");
	c->day = read_digits(r, 2);
	read_literal(r, " ");
	c->month = read_name(r, month_names);
	read_literal(r, " ");
	c->year = read_digits(r, 4);
	read_literal(r, " ");
	read_time(r, c);
	read_literal(r, " GMT");
}

/* " Nov  6 08:49:37 1994" */
static void read_asctime(struct reader *r, struct civil *c)
{
	read_literal(r, " ");
	c->month = read_name(r, month_names);
	read_literal(r, " ");
	if (!r->bad && r->at < r->end && *r->at == ' ') {
		r->at++;
		c->day = read_digits(r, 1);
	} else {
		c->day = read_digits(r, 2);
	}
	read_literal(r, " ");
	read_time(r, c);
	read_literal(r, " ");
	c->year = read_digits(r, 4);
}

/* ", 06-Nov-94 08:49:37 GMT"; the year becomes the latest one with these
 * digits that is not more than 50 years ahead (RFC 9110 section 5.6.7). */
static void read_rfc850(struct reader *r, struct civil *c, int64_t now_s)
{
	struct civil now;

	civil_of(now_s / DAY_S - (now_s % DAY_S < 0), &now);
	read_literal(r, ", ");
	c->day = read_digits(r, 2);
	read_literal(r, "-");
	c->month = read_name(r, month_names);
	read_literal(r, "-");
	c->year = now.year - now.year % 100 + 100 + read_digits(r, 2);
	while (c->year > now.year + 50)
		c->year -= 100;
	read_literal(r, " ");
	read_time(r, c);
	read_literal(r, " GMT");
}

static bool read_long_day(struct reader *r)
{
	for (size_t i = 0; i < ARRAY_LEN(long_day_names); i++) {
		size_t n = strlen(long_day_names[i]);

		if ((size_t)(r->end - r->at) >= n &&
		    memcmp(r->at, long_day_names[i], n) == 0) {
			r->at += n;
			return true;
		}
	}
	return false;
}

int date_parse(struct slice text, int64_t now_s, int64_t *wall_s)
{
	struct civil c = { 0 };
	struct reader r;

	if (text.bytes == 0)
		return -EINVAL; /* text.at may be NULL */
	r = (struct reader){ .at = text.at, .end = text.at + text.bytes };
	if (read_long_day(&r)) {
		read_rfc850(&r, &c, now_s);
	} else {
		read_name(&r, day_names);
		if (!r.bad && r.at < r.end && *r.at == ',')
			read_imf(&r, &c);
		else
			read_asctime(&r, &c);
	}
	if (r.bad || r.at != r.end)
		return -EINVAL;
	return civil_to_wall(&c, wall_s);
}
