#include "replay/capture.h"

#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay/capture_stream.h"

#define ETH_LEN        14
#define NS_PER_S       1000000000
#define ETHERTYPE_NONE 0xffff /* reserved (RFC 1701, IANA ethertypes): no protocol has it */

enum { ETHERTYPE_IP4 = 0x0800, ETHERTYPE_IP6 = 0x86dd };

struct nssm_capture {
	struct nssm_capture_info info;
	struct nssm_capture_stream *stream;
	pcap_t *pcap;
	const struct link *link;
	uint32_t fcs_len; /* bytes after each Ethernet frame */
	int state;        /* 1: packets may come, 0: ended, < 0: failed with last */
	struct nssm_err last;
	char name[256]; /* for messages: the path, or its tail */
	uint8_t *frame; /* for link types that are not Ethernet */
};

/* Writes the Ethernet header for a packet of this link type. Returns the bytes of its own link header, or -1
 * if the packet ends inside it. */
struct link {
	int dlt, linktype; /* what libpcap calls it here, what the file says */
	const char *name;
	int (*to_eth)(uint8_t eth[ETH_LEN], const uint8_t *p, uint32_t caplen);
};

static const uint8_t MAC_HOST[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t MAC_PEER[6] = {2, 0, 0, 0, 0, 2};

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void eth_put(uint8_t eth[ETH_LEN], const uint8_t dst[6], const uint8_t src[6], uint16_t type)
{
	memcpy(eth, dst, 6);
	memcpy(eth + 6, src, 6);
	eth[12] = (uint8_t)(type >> 8);
	eth[13] = (uint8_t)type;
}

static void cooked_put(
        uint8_t eth[ETH_LEN], int pkt_type, int arphrd, int addr_len, const uint8_t *addr, uint16_t proto)
{
	enum { OUTGOING = 4, ARPHRD_FRAD_ = 770, ARPHRD_RADIOTAP = 803, ARPHRD_NETLINK_ = 824 };
	const uint8_t *peer = addr_len == 6 ? addr : MAC_PEER;
	/* Of these devices the protocol field is none, or one of another family (LINKTYPE_LINUX_SLL's
	 * definition). */
	bool other = arphrd == ARPHRD_FRAD_ || arphrd == ARPHRD_RADIOTAP || arphrd == ARPHRD_NETLINK_;
	uint16_t type = proto < 0x600 || other ? ETHERTYPE_NONE : proto;
	if (pkt_type == OUTGOING)
		eth_put(eth, peer, MAC_HOST, type);
	else
		eth_put(eth, MAC_HOST, peer, type);
}

/* type, ARPHRD, address length, address[8], protocol; all big-endian. */
static int sll_to_eth(uint8_t eth[ETH_LEN], const uint8_t *p, uint32_t caplen)
{
	if (caplen < 16)
		return -1;
	cooked_put(eth, be16(p), be16(p + 2), be16(p + 4), p + 6, be16(p + 14));
	return 16;
}

/* protocol, reserved, interface[4], ARPHRD, type[1], address length[1], address[8]. */
static int sll2_to_eth(uint8_t eth[ETH_LEN], const uint8_t *p, uint32_t caplen)
{
	if (caplen < 20)
		return -1;
	cooked_put(eth, p[10], be16(p + 8), p[11], p + 12, be16(p));
	return 20;
}

static int raw_to_eth(uint8_t eth[ETH_LEN], const uint8_t *p, uint32_t caplen)
{
	if (caplen < 1)
		return -1;
	int version = p[0] >> 4;
	eth_put(eth, MAC_HOST, MAC_PEER,
	        version == 4   ? ETHERTYPE_IP4
	        : version == 6 ? ETHERTYPE_IP6
	                       : ETHERTYPE_NONE);
	return 0;
}

static int ip4_to_eth(uint8_t eth[ETH_LEN], const uint8_t *p, uint32_t caplen)
{
	eth_put(eth, MAC_HOST, MAC_PEER, ETHERTYPE_IP4);
	return caplen < 1 ? -1 : 0;
}

static int ip6_to_eth(uint8_t eth[ETH_LEN], const uint8_t *p, uint32_t caplen)
{
	eth_put(eth, MAC_HOST, MAC_PEER, ETHERTYPE_IP6);
	return caplen < 1 ? -1 : 0;
}

/* A 32-bit address family: null in the capturing host's byte order, loopback in the network's. All are below
 * 2^16. */
static int null_to_eth(uint8_t eth[ETH_LEN], const uint8_t *p, uint32_t caplen)
{
	if (caplen < 4)
		return -1;
	int family = p[0] == 0 && p[1] == 0 ? be16(p + 2) : p[2] == 0 && p[3] == 0 ? p[1] << 8 | p[0] : -1;
	uint16_t type = ETHERTYPE_NONE;
	switch (family) {
	case 2:
		type = ETHERTYPE_IP4;
		break;
	case 10: /* Linux */
	case 23: /* Windows */
	case 24: /* NetBSD, OpenBSD */
	case 28: /* FreeBSD */
	case 30: /* Darwin */
		type = ETHERTYPE_IP6;
		break;
	}
	eth_put(eth, MAC_HOST, MAC_PEER, type);
	return 4;
}

/* Raw IP is 101 in files; some hold their system's own number, 12 (what libpcap makes of 101 too) or 14. */
static const struct link LINKS[] = {
        {DLT_EN10MB, 1, "Ethernet", NULL},
        {DLT_LINUX_SLL, 113, "Linux cooked v1", sll_to_eth},
        {DLT_LINUX_SLL2, 276, "Linux cooked v2", sll2_to_eth},
        {DLT_RAW, 101, "raw IP", raw_to_eth},
        {12, 12, "raw IP", raw_to_eth},
        {14, 14, "raw IP", raw_to_eth},
        {DLT_IPV4, 228, "raw IPv4", ip4_to_eth},
        {DLT_IPV6, 229, "raw IPv6", ip6_to_eth},
        {DLT_NULL, 0, "null", null_to_eth},
        {DLT_LOOP, 108, "loopback", null_to_eth},
};
#define N_LINKS (sizeof LINKS / sizeof LINKS[0])

static int refuse_link(const char *name, int dlt, struct nssm_err *err)
{
	char known[256] = "";
	size_t n = 0;
	for (size_t i = 0; i < N_LINKS && n < sizeof known; i++) {
		/* The other number of raw IP is no news. */
		if (i > 0 && strcmp(LINKS[i].name, LINKS[i - 1].name) == 0)
			continue;
		n += (size_t)snprintf(known + n, sizeof known - n, "%s%s (%d)", i == 0 ? "" : ", ",
		        LINKS[i].name, LINKS[i].linktype);
	}
	const char *dlt_name = pcap_datalink_val_to_name(dlt);
	return nssm_err_set(err, NSSM_EUNSUP, "%s: link type %d (%s) is not one of: %s", name, dlt,
	        dlt_name != NULL ? dlt_name : "unknown", known);
}

/* The tail of a path says more than its head, and a message must have room for the rest. */
static void name_set(char name[256], const char *path, const char *dash)
{
	size_t n = strlen(path);
	if (strcmp(path, "-") == 0)
		snprintf(name, 256, "%s", dash);
	else if (n < 200)
		snprintf(name, 256, "%s", path);
	else
		snprintf(name, 256, "…%s", path + (n - 199));
}

static int pick_link(struct nssm_capture *c, struct nssm_err *err)
{
	int dlt = pcap_datalink(c->pcap);
	for (size_t i = 0; i < N_LINKS; i++) {
		if (LINKS[i].dlt != dlt)
			continue;
		c->link = &LINKS[i];
		c->info.link_type = LINKS[i].linktype;
		c->info.link_name = LINKS[i].name;
		int ext = pcap_datalink_ext(c->pcap);
		/* In 16-bit words (draft-ietf-opsawg-pcap, "FCS len"). */
		if (LINKS[i].to_eth == NULL && LT_FCS_LENGTH_PRESENT(ext))
			c->fcs_len = 2 * LT_FCS_LENGTH((uint32_t)ext);
		if (LINKS[i].to_eth != NULL)
			c->frame = malloc(ETH_LEN + NSSM_CAPTURE_CAPLEN_MAX);
		if (LINKS[i].to_eth != NULL && c->frame == NULL)
			return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for a packet buffer", c->name);
		return 0;
	}
	return refuse_link(c->name, dlt, err);
}

int nssm_capture_open(struct nssm_capture **cp, const char *path, struct nssm_err *err)
{
	return nssm_capture_open_idle(cp, path, NULL, err);
}

int nssm_capture_open_idle(
        struct nssm_capture **cp, const char *path, const struct nssm_capture_idle *idle, struct nssm_err *err)
{
	*cp = NULL;
	struct nssm_capture *c = calloc(1, sizeof *c);
	if (c == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for a capture reader", path);
	name_set(c->name, path, "stdin");
	c->state = 1;
	FILE *f = NULL;
	int rc = nssm_capture_stream_open(&c->stream, &f, path, c->name, idle, err);
	if (rc != 0)
		goto fail;
	char why[PCAP_ERRBUF_SIZE] = "";
	c->pcap = pcap_fopen_offline_with_tstamp_precision(f, PCAP_TSTAMP_PRECISION_NANO, why);
	if (c->pcap == NULL) {
		int code = NSSM_EFORMAT;
		const char *broken = nssm_capture_stream_error(c->stream, &code);
		rc = nssm_err_set(err, code, "%s: not a readable pcap or pcapng capture, at offset %llu: %s",
		        c->name, (unsigned long long)nssm_capture_stream_tell(c->stream, f),
		        broken != NULL ? broken : why);
		/* libpcap closes the stream only once it has taken it. */
		fclose(f);
		goto fail;
	}
	rc = pick_link(c, err);
	if (rc != 0)
		goto fail;
	nssm_capture_stream_info(c->stream, &c->info);
	if (c->info.snaplen == 0)
		c->info.snaplen = (uint32_t)pcap_snapshot(c->pcap);
	*cp = c;
	return 0;
fail:
	nssm_capture_close(&c);
	return rc;
}

/* ns since the epoch; what cannot be is clamped and counted. */
static uint64_t stamp(struct nssm_capture *c, const struct pcap_pkthdr *h)
{
	int64_t s = h->ts.tv_sec, ns = h->ts.tv_usec;
	bool bad = false;
	/* Seconds in classic pcap are unsigned 32-bit; libpcap reads them as signed. */
	if (s < 0 && s >= INT32_MIN && nssm_capture_stream_classic(c->stream))
		s += (int64_t)1 << 32;
	if (ns < 0 || ns >= NS_PER_S) {
		bad = true;
		ns = NS_PER_S - 1;
	}
	if (s < 0) {
		bad = true;
		s = ns = 0;
	}
	if (s > INT64_MAX / NS_PER_S - 1) {
		bad = true;
		s = INT64_MAX / NS_PER_S - 1;
	}
	c->info.n_bad_time += bad;
	c->info.ns |= !nssm_capture_stream_classic(c->stream) && ns % 1000 != 0;
	return (uint64_t)s * NS_PER_S + (uint64_t)ns;
}

/* Returns whether the packet may be given. */
static bool fill(
        struct nssm_capture *c, struct nssm_pkt *pkt, const struct pcap_pkthdr *h, const uint8_t *data)
{
	uint32_t cap = h->caplen, wire = h->len;
	if (cap > wire) {
		wire = cap;
		c->info.n_wirelen_raised++;
	}
	if (c->link->to_eth == NULL) {
		wire = wire > c->fcs_len ? wire - c->fcs_len : 0;
		cap = cap < wire ? cap : wire;
		if (cap < ETH_LEN) {
			c->info.n_short_link++;
			return false;
		}
		*pkt = (struct nssm_pkt){.ts_ns = stamp(c, h), .wirelen = wire, .caplen = cap, .data = data};
		return true;
	}
	int skip = c->link->to_eth(c->frame, data, cap);
	if (skip < 0) {
		c->info.n_short_link++;
		return false;
	}
	memcpy(c->frame + ETH_LEN, data + skip, cap - (uint32_t)skip);
	c->info.n_normalised++;
	c->info.n_no_ethertype += be16(c->frame + 12) == ETHERTYPE_NONE;
	uint64_t new_wire = (uint64_t)wire - (uint32_t)skip + ETH_LEN;
	*pkt = (struct nssm_pkt){
	        .ts_ns = stamp(c, h),
	        .wirelen = new_wire > UINT32_MAX ? UINT32_MAX : (uint32_t)new_wire,
	        .caplen = cap - (uint32_t)skip + ETH_LEN,
	        .data = c->frame,
	};
	return true;
}

static int fail_at(struct nssm_capture *c, uint64_t offset, int code, const char *why)
{
	/* The packet's number in the file: those skipped count too. */
	uint64_t n = c->info.n_packets + c->info.n_short_link + 1;
	c->state = nssm_err_set(&c->last, code, "%s: packet %llu at offset %llu: %s", c->name,
	        (unsigned long long)n, (unsigned long long)offset, why);
	return c->state;
}

int nssm_capture_next(struct nssm_capture *c, struct nssm_pkt *pkt, struct nssm_err *err)
{
	while (c->state > 0) {
		uint64_t offset = nssm_capture_stream_tell(c->stream, pcap_file(c->pcap));
		struct pcap_pkthdr *h;
		const uint8_t *data;
		int got = pcap_next_ex(c->pcap, &h, &data);
		if (got == PCAP_ERROR_BREAK) {
			c->state = 0;
			break;
		}
		if (got != 1) {
			int code = NSSM_EFORMAT;
			const char *broken = nssm_capture_stream_error(c->stream, &code);
			fail_at(c, offset, code, broken != NULL ? broken : pcap_geterr(c->pcap));
			break;
		}
		if (h->caplen > NSSM_CAPTURE_CAPLEN_MAX) {
			char why[96];
			snprintf(why, sizeof why, "captured length %u, more than %u", h->caplen,
			        NSSM_CAPTURE_CAPLEN_MAX);
			fail_at(c, offset, NSSM_EFORMAT, why);
			break;
		}
		if (!fill(c, pkt, h, data))
			continue;
		c->info.n_packets++;
		c->info.n_bytes += pkt->caplen;
		c->info.read_bytes = nssm_capture_stream_read_bytes(c->stream);
		return 1;
	}
	if (c->state < 0 && err != NULL)
		*err = c->last;
	return c->state;
}

const struct nssm_capture_info *nssm_capture_info(const struct nssm_capture *c)
{
	return &c->info;
}

void nssm_capture_close(struct nssm_capture **cp)
{
	struct nssm_capture *c = *cp;
	if (c == NULL)
		return;
	/* pcap_close closes the FILE, whose cookie is the stream; only then may the stream go. */
	if (c->pcap != NULL)
		pcap_close(c->pcap);
	nssm_capture_stream_close(&c->stream);
	free(c->frame);
	free(c);
	*cp = NULL;
}
