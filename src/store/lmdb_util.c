#include "store/lmdb_util.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

int lmdb_errno(int mdb_rc)
{
	switch (mdb_rc) {
	case MDB_SUCCESS:
		return 0;
	case MDB_NOTFOUND:
		return -ENOENT; /* ordinary: not logged */
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
		return -ENOSPC; /* the caller evicts or goes on without */
	case MDB_CORRUPTED:
	case MDB_VERSION_MISMATCH:
	case MDB_INVALID:
	case MDB_PAGE_NOTFOUND:
	case MDB_PANIC:
	case MDB_INCOMPATIBLE:
		return -EUCLEAN; /* the caller starts an empty one */
	default:
		return mdb_rc > 0 ? -mdb_rc : -EIO;
	}
}

int lmdb_check_file(MDB_env *env, const char *folder)
{
	char name[4300];
	MDB_envinfo info;
	MDB_stat sizes;
	struct stat st;

	snprintf(name, sizeof(name), "%s/data.mdb", folder);
	if (mdb_env_info(env, &info) != 0 || mdb_env_stat(env, &sizes) != 0 ||
	    stat(name, &st) < 0)
		return -EIO;
	if (info.me_last_txnid != 0 &&
	    (uint64_t)st.st_size <
		    (uint64_t)(info.me_last_pgno + 1) * sizes.ms_psize)
		return -EUCLEAN;
	return 0;
}
