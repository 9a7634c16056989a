#include "replay/capture_format.h"

#include <assert.h>
#include <string.h>

#include "version.h"

#define MAGIC_US         0xa1b2c3d4u
#define MAGIC_NS         0xa1b23c4du
#define MAGIC_BYTE_ORDER 0x1a2b3c4du

enum { LINKTYPE_ETHERNET = 1 };
enum { BLOCK_SECTION = 0x0a0d0d0a, BLOCK_INTERFACE = 1, BLOCK_STATISTICS = 5, BLOCK_PACKET = 6 };
enum { OPT_END = 0, OPT_COMMENT = 1 };
enum { SHB_HARDWARE = 2, SHB_OS = 3, SHB_USERAPPL = 4 };
enum { IF_NAME = 2, IF_TSRESOL = 9 };
enum { EPB_FLAGS = 2 };
enum { ISB_STARTTIME = 2, ISB_ENDTIME = 3, ISB_IFRECV = 4, ISB_IFDROP = 5, ISB_USRDELIV = 8 };

void nssm_pcap_head(uint8_t *p, bool ns, uint32_t snaplen)
{
	memset(p, 0, NSSM_PCAP_HEAD_BYTES);
	nssm_put32(p, ns ? MAGIC_NS : MAGIC_US);
	p[4] = 2; /* version 2.4 */
	p[6] = 4;
	nssm_put32(p + 16, snaplen);
	nssm_put32(p + 20, LINKTYPE_ETHERNET);
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

/* A time or a count as options have them: times high word first, even in little-endian files (section 4.3). */
static void put_stamp(uint8_t *p, uint64_t ns)
{
	nssm_put32(p, (uint32_t)(ns >> 32));
	nssm_put32(p + 4, (uint32_t)ns);
}

static void put64(uint8_t *p, uint64_t v)
{
	nssm_put32(p, (uint32_t)v);
	nssm_put32(p + 4, (uint32_t)(v >> 32));
}

/* Fills up to the next multiple of four. */
static uint8_t *pad(uint8_t *p, size_t n)
{
	for (; n % 4 != 0; n++)
		*p++ = 0;
	return p;
}

static uint8_t *put_option(uint8_t *p, uint32_t code, const void *value, uint32_t n)
{
	assert(n <= UINT16_MAX);
	put16(p, code);
	put16(p + 2, n);
	if (n > 0)
		memcpy(p + 4, value, n);
	return pad(p + 4 + n, n);
}

static uint8_t *put_text(uint8_t *p, uint32_t code, const char *text)
{
	return put_option(p, code, text, (uint32_t)strlen(text));
}

/* Type and length at the front, length again behind. */
static size_t close_block(uint8_t *block, uint32_t type, uint8_t *end)
{
	uint32_t n = (uint32_t)(end + 4 - block);
	nssm_put32(block, type);
	nssm_put32(block + 4, n);
	nssm_put32(end, n);
	return n;
}

size_t nssm_pcapng_head(uint8_t *p, uint32_t snaplen)
{
	nssm_put32(p + 8, MAGIC_BYTE_ORDER);
	put16(p + 12, 1); /* version 1.0 */
	put16(p + 14, 0);
	memset(p + 16, 0xff, 8); /* the section's length is not known */
	uint8_t *q = p + 24;
	q = put_text(q, SHB_HARDWARE, NSSM_HOST_CPU);
	q = put_text(q, SHB_OS, NSSM_HOST_SYSTEM);
	q = put_text(q, SHB_USERAPPL, "netssm " NSSM_VERSION);
	q = put_option(q, OPT_END, NULL, 0);
	size_t n = close_block(p, BLOCK_SECTION, q);

	p += n;
	put16(p + 8, LINKTYPE_ETHERNET);
	put16(p + 10, 0);
	nssm_put32(p + 12, snaplen);
	q = put_text(p + 16, IF_NAME, "netssm");
	q = put_option(q, IF_TSRESOL, "\x09", 1);
	q = put_option(q, OPT_END, NULL, 0);
	n += close_block(p, BLOCK_INTERFACE, q);
	assert(n <= NSSM_PCAPNG_HEAD_MAX);
	return n;
}

size_t nssm_pcapng_packet(uint8_t *p, uint64_t ts_ns, const void *frame, uint32_t caplen, uint32_t wirelen,
        enum nssm_capture_dir dir, const char *note, uint32_t n_note)
{
	nssm_put32(p + 8, 0); /* interface */
	put_stamp(p + 12, ts_ns);
	nssm_put32(p + 20, caplen);
	nssm_put32(p + 24, wirelen);
	memcpy(p + 28, frame, caplen);
	uint8_t *q = pad(p + 28 + caplen, caplen);
	if (note != NULL) {
		assert(n_note <= NSSM_PCAPNG_NOTE_MAX);
		uint8_t flags[4] = {(uint8_t)dir};
		q = put_option(q, OPT_COMMENT, note, n_note);
		q = put_option(q, EPB_FLAGS, flags, sizeof flags);
		q = put_option(q, OPT_END, NULL, 0);
	}
	return close_block(p, BLOCK_PACKET, q);
}

size_t nssm_pcapng_end(uint8_t *p, uint64_t first_ns, uint64_t last_ns, uint64_t n_came, uint64_t n_dropped)
{
	uint8_t v[8];
	nssm_put32(p + 8, 0); /* interface */
	put_stamp(p + 12, last_ns);
	uint8_t *q = p + 20;
	put_stamp(v, first_ns);
	q = put_option(q, ISB_STARTTIME, v, 8);
	put_stamp(v, last_ns);
	q = put_option(q, ISB_ENDTIME, v, 8);
	put64(v, n_came);
	q = put_option(q, ISB_IFRECV, v, 8);
	put64(v, n_dropped);
	q = put_option(q, ISB_IFDROP, v, 8);
	put64(v, n_came - n_dropped);
	q = put_option(q, ISB_USRDELIV, v, 8);
	q = put_option(q, OPT_END, NULL, 0);
	size_t n = close_block(p, BLOCK_STATISTICS, q);
	assert(n <= NSSM_PCAPNG_END_MAX);
	return n;
}
