/* Which ports are encrypted: what payload looks like, what is learned of flows, how it travels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/philox.h"
#include "model/packet_impl.h"
#include "model/secure_ports.h"

static struct nssm_secure_learner *learner;

/* A packet of a flow of 10.0.0.1:client to 10.0.0.2:server (back: the other way); cut: payload bytes that were not captured. */
static void packet(uint16_t client, uint16_t server, bool udp, bool back, uint8_t flags, const void *payload, uint32_t n, uint32_t cut, bool fresh)
{
	uint8_t f[256] = {0};
	uint32_t l4 = 34, hdr = udp ? 8 : 20;
	put16(f + 12, 0x0800);
	f[14] = 0x45;
	put16(f + 16, 20 + hdr + n);
	f[22] = 64;
	f[23] = udp ? PROTO_UDP : PROTO_TCP;
	put32(f + 26, back ? 0x0a000002 : 0x0a000001);
	put32(f + 30, back ? 0x0a000001 : 0x0a000002);
	put16(f + l4, back ? server : client);
	put16(f + l4 + 2, back ? client : server);
	if (udp) {
		put16(f + l4 + 4, 8 + n);
	} else {
		f[l4 + 12] = 0x50;
		f[l4 + 13] = flags;
	}
	memcpy(f + l4 + hdr, payload, n);
	struct nssm_pkt p = {.data = f, .wirelen = l4 + hdr + n, .caplen = l4 + hdr + n - cut};
	struct nssm_hdrs h;
	struct nssm_flow_key key;
	assert_int_equal(nssm_pkt_parse(&h, p.data, p.caplen), NSSM_PKT_OK);
	nssm_flow_key(&key, &h, p.data);
	nssm_secure_learn(learner, 0, &key, fresh, &h, &p);
}

static const uint8_t hello[] = {22, 3, 1, 0, 100, 1, 0, 0, 96}, data[] = {23, 3, 3, 0, 100, 1}, http[] = "GET / HTTP/1.1";
static const uint8_t initial[] = {0xc3, 0, 0, 0, 1, 8, 1, 2}, q046[] = {0xc3, 'Q', '0', '4', '6', 0x50, 1},
                     long_id[] = {0xc3, 0, 0, 0, 1, 21, 1};

static struct nssm_secure_ports learned(void)
{
	struct nssm_secure_ports p;
	nssm_secure_learned(&p, learner);
	assert_true(p.learned);
	return p;
}

static void row_is(const struct nssm_secure_ports *p, uint32_t i, uint16_t port, bool udp, uint32_t n_secure, uint32_t n_other)
{
	const struct nssm_secure_port *r = &p->port[i];
	assert_int_equal(r->port, port);
	assert_int_equal(r->udp, udp);
	assert_int_equal(r->n_secure, n_secure);
	assert_int_equal(r->n_other, n_other);
}

static int open_learner(void **state)
{
	return nssm_secure_learner_open(&learner, NULL);
}

static int close_learner(void **state)
{
	nssm_secure_learner_close(&learner);
	return 0;
}

static void a_flow_is_what_its_first_payload_is(void **state)
{
	packet(1000, 4433, false, false, 0x02, "", 0, 0, true);
	packet(1000, 4433, false, true, 0x12, "", 0, 0, false);
	packet(1000, 4433, false, false, 0x18, hello, sizeof hello, 0, false);
	packet(1000, 4433, false, true, 0x18, http, sizeof http, 0, false); /* too late to count */
	packet(1001, 4433, false, true, 0x12, "", 0, 0, true);               /* the SYN is missing */
	packet(1001, 4433, false, true, 0x18, data, sizeof data, 0, false);
	packet(60000, 4433, false, true, 0x18, http, sizeof http, 0, true); /* begun before the capture */
	packet(1002, 8443, false, false, 0x02, "", 0, 0, true);
	packet(1002, 8443, false, false, 0x18, http, sizeof http, 0, false);
	packet(1003, 80, false, false, 0x02, "", 0, 0, true);
	packet(1003, 80, false, false, 0x18, http, sizeof http, 0, false);
	packet(1004, 9443, true, false, 0, initial, sizeof initial, 0, true);
	struct nssm_secure_ports p = learned();
	/* Not 80: it is no well-known one, and without a row it is plain all the same. */
	assert_int_equal(p.n, 3);
	row_is(&p, 0, 4433, false, 2, 1);
	row_is(&p, 1, 8443, false, 0, 1);
	row_is(&p, 2, 9443, true, 1, 0);
	assert_true(nssm_secure_port(&p, false, 4433));
	assert_false(nssm_secure_port(&p, false, 8443)); /* well-known, but not there */
	assert_false(nssm_secure_port(&p, false, 80));
	assert_true(nssm_secure_port(&p, true, 9443));
	assert_false(nssm_secure_port(&p, false, 9443));
	assert_true(nssm_secure_port(&p, false, 443)); /* nothing learned */
	assert_true(nssm_secure_port(&p, true, 443));
	assert_false(nssm_secure_port(&p, true, 853));
}

static void payload_that_was_cut_teaches_nothing(void **state)
{
	packet(1000, 443, false, false, 0x18, http, sizeof http, sizeof http - 4, true);
	packet(1001, 443, false, false, 0x18, http, sizeof http, sizeof http, true);
	packet(1001, 443, false, false, 0x18, http, sizeof http, 0, false); /* not what it began with */
	packet(1002, 443, true, false, 0, initial, sizeof initial, 3, true);
	packet(1003, 443, true, false, 0, "\x41\x01\x02\x03\x04\x05", 6, 0, true); /* a short header: who knows */
	assert_int_equal(learned().n, 0);
	packet(1004, 443, false, false, 0x18, http, sizeof http, sizeof http - 5, true);
	packet(1005, 443, true, false, 0, "\0\1\2\3\4\5", 6, 0, true);
	packet(1006, 443, true, false, 0, q046, sizeof q046, 0, true); /* lengths are nibbles there */
	packet(1007, 443, true, false, 0, long_id, sizeof long_id, 0, true);
	struct nssm_secure_ports p = learned();
	assert_int_equal(p.n, 2);
	row_is(&p, 0, 443, false, 0, 1);
	row_is(&p, 1, 443, true, 1, 2);
}

static void what_waits_is_forgotten_with_its_capture(void **state)
{
	packet(1000, 443, false, false, 0x02, "", 0, 0, true);
	nssm_secure_learner_clear(learner);
	packet(1000, 443, false, false, 0x18, hello, sizeof hello, 0, false);
	assert_int_equal(learned().n, 0);
	/* More flows at a time than there is room for: fewer are learned of, none wrongly. */
	for (uint32_t i = 0; i < 20000; i++)
		packet((uint16_t)(1024 + i), (uint16_t)(443 + i % 2), false, false, 0x02, "", 0, 0, true);
	for (uint32_t i = 0; i < 20000; i++)
		packet((uint16_t)(1024 + i), (uint16_t)(443 + i % 2), false, false, 0x18, i % 2 ? http : hello, 9, 0, false);
	struct nssm_secure_ports p = learned();
	assert_int_equal(p.n, 1);
	assert_in_range(p.port[0].n_secure, 1000, 4096);
	assert_int_equal(p.port[0].n_other, 0);
}

static void the_ports_with_the_most_flows_are_kept(void **state)
{
	for (uint16_t port = 2000; port < 2100; port++)
		for (int k = 0; k < (port < 2040 ? 1 : 3); k++)
			packet((uint16_t)(1000 + k), port, false, false, 0x02, hello, sizeof hello, 0, true);
	struct nssm_secure_ports p = learned(), q = {0};
	assert_int_equal(p.n, NSSM_SECURE_PORTS_MAX);
	for (uint32_t i = 0; i < p.n; i++) {
		assert_int_equal(p.port[i].port, i < 4 ? 2000 + i : 2036 + i);
		assert_int_equal(p.port[i].n_secure, i < 4 ? 1 : 3);
	}
	nssm_secure_merge(&q, &p);
	assert_int_equal(q.n, p.n);
	nssm_secure_merge(&q, &p);
	row_is(&q, 63, 2099, false, 6, 0);
	p.port[63].n_secure = q.port[63].n_other = UINT32_MAX;
	nssm_secure_merge(&q, &p);
	assert_int_equal(q.port[63].n_secure, UINT32_MAX);
}

static void it_travels_as_json(void **state)
{
	packet(1000, 443, false, false, 0x18, hello, sizeof hello, 0, true);
	packet(1001, 443, true, false, 0, initial, sizeof initial, 0, true);
	packet(1002, 8443, true, false, 0, initial, sizeof initial, 0, true);
	struct nssm_secure_ports p = learned(), q;
	json_t *j = nssm_secure_to_json(&p);
	char *text = json_dumps(j, JSON_COMPACT);
	assert_string_equal(text, "{\"version\":1,\"tcp\":[[443,1,0]],\"udp\":[[443,1,0],[8443,1,0]]}");
	free(text);
	assert_int_equal(nssm_secure_from_json(&q, j, "here", NULL), 0);
	assert_int_equal(q.n, 3);
	row_is(&q, 0, 443, false, 1, 0);
	row_is(&q, 2, 8443, true, 1, 0);
	json_decref(j);
	assert_int_equal(nssm_secure_from_json(&q, NULL, "here", NULL), 0);
	assert_false(q.learned);
	static const struct {
		const char *json, *says;
		int code;
	} bad[] = {
	        {"[]", "here: encrypted.version: expected a whole number, found missing", NSSM_EFORMAT},
	        {"{\"version\":2}", "here: encrypted.version: expected 1, found 2", NSSM_EUNSUP},
	        {"{\"version\":1,\"tcp\":[]}", "here: encrypted.udp: expected an array", NSSM_EFORMAT},
	        {"{\"version\":1,\"tcp\":[[65536,1,0]],\"udp\":[]}", "here: encrypted.tcp[0]: expected [port, flows, flows], by port", NSSM_EFORMAT},
	        {"{\"version\":1,\"tcp\":[[443,-1,0]],\"udp\":[]}", "here: encrypted.tcp[0]", NSSM_EFORMAT},
	        {"{\"version\":1,\"tcp\":[[443,0,0]],\"udp\":[]}", "here: encrypted.tcp[0]", NSSM_EFORMAT},
	        {"{\"version\":1,\"tcp\":[[443,1,0,0]],\"udp\":[]}", "here: encrypted.tcp[0]", NSSM_EFORMAT},
	        {"{\"version\":1,\"tcp\":[],\"udp\":[[9,1,0],[9,1,0]]}", "here: encrypted.udp[1]", NSSM_EFORMAT},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct nssm_err err;
		j = json_loads(bad[i].json, 0, NULL);
		assert_non_null(j);
		assert_int_equal(nssm_secure_from_json(&q, j, "here", &err), bad[i].code);
		assert_memory_equal(err.msg, bad[i].says, strlen(bad[i].says));
		json_decref(j);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(a_flow_is_what_its_first_payload_is, open_learner, close_learner),
	        cmocka_unit_test_setup_teardown(payload_that_was_cut_teaches_nothing, open_learner, close_learner),
	        cmocka_unit_test_setup_teardown(what_waits_is_forgotten_with_its_capture, open_learner, close_learner),
	        cmocka_unit_test_setup_teardown(the_ports_with_the_most_flows_are_kept, open_learner, close_learner),
	        cmocka_unit_test_setup_teardown(it_travels_as_json, open_learner, close_learner),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
