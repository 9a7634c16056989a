/* stream_end — the far end of a live stream: how a reader comes, writing to it without blocking, how it is seen to have gone.
 *   listen   one reader at a time; further ones wait in the kernel's queue (8 places) until the first has gone. They need not wait
 *            for a reader that has taken nothing for NSSM_STALL_NS while there was something to take, nor for one that has closed
 *            its own side (a reader may do that and read on, so it is kept while nobody else waits).
 *   connect  made at open, within 5 s; once gone, no other reader comes.
 *   fifo     looked at by every nssm_end_look until somebody has it open for reading; when he has gone, the next one is waited for.
 *            (One that opens it in the few ms before the first is seen to have gone gets the rest of that one's stream.)
 *   stdout   a pipe, a socket, a file or a device, but no terminal. Where it is a file or a device, what goes wrong is an error.
 * Blocks : nowhere but in connect's open; stdout that is a file as long as files do.
 * Errors : where is what the user wrote; messages begin with it.
 * Checked: tests/test_sink_stream.c, tests/sink_stream.py                                                                 */
#ifndef NSSM_STREAM_END_H
#define NSSM_STREAM_END_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"

#define NSSM_STALL_NS 5000000000u

enum nssm_end_kind { NSSM_END_LISTEN, NSSM_END_CONNECT, NSSM_END_FIFO, NSSM_END_STDOUT };

struct nssm_end {
	enum nssm_end_kind kind;
	int fd;            /* to the reader; -1: there is none */
	int listen_fd;
	bool socket;       /* fd is one */
	bool file;         /* fd is a file or a device: its errors are errors */
	bool made;         /* the FIFO is ours to remove */
	bool half_closed;  /* the reader sends no more */
	bool set_nonblock; /* stdout's flag is to be taken back */
	uint64_t n_readers;
	uint64_t written;  /* bytes, to all readers */
	char name[PATH_MAX + 32]; /* "listen:127.0.0.1:5000" with the port that it got, "stdout", the FIFO's path */
};

/* "listen:PORT", "listen:ADDR:PORT" (port 0: a free one), "connect:HOST:PORT"; IPv6 addresses in brackets. */
int nssm_end_open_ip(struct nssm_end *e, const char *where, struct nssm_err *err);
/* "-": stdout. */
int nssm_end_open_fifo(struct nssm_end *e, const char *path, struct nssm_err *err);
/* 1: a reader has come; 0: none; < 0: none can come. stalled: the reader that is there has taken nothing for NSSM_STALL_NS; if
 * another takes its place, 2. */
int nssm_end_look(struct nssm_end *e, bool stalled, struct nssm_err *err);
/* Bytes taken, 0: none just now; -1: the reader has gone (and is closed); -2: an error of file. */
ssize_t nssm_end_write(struct nssm_end *e, const struct iovec *iov, int n, struct nssm_err *err);
/* Whether the reader is still there; what it sends is thrown away. */
bool nssm_end_alive(struct nssm_end *e);
/* Until something can be written, for up to ms. */
void nssm_end_wait(const struct nssm_end *e, int ms);
/* The reader's end of stream. */
void nssm_end_hang_up(struct nssm_end *e);
void nssm_end_close(struct nssm_end *e);

#endif
