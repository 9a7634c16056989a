/* capture_stream — the bytes of a capture file, pipe or stdin as a FILE that libpcap reads, decompressed on the way.
 * Two things libpcap does not do are done while the bytes pass: a classic pcap's snaplen is taken out (libpcap would cut
 * packets there silently where the file lies about it), and a pcapng's interfaces are counted (libpcap keeps a row for
 * each, without a bound; a few kilobytes of gz can hold millions). What a pipe gives is there at once, however little it is.
 * For replay/capture.c only.                                                                                        */
#ifndef NSSM_CAPTURE_STREAM_H
#define NSSM_CAPTURE_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "replay/capture.h"

struct nssm_capture_stream;

/* *f is the caller's to close, before the stream. name is borrowed until the stream's close; idle may be NULL. */
int nssm_capture_stream_open(struct nssm_capture_stream **s, FILE **f, const char *path, const char *name,
	const struct nssm_capture_idle *idle, struct nssm_err *err);
void nssm_capture_stream_close(struct nssm_capture_stream **s);
/* What broke the bytes themselves (disk, gz, a bound), or NULL; then *code is set. */
const char *nssm_capture_stream_error(const struct nssm_capture_stream *s, int *code);
/* Where f's reader stands in the uncompressed bytes. */
uint64_t nssm_capture_stream_tell(const struct nssm_capture_stream *s, FILE *f);
uint64_t nssm_capture_stream_read_bytes(const struct nssm_capture_stream *s);
/* A classic pcap, not pcapng. */
bool nssm_capture_stream_classic(const struct nssm_capture_stream *s);
/* Fills file_bytes, gz, and of a classic pcap ns and snaplen. */
void nssm_capture_stream_info(const struct nssm_capture_stream *s, struct nssm_capture_info *info);

#endif
