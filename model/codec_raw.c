/* The published NetSSM preprocessor (noise-lab/netssm, preprocessing/main.go on gopacket) differs from the
 * rule that its paper states, and from ours. What it does, and what `compat paper` makes of it:
 *   - A UDP payload under 12 bytes loses its last byte (payload[:len-1]). Reproduced.
 *   - An empty UDP payload crashes it (a slice bound of -1). Reported; taken, with no payload bytes.
 *   - For UDP only "link" and "network" layers are taken, and VLAN tags and IPv6 extension headers are
 * neither: they vanish, and the Ethernet type no longer says what follows. Reproduced.
 *   - A TCP packet that fails to decode is cut there and taken: a TCP header that the snaplen cuts leaves
 * what there is of it or none. Not reproduced: such a packet is skipped (`cut`, `bad_transport`) as in `raw`.
 *   - Captures with no or one such packet are rejected. Reproduced by who builds sessions (replay/ingest).
 *   - No end token. Reproduced.
 *   - A fragment that is not the last has no transport layer in gopacket, so first fragments are skipped too.
 * Reproduced.
 *   - Tunnels (IP in IP, GRE, MPLS, PPPoE, 802.1ad with type 0x9100) are taken with all their layers, where
 * gopacket knows them. Not reproduced: skipped, as in `raw`.
 *   - Captures that are not Ethernet keep their own link header there; here every frame has an Ethernet
 * header.
 *   - One packet without a transport layer where a TCP layer was seen ends the whole file. Cannot happen
 * here. Where payload ends is what UDP's length field says, within the IP packet and what was captured; link
 * padding is none. */
#include "model/codec_raw.h"

#include <assert.h>
#include <string.h>

#define PROTO_UDP 17

struct spelling {
	uint8_t *out;
	uint32_t len, room;
};

static void put(struct spelling *s, const uint8_t *p, uint32_t n)
{
	uint32_t fits = s->room - s->len < n ? s->room - s->len : n;
	memcpy(s->out + s->len, p, fits);
	s->len += fits;
}

/* Bytes of a UDP packet's payload that were captured. */
static uint32_t udp_payload(const struct nssm_hdrs *h, const struct nssm_pkt *pkt)
{
	const uint8_t *udp = pkt->data + h->l4_off;
	uint64_t ip_end = (uint64_t)h->l3_off + h->ip_len;
	uint64_t end = ip_end < pkt->caplen ? ip_end : pkt->caplen;
	uint32_t udp_len = (uint32_t)udp[4] << 8 | udp[5];
	if (udp_len != 0 && (uint64_t)h->l4_off + udp_len < end)
		end = (uint64_t)h->l4_off + udp_len;
	return end > h->payload_off ? (uint32_t)(end - h->payload_off) : 0;
}

int nssm_raw_spell(uint8_t out[NSSM_RAW_PKT_LEN_MAX], const struct nssm_codec_cfg *cfg,
        const struct nssm_pkt *pkt, uint32_t *cut, bool *beyond_paper)
{
	assert(cfg->pkt_len <= NSSM_RAW_PKT_LEN_MAX);
	*cut = 0;
	*beyond_paper = false;
	struct nssm_hdrs h;
	int reason = nssm_pkt_parse(&h, pkt->data, pkt->caplen);
	if (reason != NSSM_PKT_OK)
		return reason;
	if (cfg->compat_paper && h.fragment)
		return NSSM_PKT_FRAGMENT;

	struct spelling s = {.out = out, .room = cfg->pkt_len};
	uint32_t header = h.payload_off;
	if (cfg->compat_paper && h.proto == PROTO_UDP) {
		uint32_t network = h.ip_version == 4 ? (uint32_t)(h.l4_off - h.l3_off) : 40;
		header = 14 + network + 8;
		put(&s, pkt->data, 14);
		put(&s, pkt->data + h.l3_off, network);
		put(&s, pkt->data + h.l4_off, 8);
	} else {
		put(&s, pkt->data, header);
	}
	*cut = header - s.len;
	if (h.proto == PROTO_UDP) {
		uint32_t payload = udp_payload(&h, pkt);
		if (cfg->compat_paper && payload < NSSM_RAW_UDP_PAYLOAD) {
			*beyond_paper = payload == 0;
			payload -= payload > 0;
		}
		put(&s, pkt->data + h.payload_off,
		        payload < NSSM_RAW_UDP_PAYLOAD ? payload : NSSM_RAW_UDP_PAYLOAD);
	}
	memset(out + s.len, 0, s.room - s.len);
	return NSSM_PKT_OK;
}

uint32_t nssm_raw_known(const uint8_t *bytes, uint32_t n)
{
	struct nssm_hdrs h;
	if (nssm_pkt_walk(&h, bytes, n) != NSSM_PKT_OK)
		return n;
	uint32_t end = h.payload_off + (h.proto == PROTO_UDP ? NSSM_RAW_UDP_PAYLOAD : 0u);
	return end < n ? end : n;
}
