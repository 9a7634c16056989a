/* err — an error of the world: what failed, where, what was expected, what was found.
 * The message is written where the fact is known; callers pass it up untouched.
 * Functions that can fail take a `struct nssm_err *` last and return 0 or a negative NSSM_E* code. */
#ifndef NSSM_BASE_ERR_H
#define NSSM_BASE_ERR_H

enum nssm_errcode {
	NSSM_EIO = -1,     /* open, read, write, sync, rename */
	NSSM_EFORMAT = -2, /* the bytes of a file are not what its format says */
	NSSM_ERANGE = -3,  /* a value outside what is allowed */
	NSSM_ENOMEM = -4,
	NSSM_EARG = -5,   /* what the user asked for makes no sense */
	NSSM_EUNSUP = -6, /* well-formed, but this version cannot do it */
	NSSM_ENUM = -7,   /* NaN, infinity or divergence in a computation */
	NSSM_EINTR = -8,  /* stopped by the user */
};

struct nssm_err {
	int code;
	char msg[512];
};

/* Writes code and message; returns code, so that `return nssm_err_set(...)` reads well. err may be NULL. */
int nssm_err_set(struct nssm_err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
