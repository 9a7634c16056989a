#include "base/file.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUF_BYTES NSSM_OUTFILE_ROOM

struct nssm_outfile {
	int fd;
	int code; /* first error, 0 while all is well */
	bool in_place;
	bool regular;
	uint64_t written; /* bytes handed to the kernel */
	uint64_t kept;    /* of these, by calls that succeeded as a whole */
	size_t fill;      /* bytes waiting in buf */
	struct nssm_err first;
	char path[PATH_MAX], tmp[PATH_MAX]; /* path as messages have it; tmp as it is opened */
	uint8_t buf[BUF_BYTES];
};

int nssm_map_open(struct nssm_map *m, const char *path, struct nssm_err *err)
{
	*m = (struct nssm_map){0};
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot open: %s", path, strerror(errno));
	struct stat st;
	int rc = 0;
	if (fstat(fd, &st) != 0)
		rc = nssm_err_set(err, NSSM_EIO, "%s: cannot stat: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		rc = nssm_err_set(err, NSSM_EIO, "%s: not a regular file", path);
	else if (st.st_size > 0) {
		void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (p == MAP_FAILED)
			rc = nssm_err_set(err, NSSM_EIO, "%s: cannot map: %s", path, strerror(errno));
		else
			*m = (struct nssm_map){.data = p, .len = (size_t)st.st_size};
	}
	close(fd);
	return rc;
}

void nssm_map_close(struct nssm_map *m)
{
	if (m->data != NULL)
		munmap((void *)m->data, m->len);
	*m = (struct nssm_map){0};
}

static int make(struct nssm_outfile **of, const char *path, const char *tmp_suffix, struct nssm_err *err)
{
	*of = NULL;
	struct nssm_outfile *o = malloc(sizeof *o);
	if (o == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for a write buffer", path);
	/* The buffer is left as it is: nothing reads what was not written. */
	memset(o, 0, offsetof(struct nssm_outfile, first));
	int n = snprintf(o->path, sizeof o->path, "%s", path);
	int k = snprintf(o->tmp, sizeof o->tmp, "%s%s", path, tmp_suffix);
	if (n < 0 || k < 0 || (size_t)k >= sizeof o->tmp) {
		free(o);
		return nssm_err_set(err, NSSM_EARG, "%.200s…: path too long", path);
	}
	*of = o;
	return 0;
}

int nssm_outfile_open(struct nssm_outfile **of, const char *path, struct nssm_err *err)
{
	*of = NULL;
	char suffix[32];
	snprintf(suffix, sizeof suffix, ".tmp.%ld", (long)getpid());
	struct nssm_outfile *o;
	int rc = make(&o, path, suffix, err);
	if (rc != 0)
		return rc;
	/* Renamed over, a device would be gone, and a folder would be found out only at the end. */
	struct stat st;
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		free(o);
		return nssm_err_set(err, NSSM_EIO, "%s: %s, expected a regular file or none", path,
			S_ISDIR(st.st_mode) ? "is a folder" : "is a device or a pipe");
	}
	o->fd = open(o->tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (o->fd < 0) {
		rc = nssm_err_set(err, NSSM_EIO, "%s: cannot create: %s", o->tmp, strerror(errno));
		free(o);
		return rc;
	}
	o->regular = true;
	*of = o;
	return 0;
}

/* Two that grow at one name would write over each other. A file system that knows no locks is trusted. */
static int take_over(struct nssm_outfile *o, struct nssm_err *err)
{
	if (flock(o->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
		return nssm_err_set(err, NSSM_EIO, "%s: another run is writing it", o->path);
	if (ftruncate(o->fd, 0) != 0)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot empty it: %s", o->path, strerror(errno));
	return 0;
}

int nssm_outfile_open_in_place(struct nssm_outfile **of, const char *path, struct nssm_err *err)
{
	*of = NULL;
	struct nssm_outfile *o;
	int rc = make(&o, path, "", err);
	if (rc != 0)
		return rc;
	o->in_place = true;
	struct stat st;
	if (strcmp(path, "-") == 0) {
		/* Where a file that stdout was redirected to begins is not known: it is never cut. */
		strcpy(o->path, "stdout");
		o->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
	} else {
		o->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		o->regular = o->fd >= 0 && fstat(o->fd, &st) == 0 && S_ISREG(st.st_mode);
	}
	if (o->fd < 0)
		rc = nssm_err_set(err, NSSM_EIO, "%s: cannot open for writing: %s", o->path, strerror(errno));
	else if (o->regular)
		rc = take_over(o, err);
	if (rc != 0) {
		if (o->fd >= 0)
			close(o->fd);
		free(o);
		return rc;
	}
	*of = o;
	return 0;
}

static int fail(struct nssm_outfile *of, struct nssm_err *err, const char *what)
{
	of->code = nssm_err_set(&of->first, NSSM_EIO, "%s: cannot %s at offset %llu: %s", of->path, what,
		(unsigned long long)of->written, strerror(errno));
	if (err != NULL)
		*err = of->first;
	return of->code;
}

static int put(struct nssm_outfile *of, const uint8_t *p, size_t n, struct nssm_err *err)
{
	while (n > 0) {
		ssize_t k = write(of->fd, p, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			fail(of, err, "write");
			/* Should this fail too, the file ends within a record, which its readers can tell. */
			if (of->in_place && of->regular && ftruncate(of->fd, (off_t)of->kept) == 0)
				of->written = of->kept;
			return of->code;
		}
		p += k;
		n -= (size_t)k;
		of->written += (uint64_t)k;
	}
	of->kept = of->written;
	return 0;
}

static int flush(struct nssm_outfile *of, struct nssm_err *err)
{
	size_t n = of->fill;
	of->fill = 0;
	return put(of, of->buf, n, err);
}

static int sticky(struct nssm_outfile *of, struct nssm_err *err)
{
	if (of->code != 0 && err != NULL)
		*err = of->first;
	return of->code;
}

uint8_t *nssm_outfile_room(struct nssm_outfile *of, size_t n, struct nssm_err *err)
{
	assert(n <= BUF_BYTES);
	if (of->code != 0) {
		sticky(of, err);
		return NULL;
	}
	if (of->fill + n > BUF_BYTES && flush(of, err) != 0)
		return NULL;
	return of->buf + of->fill;
}

void nssm_outfile_take(struct nssm_outfile *of, size_t n)
{
	assert(n <= BUF_BYTES - of->fill);
	of->fill += n;
}

int nssm_outfile_write(struct nssm_outfile *of, const void *data, size_t n, struct nssm_err *err)
{
	if (n >= BUF_BYTES)
		return nssm_outfile_flush(of, err) != 0 ? of->code : put(of, data, n, err);
	uint8_t *p = nssm_outfile_room(of, n, err);
	if (p == NULL)
		return of->code;
	if (n > 0) /* data may be NULL then, which memcpy may not be given */
		memcpy(p, data, n);
	nssm_outfile_take(of, n);
	return 0;
}

int nssm_outfile_flush(struct nssm_outfile *of, struct nssm_err *err)
{
	return of->code != 0 ? sticky(of, err) : flush(of, err);
}

int nssm_outfile_patch(struct nssm_outfile *of, uint64_t offset, const void *data, size_t n, struct nssm_err *err)
{
	if (nssm_outfile_flush(of, err) != 0)
		return of->code;
	const uint8_t *p = data;
	while (n > 0) {
		ssize_t k = pwrite(of->fd, p, n, (off_t)offset);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return fail(of, err, "patch");
		p += k;
		n -= (size_t)k;
		offset += (uint64_t)k;
	}
	return 0;
}

uint64_t nssm_outfile_tell(const struct nssm_outfile *of)
{
	return of->written + of->fill;
}

uint64_t nssm_outfile_kept(const struct nssm_outfile *of)
{
	return of->kept;
}

static void sync_parent(const char *path)
{
	char dir[PATH_MAX];
	snprintf(dir, sizeof dir, "%s", path);
	int fd = open(dirname(dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	/* Some file systems refuse to sync a folder; the rename is then as durable as they make it. */
	(void)fsync(fd);
	close(fd);
}

/* Devices and pipes cannot be synced, and need not be. */
static int settle(struct nssm_outfile *of, struct nssm_err *err)
{
	struct stat st;
	if (nssm_outfile_flush(of, err) != 0)
		return of->code;
	if (of->regular && fsync(of->fd) != 0)
		return fail(of, err, "sync");
	if (of->in_place && of->regular && fstat(of->fd, &st) == 0 && st.st_nlink == 0)
		return of->code = nssm_err_set(err, NSSM_EIO,
			"%s: is not there any more: it was removed while it was written (%llu bytes)", of->path,
			(unsigned long long)of->written);
	return 0;
}

int nssm_outfile_commit(struct nssm_outfile **ofp, struct nssm_err *err)
{
	struct nssm_outfile *of = *ofp;
	int rc = settle(of, err);
	if (close(of->fd) != 0 && rc == 0)
		rc = fail(of, err, "close");
	of->fd = -1;
	if (!of->in_place && rc == 0 && rename(of->tmp, of->path) != 0)
		rc = fail(of, err, "rename into place");
	if (rc == 0 && of->regular)
		sync_parent(of->path);
	else if (!of->in_place && rc != 0)
		unlink(of->tmp);
	free(of);
	*ofp = NULL;
	return rc;
}

void nssm_outfile_abort(struct nssm_outfile **ofp)
{
	struct nssm_outfile *of = *ofp;
	if (of == NULL)
		return;
	if (of->in_place)
		(void)nssm_outfile_flush(of, NULL);
	close(of->fd);
	if (!of->in_place)
		unlink(of->tmp);
	free(of);
	*ofp = NULL;
}

int nssm_file_write(const char *path, const void *data, size_t n, struct nssm_err *err)
{
	struct nssm_outfile *of;
	int rc = nssm_outfile_open(&of, path, err);
	if (rc != 0)
		return rc;
	/* A failed write sticks and is what commit returns. */
	(void)nssm_outfile_write(of, data, n, err);
	return nssm_outfile_commit(&of, err);
}

int nssm_dir_make(const char *path, bool *made, struct nssm_err *err)
{
	*made = mkdir(path, 0777) == 0;
	if (*made)
		return 0;
	if (errno != EEXIST)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot make the folder: %s", path, strerror(errno));
	DIR *d = opendir(path);
	if (d == NULL)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot list: %s", path, strerror(errno));
	int rc = 0;
	struct dirent *e;
	while (rc == 0 && (e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			rc = nssm_err_set(
			        err, NSSM_EARG, "%s: expected an empty or new folder, found %s in it", path, e->d_name);
	closedir(d);
	return rc;
}

int nssm_dir_remove(const char *path, struct nssm_err *err)
{
	DIR *d = opendir(path);
	if (d == NULL)
		return errno == ENOENT ? 0 : nssm_err_set(err, NSSM_EIO, "%s: cannot list: %s", path, strerror(errno));
	int rc = 0;
	struct dirent *e;
	while (rc == 0 && (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (unlinkat(dirfd(d), e->d_name, 0) != 0)
			rc = nssm_err_set(err, NSSM_EIO, "%s/%s: cannot remove: %s", path, e->d_name, strerror(errno));
	}
	closedir(d);
	if (rc == 0 && rmdir(path) != 0)
		rc = nssm_err_set(err, NSSM_EIO, "%s: cannot remove: %s", path, strerror(errno));
	return rc;
}

/* Where the file system cannot exchange (NFS): for an instant there is no folder at path, but both lie beside it. */
static int replace_in_two_steps(const char *tmp, const char *path, struct nssm_err *err)
{
	char old[PATH_MAX];
	if (snprintf(old, sizeof old, "%s.old", path) >= (int)sizeof old)
		return nssm_err_set(err, NSSM_EARG, "%.200s…: path too long", path);
	int rc = nssm_dir_remove(old, err);
	if (rc != 0)
		return rc;
	if (rename(path, old) != 0 || rename(tmp, path) != 0)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot rename to %s: %s", tmp, path, strerror(errno));
	sync_parent(path);
	return nssm_dir_remove(old, err);
}

int nssm_dir_replace(const char *tmp, const char *path, struct nssm_err *err)
{
	if (rename(tmp, path) == 0) {
		sync_parent(path);
		return 0;
	}
	if (errno != ENOTEMPTY && errno != EEXIST)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot rename to %s: %s", tmp, path, strerror(errno));
	if (renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_EXCHANGE) == 0) {
		sync_parent(path);
		return nssm_dir_remove(tmp, err);
	}
	if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot exchange with %s: %s", tmp, path, strerror(errno));
	return replace_in_two_steps(tmp, path, err);
}
