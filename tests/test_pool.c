/* Pools of addresses: what is taken, what is refused and why, numbers there and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>

#include "clone_util.h"

static void is_addr(const struct nssm_pool *p, uint64_t number, const char *text)
{
	uint8_t a[16], want[16] = {0};
	assert_int_equal(inet_pton(p->ip_version == 4 ? AF_INET : AF_INET6, text, want), 1);
	nssm_pool_addr(a, p, number);
	assert_memory_equal(a, want, 16);
	uint64_t back;
	assert_true(nssm_pool_number(&back, p, a));
	assert_int_equal(back, number);
}

static void test_numbers(void **state)
{
	(void)state;
	static const struct {
		const char *net, *first, *last;
		uint64_t n;
	} nets[] = {
	        {"198.18.0.0/16", "198.18.0.1", "198.18.255.254", 65534},
	        {"192.0.2.8/30", "192.0.2.9", "192.0.2.10", 2},
	        {"192.0.2.8/31", "192.0.2.8", "192.0.2.9", 2},
	        {"192.0.2.8/32", "192.0.2.8", "192.0.2.8", 1},
	        {"192.0.2.8", "192.0.2.8", "192.0.2.8", 1},
	        {"64.0.0.0/2", "64.0.0.1", "127.255.255.254", (1u << 30) - 2},
	        {"2001:db8::/48", "2001:db8::1", "2001:db8::1:0:0", 1ull << 32},
	        {"2001:db8::/95", "2001:db8::1", "2001:db8::1:0:0", 1ull << 32},
	        {"2001:db8::/96", "2001:db8::1", "2001:db8::ffff:ffff", (1ull << 32) - 1},
	        {"2001:db8::ff00/120", "2001:db8::ff01", "2001:db8::ffff", 255},
	        {"2001:db8::fffe/127", "2001:db8::fffe", "2001:db8::ffff", 2},
	        {"2001:db8::ffff", "2001:db8::ffff", "2001:db8::ffff", 1},
	};
	for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++) {
		struct nssm_pool p = {0};
		pool(&p, nets[i].net);
		assert_int_equal(p.n_addrs, nets[i].n);
		is_addr(&p, 0, nets[i].first);
		is_addr(&p, nets[i].n - 1, nets[i].last);
	}
	/* Several, numbered one after the other. */
	struct nssm_pool p = {0};
	pool(&p, "10.1.0.0/24");
	pool(&p, "10.0.0.0/24");
	pool(&p, "10.0.1.7");
	assert_int_equal(p.n_addrs, 254 + 254 + 1);
	is_addr(&p, 253, "10.1.0.254");
	is_addr(&p, 254, "10.0.0.1");
	is_addr(&p, 508, "10.0.1.7");
	uint64_t number;
	assert_false(nssm_pool_number(&number, &p, (const uint8_t[]){10, 0, 1, 8}));
	assert_false(nssm_pool_number(&number, &p, (const uint8_t[]){10, 0, 0, 255}));
	assert_false(nssm_pool_number(&number, &p, (const uint8_t[]){10, 1, 0, 0}));
}

static void test_refused(void **state)
{
	(void)state;
	static const struct {
		const char *net, *why;
	} bad[] = {
	        {"", "neither"},
	        {"10.0.0", "neither"},
	        {"10.0.0.0/", "neither"},
	        {"10.0.0.0/33", "neither"},
	        {"10.0.0.0/-1", "neither"},
	        {"10.0.0.0/8x", "neither"},
	        {"10.0.0.0/0008", "neither"},
	        {" 10.0.0.0/8", "neither"},
	        {"2001:db8::/129", "neither"},
	        {"2001:db8::/x", "neither"},
	        {"example.org", "neither"},
	        {"11111111111111111111111111111111111111111111111111111111111111111111111111111111",
	                "neither"},
	        {"10.0.0.1/8", "beyond the first 8"},
	        {"2001:db8::1/64", "beyond the first 64"},
	        {"0.0.0.0/0", "no host's"},
	        {"0.0.0.0", "no host's"},
	        {"224.0.0.0/24", "no host's"},
	        {"239.1.2.3", "no host's"},
	        {"128.0.0.0/1", "no host's"},
	        {"255.255.255.255", "no host's"},
	        {"::/0", "no host's"},
	        {"::", "no host's"},
	        {"ff02::1", "no host's"},
	        {"fe00::/7", "no host's"},
	        {"10.1.2.0/24", "shares"},
	        {"10.1.2.3", "shares"},
	        {"10.0.0.0/8", "shares"},
	        {"2001:db8::/32", "IPv6 among IPv4"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct nssm_pool p = {0};
		bool clashes = strcmp(bad[i].why, "shares") == 0 || strstr(bad[i].why, "among") != NULL;
		if (clashes)
			pool(&p, "10.1.0.0/16");
		struct nssm_pool was = p;
		struct nssm_err err = {0};
		int rc = nssm_pool_add(&p, bad[i].net, &err);
		if (rc != NSSM_EARG || strstr(err.msg, bad[i].why) == NULL)
			fail_msg("\"%s\": %d %s", bad[i].net, rc, err.msg);
		assert_memory_equal(&p, &was, sizeof p);
	}
	struct nssm_pool p = {0};
	struct nssm_err err = {0};
	for (int i = 0; i < NSSM_POOL_NETS_MAX; i++) {
		char text[32];
		snprintf(text, sizeof text, "10.0.%d.0/24", i);
		pool(&p, text);
	}
	assert_int_equal(nssm_pool_add(&p, "10.1.0.0/24", &err), NSSM_ERANGE);
}

static void test_overlap(void **state)
{
	(void)state;
	struct nssm_pool a = {0}, b = {0}, c = {0}, six = {0};
	pool(&a, "10.0.0.0/24");
	pool(&a, "10.0.2.0/24");
	pool(&b, "10.0.1.0/24");
	pool(&c, "10.0.0.0/22");
	pool(&six, "2001:db8::/64");
	assert_false(nssm_pool_overlap(&a, &b));
	assert_true(nssm_pool_overlap(&a, &c));
	assert_true(nssm_pool_overlap(&c, &b));
	assert_true(nssm_pool_overlap(&b, &b));
	assert_false(nssm_pool_overlap(&a, &six));
	struct nssm_pool none = {0};
	assert_false(nssm_pool_overlap(&a, &none));
}

/* What is left, in order. */
static void test_removed(void **state)
{
	struct nssm_pool p = {0};
	pool(&p, "192.0.2.0/29");
	pool(&p, "192.0.2.77");
	pool(&p, "192.0.2.128/30");
	const uint8_t none[4] = {192, 0, 2, 7}, want[] = {1, 3, 5, 6, 129};
	assert_false(nssm_pool_remove(&p, none));
	assert_int_equal(p.n_addrs, 9);
	for (int last = 1; last < 256; last++)
		if (memchr(want, last, sizeof want) == NULL)
			assert_int_equal(nssm_pool_remove(&p, (uint8_t[]){192, 0, 2, (uint8_t)last}),
			        last == 2 || last == 4 || last == 77 || last == 130);
	assert_int_equal(p.n_addrs, sizeof want);
	for (uint64_t i = 0; i < sizeof want; i++) {
		uint8_t a[16];
		uint64_t number;
		nssm_pool_addr(a, &p, i);
		assert_memory_equal(a, ((uint8_t[]){192, 0, 2, want[i]}), 4);
		assert_true(nssm_pool_number(&number, &p, a) && number == i);
	}
	for (size_t i = 0; i < sizeof want; i++)
		assert_true(nssm_pool_remove(&p, (uint8_t[]){192, 0, 2, want[i]}));
	assert_true(p.n_addrs == 0 && p.n_nets == 0);

	/* As many gaps as there is room for. */
	struct nssm_pool wide = {0};
	pool(&wide, "10.0.0.0/8");
	int n = 0;
	while (nssm_pool_remove(&wide, (uint8_t[]){10, 0, 1, (uint8_t)(2 * n)}))
		n++;
	assert_int_equal(n, NSSM_POOL_NETS_MAX - 1);
	assert_int_equal(wide.n_addrs, (1u << 24) - 2 - (unsigned)n);

	struct nssm_pool six = {0};
	pool(&six, "2001:db8::ffff:0/112");
	uint8_t a[16] = {0x20, 0x01, 0x0d, 0xb8, [12] = 0xff, [13] = 0xff, [15] = 1};
	assert_true(nssm_pool_remove(&six, a));
	assert_false(nssm_pool_remove(&six, a));
	nssm_pool_addr(a, &six, 0);
	assert_int_equal(a[15], 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_numbers),
	        cmocka_unit_test(test_refused),
	        cmocka_unit_test(test_overlap),
	        cmocka_unit_test(test_removed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
