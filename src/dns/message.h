/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much of DNS messages (RFC 1035 4.1) as a forwarder looks at: the header, and the question.
 * Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/types.h"

#define DNS_HEADER_LEN 12

struct dns_header {
	be16 id;
	uint8_t flags, more_flags;
	be16 n_questions, n_answers, n_authorities, n_additional;
};
_Static_assert(sizeof(struct dns_header) == DNS_HEADER_LEN, "no padding");

/* It has a header, and asks. */
bool dns_is_query(const uint8_t *data, size_t len);
/* Where header and question end; 0: it has no question, several, or one that cannot be read. */
size_t dns_question_end(const uint8_t *data, size_t len);
/*
 * RFC 5452 9.1: an answer repeats the question, letter by letter (which may be upper and lower case
 * at random). But an error may come without it, and what cannot be read is known by the id alone,
 * which the caller has compared.
 */
bool dns_is_answer(const uint8_t *data, size_t len, const uint8_t *query, size_t query_len);
