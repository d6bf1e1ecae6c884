/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/show.h"

#include <string.h>

#include "base/log.h"
#include "base/util.h"

/* A path of a socket, a port, and a message of some length. */
#define CELL_MAX 200

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

/* "host_port 80: " */
static void describe_field(const json_t *error, char text[CELL_MAX])
{
	const char *field = text_of(error, "field");
	json_int_t port = json_integer_value(json_object_get(error, "port"));

	text[0] = '\0';
	if (field && port > 0)
		snprintf(text, CELL_MAX, "%s %d: ", field, (int)port);
	else if (field)
		snprintf(text, CELL_MAX, "%s: ", field);
}

bool show_error(const json_t *reply, char **rules, size_t n)
{
	const json_t *error = json_object_get(reply, "error");
	size_t index = (size_t)json_integer_value(json_object_get(error, "index"));
	const char *message = text_of(error, "message"), *desc = text_of(error, "desc");
	const char *name = text_of(error, "errno");
	char field[CELL_MAX];

	if (!error)
		return false;
	describe_field(error, field);
	if (!message)
		message = desc ? desc : "an error without a description";
	log_error("%s%s%s%s%s%s%s", index < n ? rules[index] : "", index < n ? ": " : "", field,
		message, name ? " (" : "", name ? name : "", name ? ")" : "");
	return true;
}

bool show_ids(FILE *out, const json_t *reply)
{
	const json_t *result = json_object_get(reply, "return"), *id;
	const json_t *ids = json_object_get(result, "ids");
	size_t i;

	if ((id = json_object_get(result, "id"))) {
		fprintf(out, "%" JSON_INTEGER_FORMAT "\n", json_integer_value(id));
		return true;
	}
	json_array_foreach(ids, i, id)
		fprintf(out, "%" JSON_INTEGER_FORMAT "\n", json_integer_value(id));
	return json_is_array(ids);
}

/* --- the table */

static void cell_text(const json_t *entry, const char *key, char cell[CELL_MAX])
{
	const char *text = text_of(entry, key);

	snprintf(cell, CELL_MAX, "%s", text ? text : "-");
}

static void cell_number(const json_t *entry, const char *key, char cell[CELL_MAX])
{
	const json_t *value = json_object_get(entry, key);

	if (json_is_integer(value))
		snprintf(cell, CELL_MAX, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else
		snprintf(cell, CELL_MAX, "-");
}

/* "17", "1.5K", "34M": three digits and a power of 1024. */
static void cell_bytes(const json_t *entry, const char *key, char cell[CELL_MAX])
{
	const char *suffix = "KMGTPE";
	double bytes = (double)json_integer_value(json_object_get(entry, key)) / 1024;

	if (bytes < 1) {
		cell_number(entry, key, cell);
		return;
	}
	while (bytes >= 1000) {
		bytes /= 1024;
		suffix++;
	}
	snprintf(cell, CELL_MAX, bytes < 9.95 ? "%.1f%c" : "%.0f%c", bytes, *suffix);
}

/* "10.0.2.100:80", "[::1]:8000-8100", "unix:/run/x", ":80" where the address is the default. */
static void cell_place(
	const json_t *entry, const char *addr_key, const char *port_key, char cell[CELL_MAX])
{
	const char *addr = text_of(entry, addr_key);
	const json_t *port = json_object_get(entry, port_key);
	bool has_port = json_is_integer(port) || json_is_string(port);
	bool brackets = has_port && addr && strchr(addr, ':');
	int n = snprintf(cell, CELL_MAX, "%s%.120s%s", brackets ? "[" : "", addr ? addr : "",
		brackets ? "]" : "");

	if (json_is_integer(port))
		snprintf(cell + n, CELL_MAX - (size_t)n, ":%d", (int)json_integer_value(port));
	else if (json_is_string(port))
		snprintf(cell + n, CELL_MAX - (size_t)n, ":%.40s", json_string_value(port));
}

static void cell_host(const json_t *entry, const char *key, char cell[CELL_MAX])
{
	cell_place(entry, "host_addr", "host_port", cell);
}

static void cell_guest(const json_t *entry, const char *key, char cell[CELL_MAX])
{
	cell_place(entry, "guest_addr", "guest_port", cell);
}

/* Why a rule fails; the last column, without a title. */
static void cell_error(const json_t *entry, const char *key, char cell[CELL_MAX])
{
	const char *name = text_of(entry, "errno"), *message = text_of(entry, "message");

	snprintf(cell, CELL_MAX, "%s%s%s", name ? name : "", name && message ? ": " : "",
		message ? message : "");
}

static const struct column {
	const char *title, *key;
	void (*fill)(const json_t *entry, const char *key, char cell[CELL_MAX]);
	bool right; /* a number */
} columns[] = {
	{"ID", "id", cell_number, .right = true},
	{"STATE", "state", cell_text},
	{"PATH", "path", cell_text},
	{"PROTO", "proto", cell_text},
	{"HOST", NULL, cell_host},
	{"GUEST", NULL, cell_guest},
	{"CONNS", "active", cell_number, .right = true},
	{"IN", "in_bytes", cell_bytes, .right = true},
	{"OUT", "out_bytes", cell_bytes, .right = true},
	{"", NULL, cell_error},
};

static void measure(const json_t *entries, int widths[ARRAY_SIZE(columns)])
{
	char cell[CELL_MAX];
	const json_t *entry;
	size_t i;

	for (size_t k = 0; k < ARRAY_SIZE(columns); k++) {
		widths[k] = (int)strlen(columns[k].title);
		json_array_foreach(entries, i, entry)
		{
			columns[k].fill(entry, columns[k].key, cell);
			widths[k] = MAX(widths[k], (int)strlen(cell));
		}
	}
}

/* No blanks at the end of a line. */
static void print_cell(FILE *out, size_t k, int width, const char *cell)
{
	bool last = k == ARRAY_SIZE(columns) - 1;

	if (last)
		fprintf(out, *cell ? "  %s\n" : "%s\n", cell);
	else
		fprintf(out, "%s%*s", k ? "  " : "", columns[k].right ? width : -width, cell);
}

bool show_list(FILE *out, const json_t *reply)
{
	const json_t *entries = json_object_get(reply, "entries"), *entry;
	int widths[ARRAY_SIZE(columns)];
	char cell[CELL_MAX];
	size_t i;

	if (!json_is_array(entries))
		return false;
	measure(entries, widths);
	for (size_t k = 0; k < ARRAY_SIZE(columns); k++)
		print_cell(out, k, widths[k], columns[k].title);
	json_array_foreach(entries, i, entry)
	{
		for (size_t k = 0; k < ARRAY_SIZE(columns); k++) {
			columns[k].fill(entry, columns[k].key, cell);
			print_cell(out, k, widths[k], cell);
		}
	}
	return true;
}
