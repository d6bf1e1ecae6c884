/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>

#include "base/siphash.h"
#include "base/util.h"

/* The reference's vectors: the key is 00 01 .. 0f, the message 00 01 .. of the given length, the
 * result in little-endian byte order. */
static const struct {
	size_t len;
	uint8_t hash[8];
} vectors[] = {
	{0, {0x31, 0x0e, 0x0e, 0xdd, 0x47, 0xdb, 0x6f, 0x72}},
	{1, {0xfd, 0x67, 0xdc, 0x93, 0xc5, 0x39, 0xf8, 0x74}},
	{2, {0x5a, 0x4f, 0xa9, 0xd9, 0x09, 0x80, 0x6c, 0x0d}},
	{3, {0x2d, 0x7e, 0xfb, 0xd7, 0x96, 0x66, 0x67, 0x85}},
	{4, {0xb7, 0x87, 0x71, 0x27, 0xe0, 0x94, 0x27, 0xcf}},
	{5, {0x8d, 0xa6, 0x99, 0xcd, 0x64, 0x55, 0x76, 0x18}},
	{6, {0xce, 0xe3, 0xfe, 0x58, 0x6e, 0x46, 0xc9, 0xcb}},
	{7, {0x37, 0xd1, 0x01, 0x8b, 0xf5, 0x00, 0x02, 0xab}},
	{8, {0x62, 0x24, 0x93, 0x9a, 0x79, 0xf5, 0xf5, 0x93}},
	{9, {0xb0, 0xe4, 0xa9, 0x0b, 0xdf, 0x82, 0x00, 0x9e}},
	{15, {0xe5, 0x45, 0xbe, 0x49, 0x61, 0xca, 0x29, 0xa1}},
	{16, {0xdb, 0x9b, 0xc2, 0x57, 0x7f, 0xcc, 0x2a, 0x3f}},
	{31, {0x42, 0xc3, 0x41, 0xd8, 0xfa, 0x92, 0xd8, 0x32}},
	{32, {0xce, 0x7c, 0xf2, 0x72, 0x2f, 0x51, 0x27, 0x71}},
	{40, {0xd0, 0xa7, 0x04, 0x53, 0x6b, 0xa9, 0x3e, 0x0e}},
	{63, {0x72, 0x45, 0x06, 0xeb, 0x4c, 0x32, 0x8a, 0x95}},
};

static const struct siphash_key key = {
	{UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)}};

static void test_vectors(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		/* At the heap's end and at an odd address, so that a read too far is seen. */
		uint8_t *memory = g_malloc(vectors[i].len + 1);
		uint64_t expected = 0;

		for (size_t k = 0; k < vectors[i].len; k++)
			memory[k + 1] = (uint8_t)k;
		for (int k = 7; k >= 0; k--)
			expected = expected << 8 | vectors[i].hash[k];
		g_assert_cmphex(siphash(&key, memory + 1, vectors[i].len), ==, expected);
		g_free(memory);
	}
}

/* The length is a part of what is hashed, from the 256th byte on modulo 256. */
static void test_length_counts(void)
{
	static const uint8_t zero[300];

	for (size_t len = 0; len + 1 < sizeof(zero); len++)
		g_assert_cmphex(siphash(&key, zero, len), !=, siphash(&key, zero, len + 1));
}

static void test_random_keys(void)
{
	struct siphash_key a = {0}, b = {0};

	g_assert_cmpint(siphash_key_random(&a), ==, 0);
	g_assert_cmpint(siphash_key_random(&b), ==, 0);
	for (int i = 0; i < 2; i++) {
		g_assert_cmphex(a.k[i], !=, 0);
		g_assert_cmphex(a.k[i], !=, b.k[i]);
	}
	g_assert_cmphex(siphash(&a, "x", 1), !=, siphash(&b, "x", 1));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/siphash/vectors", test_vectors);
	g_test_add_func("/siphash/length-counts", test_length_counts);
	g_test_add_func("/siphash/random-keys", test_random_keys);
	return g_test_run();
}
