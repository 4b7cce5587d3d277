#include "master/prepare.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "conf/conf.h"
#include "master/address.h"
#include "master/certificates.h"
#include "master/sockets.h"
#include "util/log.h"

/* Descriptors of a worker that are no client's: chunk files, index, logs,
 * listening sockets, inboxes. */
#define OTHER_DESCRIPTORS 2048u

#define PATH_BYTES 4096u

/* user is not empty; group may be: then it is the user's own. */
static int find_identity(const char *section, const char *user,
			 const char *group, struct identity *who,
			 struct fault *fault)
{
	const struct passwd *pw = getpwnam(user);
	const struct group *gr = NULL;

	if (pw == NULL)
		return fault_set(fault, -ENOENT, EXIT_CONFIG,
				 "[%s] user = %s: no such user", section, user);
	if (group[0] != '\0')
		gr = getgrnam(group);
	if (group[0] != '\0' && gr == NULL)
		return fault_set(fault, -ENOENT, EXIT_CONFIG,
				 "[%s] group = %s: no such group", section,
				 group);
	if (geteuid() != 0)
		return 0; /* only root can become somebody else */
	who->change = true;
	who->uid = pw->pw_uid;
	who->gid = gr != NULL ? gr->gr_gid : pw->pw_gid;
	(void)snprintf(who->user, sizeof(who->user), "%s", user);
	return 0;
}

int prepare_identity(const struct conf *conf, struct identity *who,
		     struct fault *fault)
{
	const char *user = conf->main.user;
	const char *group = conf->main.group;

	memset(who, 0, sizeof(*who));
	who->uid = geteuid();
	who->gid = getegid();
	if (user[0] == '\0' && group[0] != '\0')
		return fault_set(fault, -EINVAL, EXIT_CONFIG,
				 "[main] group = %s: needs [main] user too",
				 group);
	if (user[0] == '\0')
		return 0;
	return find_identity("main", user, group, who, fault);
}

int prepare_resolver_identity(const struct conf *conf,
			      const struct identity *who,
			      struct identity *resolver, struct fault *fault)
{
	const char *user = conf->resolver.user;
	const char *group = conf->resolver.group;
	int rc;

	*resolver = *who;
	if (user[0] == '\0' && group[0] != '\0')
		return fault_set(
			fault, -EINVAL, EXIT_CONFIG,
			"[resolver] group = %s: needs [resolver] user too",
			group);
	if (user[0] == '\0')
		return 0;
	rc = find_identity("resolver", user, group, resolver, fault);
	if (rc == 0 && group[0] == '\0')
		resolver->gid = who->gid;
	return rc;
}

int prepare_drop_privileges(const struct identity *who)
{
	uid_t ruid, euid, suid;
	gid_t rgid, egid, sgid;

	if (!who->change)
		return 0;
	if (initgroups(who->user, who->gid) < 0 ||
	    setresgid(who->gid, who->gid, who->gid) < 0 ||
	    setresuid(who->uid, who->uid, who->uid) < 0)
		return -errno;
	if (getresuid(&ruid, &euid, &suid) < 0 ||
	    getresgid(&rgid, &egid, &sgid) < 0)
		return -errno;
	if (ruid != who->uid || euid != who->uid || suid != who->uid ||
	    rgid != who->gid || egid != who->gid || sgid != who->gid)
		return -EPERM;
	if (who->uid != 0 && setuid(0) == 0)
		return -EPERM;
	return 0;
}

/* Makes every missing folder of path.  A new last one belongs to `who`. */
static int make_folders(const char *path, mode_t mode,
			const struct identity *who)
{
	char part[PATH_BYTES];
	size_t n = strlen(path);

	if (n == 0 || n >= sizeof(part))
		return -ENAMETOOLONG;
	memcpy(part, path, n + 1);
	while (n > 1 && part[n - 1] == '/')
		part[--n] = '\0';
	for (char *slash = strchr(part + 1, '/'); slash != NULL;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	if (mkdir(part, mode) < 0)
		return errno == EEXIST ? 0 : -errno;
	if (who->change && lchown(part, who->uid, who->gid) < 0)
		return -errno;
	return 0;
}

static int parent_of(const char *path, char parent[PATH_BYTES])
{
	const char *slash = strrchr(path, '/');
	size_t n = slash != NULL ? (size_t)(slash - path) : 0;

	if (slash == NULL)
		return snprintf(parent, PATH_BYTES, ".") < 0 ? -EINVAL : 0;
	if (n >= PATH_BYTES)
		return -ENAMETOOLONG;
	if (n == 0)
		n = 1; /* the root itself */
	memcpy(parent, path, n);
	parent[n] = '\0';
	return 0;
}

static int lock_within(int fd, uint64_t wait_ms)
{
	const uint64_t step_ms = 50;
	bool told = false;

	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (wait_ms == 0)
			return -EBUSY;
		if (!told)
			log_info("ev=cache_busy reason=\"waiting for the "
				 "instance that has it\"");
		told = true;
		(void)poll(NULL, 0, (int)min_u64(step_ms, wait_ms));
		wait_ms -= min_u64(step_ms, wait_ms);
	}
	return 0;
}

int prepare_cache(const struct conf *conf, const struct identity *who,
		  uint64_t wait_ms, int *lock_fd, struct fault *fault)
{
	const char *path = conf->cache.path;
	struct stat st;
	int fd = -1;
	int rc = make_folders(path, 0750, who);

	if (rc == 0) {
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0)
			rc = -errno;
	}
	if (rc == 0)
		rc = lock_within(fd, wait_ms);
	if (rc == 0 && who->change && st.st_uid != who->uid &&
	    fchown(fd, who->uid, who->gid) < 0)
		rc = -errno;
	if (rc == 0 && !who->change && access(path, R_OK | W_OK | X_OK) < 0)
		rc = -errno;
	if (rc < 0) {
		if (fd >= 0)
			close(fd);
		return fault_set(fault, rc, EXIT_FAILURE,
				 "[cache] path = %s: %s", path,
				 rc == -EBUSY ? "another instance uses it"
					      : strerror(-rc));
	}
	*lock_fd = fd;
	return 0;
}

int prepare_resolved(const struct conf *conf, const struct identity *resolver,
		     struct fault *fault)
{
	char path[PATH_BYTES];
	int n = snprintf(path, sizeof(path), "%s/resolved", conf->cache.path);
	struct stat st;
	int fd = -1, rc = 0;

	if (n < 0 || (size_t)n >= sizeof(path))
		rc = -ENAMETOOLONG;
	if (rc == 0 && mkdir(path, 0770) < 0 && errno != EEXIST)
		rc = -errno;
	if (rc == 0) {
		fd = open(path,
			  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0)
			rc = -errno;
	}
	if (rc == 0 && resolver->change &&
	    ((st.st_uid != resolver->uid || st.st_gid != resolver->gid) &&
	     fchown(fd, resolver->uid, resolver->gid) < 0))
		rc = -errno;
	/* new files in it belong to its group, whoever makes them */
	if (rc == 0 && resolver->change && fchmod(fd, 02770) < 0)
		rc = -errno;
	if (fd >= 0)
		close(fd);
	if (rc < 0)
		return fault_set(fault, rc, EXIT_FAILURE,
				 "[cache] path = %s: resolved: %s",
				 conf->cache.path, strerror(-rc));
	return 0;
}

static int make_log(const char *option, const char *path,
		    const struct identity *who, struct fault *fault)
{
	const int flags =
		O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	int rc = 0;
	int fd;

	if (path[0] == '\0')
		return 0;
	/* only a file that is new for sure is given away: a link put there
	 * by the user must not make a file of root's his own */
	fd = open(path, flags | O_CREAT | O_EXCL, 0640);
	if (fd >= 0) {
		if (who->change && fchown(fd, who->uid, who->gid) < 0)
			rc = -errno;
	} else if (errno == EEXIST) {
		fd = open(path, flags);
	}
	if (fd < 0)
		rc = -errno;
	else
		close(fd);
	if (rc < 0)
		return fault_set(fault, rc, EXIT_FAILURE, "[main] %s = %s: %s",
				 option, path, strerror(-rc));
	return 0;
}

int prepare_logs(const struct conf *conf, const struct identity *who,
		 struct fault *fault)
{
	int rc = make_log("error_log", conf->main.error_log, who, fault);

	if (rc < 0)
		return rc;
	return make_log("access_log", conf->main.access_log, who, fault);
}

static int admin_address(const char *path, struct sockaddr_un *sun)
{
	size_t n = strlen(path);

	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	if (n >= sizeof(sun->sun_path))
		return -ENAMETOOLONG;
	memcpy(sun->sun_path, path, n + 1);
	return 0;
}

/* Removes a socket whose owner is gone.  0 when the path is free then. */
static int remove_stale(const struct sockaddr_un *sun)
{
	struct stat st;
	int fd;
	int rc;

	if (lstat(sun->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	rc = connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) < 0
		     ? -errno
		     : 0;
	close(fd);
	if (rc == 0 ||
	    rc == -EAGAIN) /* EAGAIN: it listens, its queue is full */
		return -EADDRINUSE;
	if (rc != -ECONNREFUSED)
		return rc;
	return unlink(sun->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

static int bind_admin(const struct sockaddr_un *sun, const struct identity *who,
		      int *out)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t umask_before;
	int rc = 0;

	if (fd < 0)
		return -errno;
	umask_before = umask(0117); /* never open wider, not for a moment */
	if (bind(fd, (const struct sockaddr *)sun, sizeof(*sun)) < 0)
		rc = -errno;
	(void)umask(umask_before);
	if (rc < 0)
		goto no_bind;
	if (who->change && lchown(sun->sun_path, who->uid, who->gid) < 0)
		rc = -errno;
	if (rc == 0 && listen(fd, 64) < 0)
		rc = -errno;
	if (rc < 0)
		goto no_listen;
	*out = fd;
	return 0;

no_listen:
	(void)unlink(sun->sun_path);
no_bind:
	close(fd);
	return rc;
}

int prepare_admin(const struct conf *conf, const struct identity *who,
		  int *admin_fd, struct fault *fault)
{
	const char *path = conf->main.admin_socket;
	char parent[PATH_BYTES];
	struct sockaddr_un sun;
	int rc;

	*admin_fd = -1;
	if (path[0] == '\0')
		return 0;
	rc = admin_address(path, &sun);
	if (rc == 0)
		rc = parent_of(path, parent);
	if (rc == 0)
		rc = make_folders(parent, 0755, who);
	if (rc == 0)
		rc = remove_stale(&sun);
	if (rc == 0)
		rc = bind_admin(&sun, who, admin_fd);
	if (rc < 0)
		return fault_set(fault, rc, EXIT_FAILURE,
				 "[main] admin_socket = %s: %s", path,
				 rc == -EADDRINUSE
					 ? "a running instance listens there"
					 : strerror(-rc));
	return 0;
}

void prepare_remove_admin(const struct conf *conf, int admin_fd)
{
	const char *path = conf->main.admin_socket;
	struct sockaddr_un sun;
	socklen_t bytes = sizeof(sun);

	memset(&sun, 0, sizeof(sun));
	if (admin_fd < 0 || path[0] == '\0' ||
	    getsockname(admin_fd, (struct sockaddr *)&sun, &bytes) < 0)
		return;
	if (strcmp(sun.sun_path, path) == 0)
		(void)unlink(path);
}

/* A response from a source of type directory has its file open. */
static bool has_directory(const struct conf *conf)
{
	for (size_t i = 0; i < conf->source_count; i++)
		if (conf->sources[i].type == CONF_SOURCE_TYPE_DIRECTORY)
			return true;
	return false;
}

void prepare_descriptors(const struct conf *conf)
{
	rlim_t clients = (rlim_t)conf->http.max_connections;
	rlim_t need =
		clients * (has_directory(conf) ? 2 : 1) + OTHER_DESCRIPTORS;
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0) {
		log_warning("ev=descriptors error=\"%s\"", strerror(errno));
		return;
	}
	if (lim.rlim_cur >= need)
		return;
	if (lim.rlim_max < need) {
		struct rlimit more = { .rlim_cur = need, .rlim_max = need };

		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			return;
		log_warning("ev=descriptors need=%llu have=%llu reason=\"the "
			    "hard limit is too low for max_connections\"",
			    (unsigned long long)need,
			    (unsigned long long)lim.rlim_max);
	}
	lim.rlim_cur = need < lim.rlim_max ? need : lim.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &lim) < 0)
		log_warning("ev=descriptors error=\"%s\"", strerror(errno));
}

/* Is path a folder that can be written, or could it be made? */
static int check_folder(const char *path)
{
	char part[PATH_BYTES];
	char parent[PATH_BYTES];
	struct stat st;
	int rc;

	if (path[0] == '\0' || strlen(path) >= sizeof(part))
		return -ENAMETOOLONG;
	memcpy(part, path, strlen(path) + 1);
	while (stat(part, &st) < 0) {
		if (errno != ENOENT)
			return -errno;
		for (size_t n = strlen(part); n > 1 && part[n - 1] == '/'; n--)
			part[n - 1] = '\0';
		rc = parent_of(part, parent);
		if (rc < 0)
			return rc;
		if (strcmp(part, parent) == 0)
			return -ENOENT;
		memcpy(part, parent, sizeof(part));
	}
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	return faccessat(AT_FDCWD, part, W_OK | X_OK, AT_EACCESS) < 0 ? -errno
								      : 0;
}

/* A log's folder must be there: it is not made. */
static int check_log(const char *option, const char *path, struct fault *fault)
{
	char parent[PATH_BYTES];
	struct stat st;
	int rc;

	if (path[0] == '\0')
		return 0;
	if (stat(path, &st) == 0) {
		rc = S_ISDIR(st.st_mode) ? -EISDIR : 0;
		if (rc == 0 && faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) < 0)
			rc = -errno;
	} else {
		rc = errno == ENOENT ? parent_of(path, parent) : -errno;
		if (rc == 0 && stat(parent, &st) < 0)
			rc = -errno;
		if (rc == 0)
			rc = check_folder(parent);
	}
	if (rc < 0)
		return fault_set(fault, rc, EXIT_FAILURE, "[main] %s = %s: %s",
				 option, path, strerror(-rc));
	return 0;
}

static int check_admin(const char *path, struct fault *fault)
{
	char parent[PATH_BYTES];
	struct sockaddr_un sun;
	int rc;

	if (path[0] == '\0')
		return 0;
	rc = admin_address(path, &sun);
	if (rc == 0)
		rc = parent_of(path, parent);
	if (rc == 0)
		rc = check_folder(parent);
	if (rc < 0)
		return fault_set(fault, rc, EXIT_FAILURE,
				 "[main] admin_socket = %s: %s", path,
				 strerror(-rc));
	return 0;
}

static int check_listens(const struct conf *conf, struct fault *fault)
{
	struct address addr[2];

	for (size_t i = 0; i < conf->listen_count; i++)
		if (address_parse(conf->listens[i].address, addr) < 0)
			return fault_set(fault, -EINVAL, EXIT_CONFIG,
					 "[listen:%s] address = %s: not an "
					 "address:port, [address]:port or "
					 "*:port",
					 conf->listens[i].name,
					 conf->listens[i].address);
	return 0;
}

int prepare_check(const struct conf *conf, struct fault *fault)
{
	struct tls_pems *pems = NULL;
	struct identity who;
	int rc = prepare_identity(conf, &who, fault);

	if (rc == 0)
		rc = check_listens(conf, fault);
	if (rc == 0)
		rc = certificates_load(&pems, conf, fault);
	certificates_free(pems, conf);
	if (rc == 0)
		rc = check_log("error_log", conf->main.error_log, fault);
	if (rc == 0)
		rc = check_log("access_log", conf->main.access_log, fault);
	if (rc == 0)
		rc = check_admin(conf->main.admin_socket, fault);
	if (rc < 0)
		return rc;
	rc = check_folder(conf->cache.path);
	if (rc < 0)
		return fault_set(fault, rc, EXIT_FAILURE,
				 "[cache] path = %s: %s", conf->cache.path,
				 strerror(-rc));
	rc = sockets_check_congestion(conf->http.congestion);
	if (rc < 0)
		return fault_set(fault, rc, EXIT_CONFIG,
				 "[http] congestion = %s: %s",
				 conf->http.congestion,
				 rc == -ENOENT ? "the kernel does not have it"
					       : strerror(-rc));
	return 0;
}
