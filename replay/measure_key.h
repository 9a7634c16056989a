/* measure_key — what of a frame is still there when it comes back through switches, routers and NAT, as a key; and the signature.
 * Source : RFC 1624 (checksum), 3022 (NAT: addresses, ports, ICMP identifiers and their checksums change)
 * Key    : IP protocol, fragment offset, payload length, TCP seq, ack and flags without ECN or ICMP type, code and (echo) sequence,
 *          and the first 64 bytes of payload; of ICMP errors no payload, as a NAT translates the packet inside. Not in it: MACs, VLAN tags,
 *          IP version and header (addresses, TTL, DSCP, ID, options), ports, checksums, TCP window and options.
 * Not    : ARP and whatever is not IP, Neighbor Discovery, what no router passes on (link-local addresses and groups, broadcast), what
 *          is cut inside its transport header: these have no key.
 * Checked: tests/test_measure.c, tests/fuzz/fuzz_measure.c                                                                    */
#ifndef NSSM_MEASURE_KEY_H
#define NSSM_MEASURE_KEY_H

#include <stdbool.h>
#include <stdint.h>

#include "replay/measure.h"

/* Where an IP packet's payload is, headers looked through. */
struct nssm_view {
	uint32_t l3_off, l4_off;
	uint32_t hdr_len;  /* transport header */
	uint32_t l4_len;   /* from l4_off on, by the IP header's length */
	uint32_t there;    /* of it, in the frame: <= l4_len */
	uint8_t ip_version, proto;
	bool fragment;
	uint16_t frag_off; /* in units of 8 bytes */
	uint16_t ip_id;    /* IPv4 */
};
/* False: has no key. */
bool nssm_view(struct nssm_view *v, const uint8_t *frame, uint32_t len);

/* 64 mixed bits; secret: of the run, so that no capture can be made whose frames all have keys alike. */
uint64_t nssm_view_key(const struct nssm_view *v, const uint8_t *frame, const uint64_t secret[4]);
/* Which flow and direction, of the label: by addresses, protocol and ports as they are in the frame. */
uint64_t nssm_view_flow(const struct nssm_view *v, const uint8_t *frame, uint32_t label_idx, const uint64_t secret[4]);

struct nssm_signature {
	uint16_t stream;
	uint64_t sequence, sent_ns;
};
/* Writes the signature over the last 24 bytes of a TCP or UDP payload and corrects the checksum by the difference, so that one
 * that was wrong stays wrong and UDP's 0 stays 0. may_overwrite: bytes at the frame's end (padding behind the IP packet counts
 * among them). False: no room, a fragment, or the frame was cut; it is as it was. */
bool nssm_signature_put(uint8_t *frame, uint32_t len, const struct nssm_view *v, uint32_t may_overwrite,
	const struct nssm_signature *s);
/* True: the frame has one. */
bool nssm_signature_get(struct nssm_signature *s, const uint8_t *frame, const struct nssm_view *v);
uint64_t nssm_signature_key(const struct nssm_signature *s, const uint64_t secret[4]);

#endif
