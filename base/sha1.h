/* sha1 — the digest that Community ID is made of; no use for secrets.
 * Source : FIPS 180-4, sections 5.1.1, 5.3.1, 6.1.2
 * Checked: tests/test_truth.c (FIPS 180's known answers, every length around a block's end)                                */
#ifndef NSSM_BASE_SHA1_H
#define NSSM_BASE_SHA1_H

#include <stddef.h>
#include <stdint.h>

#define NSSM_SHA1_BYTES 20

void nssm_sha1(uint8_t out[NSSM_SHA1_BYTES], const void *data, size_t n);

#endif
