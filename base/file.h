/* file — files that are either whole or not there: reading by mmap, writing to a temporary name in the same
 * folder, synced, renamed. A failed or killed writer leaves what was there before untouched.                */
#ifndef NSSM_BASE_FILE_H
#define NSSM_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* A file mapped read-only. data is NULL when len is 0. */
struct nssm_map {
	const uint8_t *data;
	size_t len;
};

int nssm_map_open(struct nssm_map *m, const char *path, struct nssm_err *err);
void nssm_map_close(struct nssm_map *m);

/* A file being written. Errors stick: after the first one writes do nothing, and commit reports it. */
struct nssm_outfile;

/* What is there already must be a regular file. */
int nssm_outfile_open(struct nssm_outfile **of, const char *path, struct nssm_err *err);
/* A file that grows at its own name, from nothing; "-" is stdout, and devices and pipes are taken too. One that another process or
 * outfile writes in place is refused. What one write or one take appended (less than NSSM_OUTFILE_ROOM bytes) goes to the kernel in
 * the same call, so that after a kill between calls the file ends behind one of them; after a failed call it is cut back to there
 * (regular files). commit and abort both leave it. */
int nssm_outfile_open_in_place(struct nssm_outfile **of, const char *path, struct nssm_err *err);
/* Appends n bytes (buffered). */
int nssm_outfile_write(struct nssm_outfile *of, const void *data, size_t n, struct nssm_err *err);
/* For writers of many small records: n <= NSSM_OUTFILE_ROOM bytes to fill in, of which take appends as many as were filled.
 * NULL after an error. */
#define NSSM_OUTFILE_ROOM (1u << 20)
uint8_t *nssm_outfile_room(struct nssm_outfile *of, size_t n, struct nssm_err *err);
void nssm_outfile_take(struct nssm_outfile *of, size_t n);
/* Hands what is buffered to the kernel. */
int nssm_outfile_flush(struct nssm_outfile *of, struct nssm_err *err);
/* Overwrites n bytes at an offset that was written before (a header, once its fields are known). */
int nssm_outfile_patch(struct nssm_outfile *of, uint64_t offset, const void *data, size_t n, struct nssm_err *err);
uint64_t nssm_outfile_tell(const struct nssm_outfile *of);
/* Bytes that are in the file: tell less what is buffered, and less what a failed call had taken. */
uint64_t nssm_outfile_kept(const struct nssm_outfile *of);
/* Flush, fsync, rename over path, fsync the folder; then closes. On failure the temporary file is removed. In place: an
 * error too if the file was removed meanwhile. */
int nssm_outfile_commit(struct nssm_outfile **of, struct nssm_err *err);
/* Removes the temporary file (in place: flushes as far as it goes) and closes; takes NULL. */
void nssm_outfile_abort(struct nssm_outfile **of);

/* Whole small files. */
int nssm_file_write(const char *path, const void *data, size_t n, struct nssm_err *err);

/* A new folder, or one that is there and empty: old files among new ones would pass for new. *made: it was not there. */
int nssm_dir_make(const char *path, bool *made, struct nssm_err *err);
/* Puts the folder tmp in the place of path in one step (RENAME_EXCHANGE where path exists), then removes the
 * old one. A reader sees the old folder or the new one, whole. A file system that cannot exchange (NFS) takes two renames;
 * a kill between them leaves the old one as path.old and the new one as tmp. */
int nssm_dir_replace(const char *tmp, const char *path, struct nssm_err *err);
/* Removes a folder that holds files only (no subfolders). Missing: no error. */
int nssm_dir_remove(const char *path, struct nssm_err *err);

#endif
