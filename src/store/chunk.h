/*
 * chunk - the files that hold bytes: their names, their CRC, their folder.
 *
 * Used by: prefetcher (creates, writes, unlinks), worker (opens).
 * A file RR/RUN-CHUNK (hexadecimal) holds one contiguous piece of one chunk,
 * written by one run; the name is never used twice, and a byte once published
 * is never overwritten: sendfile may still refer to it.
 * Blocking: as disk calls do.  Errors: -errno.
 */
#ifndef REELCACHE_STORE_CHUNK_H
#define REELCACHE_STORE_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/base.h"

/* Opens the folder; with create makes it and its 256 subfolders.  A folder
 * that belongs to somebody else or that others may write is refused with
 * -EPERM.  Returns a descriptor of the folder, the caller's. */
int chunk_folder_open(const char *path, bool create) MUSTCHECK;

/* The scratch folder of the cache at cache_path, below scratch. */
void chunk_scratch_path(char *dst, size_t dst_bytes, const char *scratch,
			const char *cache_path);

int chunk_create(int folder_fd, uint64_t run_no, uint64_t chunk_no) MUSTCHECK;
int chunk_open(int folder_fd, uint64_t run_no, uint64_t chunk_no) MUSTCHECK;
int chunk_unlink(int folder_fd, uint64_t run_no, uint64_t chunk_no);

/* Cuts off what the file holds beyond its first `bytes`: for what was written
 * and never published only. */
int chunk_cut(int folder_fd, uint64_t run_no, uint64_t chunk_no,
	      uint64_t bytes) MUSTCHECK;

/* Bytes in the file, or -errno. */
int64_t chunk_size(int folder_fd, uint64_t run_no, uint64_t chunk_no) MUSTCHECK;

/* crc of more bytes; begin with 0. */
uint32_t chunk_crc(uint32_t crc, const void *bytes, size_t n);

/* Reads the first `bytes` of the file.  -ENODATA when it is shorter. */
int chunk_file_crc(int folder_fd, uint64_t run_no, uint64_t chunk_no,
		   uint64_t bytes, uint32_t *crc) MUSTCHECK;

/* Calls found() for every file that looks like a chunk file.  Unlinks those
 * that it does not want to keep.  One whose name is not as ours are is said
 * to hold 0 bytes. */
int chunk_scan(int folder_fd,
	       bool (*found)(void *ctx, uint64_t run_no, uint64_t chunk_no,
			     uint64_t bytes),
	       void *ctx) MUSTCHECK;

/* Disk space of a file of so many bytes, as far as we count it. */
static inline uint64_t chunk_disk_bytes(uint64_t bytes)
{
	return (bytes + 4095) & ~(uint64_t)4095;
}

#endif
