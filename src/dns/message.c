/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/message.h"

#include <string.h>

/* Of `flags`. */
#define FLAG_ANSWER 0x80
#define OPCODE      0x78
/* Of `more_flags`. */
#define RESPONSE_CODE 0x0f

#define LABEL_MAX     63
#define NAME_MAX_LEN  255
/* Type and class. */
#define QUESTION_TAIL 4

static const struct dns_header *header_of(const uint8_t *data, size_t len)
{
	return len < DNS_HEADER_LEN ? NULL : (const struct dns_header *)data;
}

bool dns_is_query(const uint8_t *data, size_t len)
{
	const struct dns_header *header = header_of(data, len);

	return header && !(header->flags & FLAG_ANSWER);
}

/* There is nothing before it that a compressed name could point to. */
static size_t name_end(const uint8_t *data, size_t len, size_t at)
{
	size_t begin = at;

	while (at < len && data[at] && data[at] <= LABEL_MAX)
		at += 1U + data[at];
	if (at >= len || data[at] || at + 1 - begin > NAME_MAX_LEN)
		return 0;
	return at + 1;
}

size_t dns_question_end(const uint8_t *data, size_t len)
{
	const struct dns_header *header = header_of(data, len);
	size_t end;

	if (!header || be16_get(header->n_questions) != 1)
		return 0;
	end = name_end(data, len, DNS_HEADER_LEN);
	return end && len - end >= QUESTION_TAIL ? end + QUESTION_TAIL : 0;
}

bool dns_is_answer(const uint8_t *data, size_t len, const uint8_t *query, size_t query_len)
{
	const struct dns_header *answer = header_of(data, len),
				*asked = header_of(query, query_len);
	size_t end = dns_question_end(query, query_len);

	if (!answer || !asked || !(answer->flags & FLAG_ANSWER) ||
		(answer->flags ^ asked->flags) & OPCODE)
		return false;
	if (!end)
		return true;
	if (be16_get(answer->n_questions) == 0)
		return answer->more_flags & RESPONSE_CODE && be16_get(answer->n_answers) == 0;
	return be16_get(answer->n_questions) == 1 && len >= end &&
		!memcmp(data + DNS_HEADER_LEN, query + DNS_HEADER_LEN, end - DNS_HEADER_LEN);
}
