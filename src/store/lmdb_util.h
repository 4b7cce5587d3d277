/*
 * lmdb_util - what every use of LMDB here needs: its codes as errno, and a
 * look at its file before it is mapped.
 *
 * Used by: src/store/index.c and resolution.c only.
 */
#ifndef REELCACHE_STORE_LMDB_UTIL_H
#define REELCACHE_STORE_LMDB_UTIL_H

#include <lmdb.h>

#include "util/base.h"

/* 0 or -errno.  -ENOENT: not found; -ENOSPC: full; -EUCLEAN: damaged, or not
 * one of ours. */
int lmdb_errno(int mdb_rc) MUSTCHECK;

/* LMDB maps the file: one that was cut short would end in SIGBUS.  folder: of
 * the open environment.  -EUCLEAN: it is shorter than it says. */
int lmdb_check_file(MDB_env *env, const char *folder) MUSTCHECK;

#endif
