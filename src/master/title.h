/*
 * title - the name of a process in ps, top and pgrep.
 *
 * Used by: main (title_init), children of the master.  Never fails: where
 * there is no room the name is cut.
 */
#ifndef REELCACHE_MASTER_TITLE_H
#define REELCACHE_MASTER_TITLE_H

/* Remembers where the kernel looks for the command line.  Without it only
 * the short name (15 characters) is changed. */
void title_init(int argc, char **argv);

/* Overwrites the words of argv: copy what is still needed of them first.
 * short_name is for PR_SET_NAME, long_name for the command line. */
void title_set(const char *short_name, const char *long_name);

#endif
