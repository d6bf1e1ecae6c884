/* SPDX-License-Identifier: Apache-2.0 */
#include "api/scanner.h"

/* Where the value ends, seen from the byte just looked at. */
enum end { END_LATER, END_HERE, END_BEFORE };

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Any of EF BB BF, in any order: what is wrong with them the parser says. */
static bool is_mark(char c)
{
	return c == '\xef' || c == '\xbb' || c == '\xbf';
}

static enum end step_before(struct json_scanner *scanner, char c)
{
	if (is_space(c) || is_mark(c))
		return END_LATER;
	if (c == '{' || c == '[') {
		scanner->state = SCAN_NESTED;
		scanner->depth = 1;
	} else {
		scanner->state = c == '"' ? SCAN_STRING : SCAN_SCALAR;
	}
	return END_LATER;
}

/* Whether `c`, inside of a string, is its closing quote. */
static bool closes_string(struct json_scanner *scanner, char c)
{
	bool escaped = scanner->escaped;

	scanner->escaped = !escaped && c == '\\';
	return !escaped && c == '"';
}

/* `[` and `}` count as a pair, too; the parser will not agree. */
static enum end step_nested(struct json_scanner *scanner, char c)
{
	if (scanner->in_string)
		scanner->in_string = !closes_string(scanner, c);
	else if (c == '"')
		scanner->in_string = true;
	else if (c == '{' || c == '[')
		scanner->depth++;
	else if (c == '}' || c == ']')
		scanner->depth--;
	return scanner->depth && scanner->depth <= JSON_DEPTH_MAX ? END_LATER : END_HERE;
}

static enum end step(struct json_scanner *scanner, char c)
{
	switch (scanner->state) {
	case SCAN_BEFORE:
		return step_before(scanner, c);
	case SCAN_NESTED:
		return step_nested(scanner, c);
	case SCAN_STRING:
		return closes_string(scanner, c) ? END_HERE : END_LATER;
	case SCAN_SCALAR:
		return is_space(c) ? END_BEFORE : END_LATER;
	case SCAN_DONE:
		break;
	}
	return END_BEFORE;
}

ptrdiff_t json_scanner_feed(struct json_scanner *scanner, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		enum end end = step(scanner, bytes[i]);

		if (end == END_LATER)
			continue;
		scanner->state = SCAN_DONE;
		return (ptrdiff_t)(end == END_HERE ? i + 1 : i);
	}
	return scanner->state == SCAN_DONE ? 0 : -1;
}
