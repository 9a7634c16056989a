/* needs: what sessions of captures take, against what was put into them; by file and by client, with sides that are told, and where
 * memory ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "replay/needs.h"
#include "tests/scratch.h"

static struct nssm_err err;

static void put32(FILE *f, uint32_t v)
{
	fwrite(&v, 4, 1, f);
}

static FILE *begin(const char *path)
{
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	static const uint32_t head[] = {0xa1b2c3d4, 4u << 16 | 2, 0, 0, 65535, 1};
	fwrite(head, sizeof head, 1, f);
	return f;
}

/* A UDP packet of 10.0.0.CLIENT:PORT to 192.0.2.SERVER:53. */
static void packet(FILE *f, uint8_t client, uint16_t port, uint8_t server)
{
	uint8_t p[60] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0, 0,
	        10, 0, 0, client, 192, 0, 2, server, (uint8_t)(port >> 8), (uint8_t)port, 0, 53, 0, 20};
	static uint32_t us;
	put32(f, 1);
	put32(f, us++);
	put32(f, sizeof p);
	put32(f, sizeof p);
	fwrite(p, sizeof p, 1, f);
}

static const char *capture(void)
{
	const char *path = scratch("a.pcap");
	FILE *f = begin(path);
	packet(f, 1, 5000, 1);
	packet(f, 1, 5001, 2);
	packet(f, 2, 7000, 3);
	packet(f, 1, 5000, 2); /* a known socket, a new flow */
	for (uint16_t i = 1; i < 5; i++)
		packet(f, 2, (uint16_t)(7000 + i), 3);
	packet(f, 1, 5002, 1);
	assert_int_equal(fclose(f), 0);
	return path;
}

static void expect(const struct nssm_reader_cfg *cfg, const struct nssm_pool *clients,
        const struct nssm_pool *servers, uint32_t endpoints, uint32_t sockets, uint32_t n_servers)
{
	struct nssm_needs n;
	if (nssm_needs_count(&n, cfg, clients, servers, 0, &err) != 0)
		fail_msg("%s", err.msg);
	assert_int_equal(n.endpoints, endpoints);
	assert_int_equal(n.sockets, sockets);
	assert_int_equal(n.servers, n_servers);
}

static void by_file_and_client(void **state)
{
	const char *path[2] = {capture(), scratch("b.pcap")};
	FILE *f = begin(path[1]);
	for (uint8_t i = 0; i < 100; i++)
		packet(f, i + 1, 9, 1);
	assert_int_equal(fclose(f), 0);
	struct nssm_reader_cfg cfg = {.path = path, .n_paths = 1, .split = {.kind = NSSM_SPLIT_FILE}};
	expect(&cfg, NULL, NULL, 2, 5, 3);
	cfg.n_paths = 2;
	expect(&cfg, NULL, NULL, 100, 5, 3);
	cfg.merge = true;
	expect(&cfg, NULL, NULL, 100, 5, 3);
	cfg.split =
	        (struct nssm_split_cfg){.kind = NSSM_SPLIT_CLIENT, .flows_max = 1000, .clients_max = 1000};
	expect(&cfg, NULL, NULL, 1, 5, 2);
	cfg.filter = "host 10.0.0.1";
	expect(&cfg, NULL, NULL, 1, 3, 2);
}

/* Sides that the user tells hold here, too. */
static void told(void **state)
{
	const char *path = capture();
	const struct nssm_reader_cfg cfg = {.path = &path, .n_paths = 1, .split = {.kind = NSSM_SPLIT_FILE}};
	struct nssm_pool servers[2] = {{0}};
	assert_int_equal(nssm_pool_add(&servers[0], "10.0.0.0/24", &err), 0);
	expect(&cfg, NULL, servers, 3, 1, 2); /* and the other ends become clients */
}

/* Sessions without end, and less memory than they would take: counted as far as it goes. */
static void little_memory(void **state)
{
	const char *path = scratch("many.pcap");
	FILE *f = begin(path);
	for (uint32_t i = 0; i < 200; i++)
		for (uint16_t k = 0; k < 3; k++)
			packet(f, (uint8_t)(i + 1), (uint16_t)(1000 + i + k), 1);
	assert_int_equal(fclose(f), 0);
	const struct nssm_reader_cfg cfg = {.path = &path,
	        .n_paths = 1,
	        .split = {.kind = NSSM_SPLIT_CLIENT, .flows_max = 1000, .clients_max = 1000}};
	struct nssm_needs n;
	assert_int_equal(nssm_needs_count(&n, &cfg, NULL, NULL, 1 << 20, &err), 0);
	assert_true(n.endpoints == 1 && n.sockets == 3 && n.servers == 1);
}

static void unreadable(void **state)
{
	const char *path = scratch("none.pcap");
	const struct nssm_reader_cfg cfg = {.path = &path, .n_paths = 1, .split = {.kind = NSSM_SPLIT_FILE}};
	struct nssm_needs n;
	assert_true(nssm_needs_count(&n, &cfg, NULL, NULL, 0, &err) < 0);
	assert_non_null(strstr(err.msg, "none.pcap"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(by_file_and_client), cmocka_unit_test(told),
	        cmocka_unit_test(little_memory), cmocka_unit_test(unreadable)};
	return cmocka_run_group_tests(tests, scratch_open, scratch_close);
}
