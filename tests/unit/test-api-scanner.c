/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>
#include <string.h>

#include "api/scanner.h"
#include "base/util.h"

/* `end`: how many bytes are read when the value is complete, -1: it is not. */
static const struct {
	const char *text;
	ptrdiff_t end;
	int state;
} cases[] = {
	{"", -1, SCAN_BEFORE},
	{" \t\r\n", -1, SCAN_BEFORE},
	{"\xef\xbb\xbf", -1, SCAN_BEFORE},
	{"{}", 2, SCAN_DONE},
	{"{}{}", 2, SCAN_DONE},
	{"{}\n", 2, SCAN_DONE},
	{" \n{} ", 4, SCAN_DONE},
	{"\xef\xbb\xbf{}", 5, SCAN_DONE},
	{"[]", 2, SCAN_DONE},
	{"{", -1, SCAN_NESTED},
	{"{\"a\":[{}]", -1, SCAN_NESTED},
	{"{\"a\":[{}]}", 10, SCAN_DONE},
	{"{]x", 2, SCAN_DONE},
	{"{\"}\"", -1, SCAN_NESTED},
	{"{\"}\"}", 5, SCAN_DONE},
	{"{\"\\\"}\"}", 7, SCAN_DONE},
	{"{\"\\\\\"}", 6, SCAN_DONE},
	{"{\"\\\\\\\"}\"}", 9, SCAN_DONE},
	{"{\"a\\", -1, SCAN_NESTED},
	{"\"\"", 2, SCAN_DONE},
	{"\"a b\"c", 5, SCAN_DONE},
	{"\"\\\"\"", 4, SCAN_DONE},
	{"\"{", -1, SCAN_STRING},
	{"1", -1, SCAN_SCALAR},
	{"1 ", 1, SCAN_DONE},
	{" true\n", 5, SCAN_DONE},
	{"}", -1, SCAN_SCALAR},
	{"] {}", 1, SCAN_DONE},
	{"badjson\n", 7, SCAN_DONE},
	{"a{b\"c\t", 5, SCAN_DONE},
};

static void test_whole(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct json_scanner scanner = {0};
		const char *text = cases[i].text;
		g_autofree char *shown = g_strescape(text, NULL);

		g_test_message("%s", shown);
		g_assert_cmpint(json_scanner_feed(&scanner, text, strlen(text)), ==, cases[i].end);
		g_assert_cmpint(scanner.state, ==, cases[i].state);
	}
}

/* Two pieces, cut at each place: the sum is the same. */
static void test_split(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *text = cases[i].text;
		size_t len = strlen(text);

		for (size_t cut = 0; cut <= len; cut++) {
			struct json_scanner scanner = {0};
			ptrdiff_t end = json_scanner_feed(&scanner, text, cut);

			if (end < 0) {
				end = json_scanner_feed(&scanner, text + cut, len - cut);
				if (end >= 0)
					end += (ptrdiff_t)cut;
			}
			g_assert_cmpint(end, ==, cases[i].end);
			g_assert_cmpint(scanner.state, ==, cases[i].state);
		}
	}
}

static void test_nul_is_no_space(void)
{
	struct json_scanner scanner = {0};
	char zeros[64] = {0};

	g_assert_cmpint(json_scanner_feed(&scanner, zeros, sizeof(zeros)), ==, -1);
	g_assert_cmpint(scanner.state, ==, SCAN_SCALAR);
}

static void test_after_done(void)
{
	struct json_scanner scanner = {0};

	g_assert_cmpint(json_scanner_feed(&scanner, "{}", 2), ==, 2);
	g_assert_cmpint(json_scanner_feed(&scanner, "{}", 2), ==, 0);
	g_assert_cmpint(json_scanner_feed(&scanner, "", 0), ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/api-scanner/whole", test_whole);
	g_test_add_func("/api-scanner/split", test_split);
	g_test_add_func("/api-scanner/nul-is-no-space", test_nul_is_no_space);
	g_test_add_func("/api-scanner/after-done", test_after_done);
	return g_test_run();
}
