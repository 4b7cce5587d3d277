#include "store/chunk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_BYTES 64
#define CRC_BUFFER (256 * 1024)
#define SUBFOLDERS 256

static void make_name(char name[NAME_BYTES], uint64_t run_no, uint64_t chunk_no)
{
	snprintf(name, NAME_BYTES, "%02x/%016llx-%llx",
		 (unsigned)((run_no + chunk_no) % SUBFOLDERS),
		 (unsigned long long)run_no, (unsigned long long)chunk_no);
}

static int make_folders(const char *path)
{
	char name[8];
	int fd;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (unsigned n = 0; n < SUBFOLDERS; n++) {
		snprintf(name, sizeof(name), "%02x", n);
		if (mkdirat(fd, name, 0700) < 0 && errno != EEXIST) {
			int rc = -errno;

			close(fd);
			return rc;
		}
	}
	close(fd);
	return 0;
}

int chunk_folder_open(const char *path, bool create)
{
	struct stat st;
	int fd, rc = create ? make_folders(path) : 0;

	if (rc < 0)
		return rc;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || st.st_uid != geteuid() ||
	    (st.st_mode & 022) != 0) {
		close(fd);
		return -EPERM;
	}
	return fd;
}

void chunk_scratch_path(char *dst, size_t dst_bytes, const char *scratch,
			const char *cache_path)
{
	uint64_t hash = 14695981039346656037u; /* FNV-1a */

	for (const char *c = cache_path; *c != '\0'; c++)
		hash = (hash ^ (uint8_t)*c) * 1099511628211u;
	snprintf(dst, dst_bytes, "%s/reelcache-%016llx", scratch,
		 (unsigned long long)hash);
}

int chunk_create(int folder_fd, uint64_t run_no, uint64_t chunk_no)
{
	char name[NAME_BYTES];
	int fd;

	make_name(name, run_no, chunk_no);
	fd = openat(folder_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
		    0600);
	return fd < 0 ? -errno : fd;
}

int chunk_open(int folder_fd, uint64_t run_no, uint64_t chunk_no)
{
	char name[NAME_BYTES];
	int fd;

	make_name(name, run_no, chunk_no);
	/* the owner alone may ask that reading leaves no trace; that is us */
	fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOATIME);
	if (fd < 0 && errno == EPERM)
		fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int chunk_unlink(int folder_fd, uint64_t run_no, uint64_t chunk_no)
{
	char name[NAME_BYTES];

	make_name(name, run_no, chunk_no);
	return unlinkat(folder_fd, name, 0) < 0 ? -errno : 0;
}

int chunk_cut(int folder_fd, uint64_t run_no, uint64_t chunk_no, uint64_t bytes)
{
	char name[NAME_BYTES];
	int fd, rc;

	make_name(name, run_no, chunk_no);
	fd = openat(folder_fd, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

int64_t chunk_size(int folder_fd, uint64_t run_no, uint64_t chunk_no)
{
	char name[NAME_BYTES];
	struct stat st;

	make_name(name, run_no, chunk_no);
	if (fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return st.st_size;
}

uint32_t chunk_crc(uint32_t crc, const void *bytes, size_t n)
{
	return libdeflate_crc32(crc, bytes, n);
}

int chunk_file_crc(int folder_fd, uint64_t run_no, uint64_t chunk_no,
		   uint64_t bytes, uint32_t *crc)
{
	int fd = chunk_open(folder_fd, run_no, chunk_no);
	uint8_t *buffer;
	uint64_t done = 0;
	int rc = 0;

	if (fd < 0)
		return fd;
	buffer = malloc(CRC_BUFFER);
	if (buffer == NULL) {
		close(fd);
		return -ENOMEM;
	}
	*crc = 0;
	while (done < bytes) {
		ssize_t n = pread(fd, buffer, min_u64(CRC_BUFFER, bytes - done),
				  (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			rc = n < 0 ? -errno : -ENODATA;
			break;
		}
		*crc = chunk_crc(*crc, buffer, (size_t)n);
		done += (uint64_t)n;
	}
	free(buffer);
	close(fd);
	return rc;
}

static void scan_subfolder(DIR *dir, unsigned folder,
			   bool (*found)(void *ctx, uint64_t run_no,
					 uint64_t chunk_no, uint64_t bytes),
			   void *ctx)
{
	struct dirent *entry;

	while ((entry = readdir(dir)) != NULL) {
		unsigned long long run_no, chunk_no;
		char here[NAME_BYTES + sizeof(entry->d_name)];
		char name[NAME_BYTES];
		struct stat st;
		int end = 0;

		if (sscanf(entry->d_name, "%16llx-%16llx%n", &run_no, &chunk_no,
			   &end) != 2 ||
		    entry->d_name[end] != '\0' ||
		    fstatat(dirfd(dir), entry->d_name, &st,
			    AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		make_name(name, run_no, chunk_no);
		snprintf(here, sizeof(here), "%02x/%s", folder, entry->d_name);
		if (!found(ctx, run_no, chunk_no,
			   strcmp(name, here) == 0 ? (uint64_t)st.st_size : 0))
			(void)unlinkat(dirfd(dir), entry->d_name, 0);
	}
}

int chunk_scan(int folder_fd,
	       bool (*found)(void *ctx, uint64_t run_no, uint64_t chunk_no,
			     uint64_t bytes),
	       void *ctx)
{
	char name[8];

	for (unsigned n = 0; n < SUBFOLDERS; n++) {
		DIR *dir;
		int fd;

		snprintf(name, sizeof(name), "%02x", n);
		fd = openat(folder_fd, name,
			    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		dir = fdopendir(fd);
		if (dir == NULL) {
			int rc = -errno;

			close(fd);
			return rc;
		}
		scan_subfolder(dir, n, found, ctx);
		closedir(dir);
	}
	return 0;
}
