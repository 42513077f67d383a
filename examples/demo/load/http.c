/* HTTP/1.1 responses: the head is gathered and checked as a whole, the body compared as it comes. */
#define _GNU_SOURCE
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static ParseResult
wrong(Response *response, const char *why)
{
    response->why = why;
    return PARSE_WRONG;
}

void
response_begin(Response *response)
{
    response->state = IN_HEAD;
    response->line_len = 0;
    response->left = 0;
    response->got = 0;
    response->why = NULL;
}

/* Copies into response->line up to and with the end mark. PARSE_DONE when the mark is there; the line is
 * then a C string that still has the mark. */
static ParseResult
gather(Response *response, const char *end, const char *data, size_t len, size_t *used)
{
    size_t end_len = strlen(end);
    size_t room = sizeof response->line - 1 - response->line_len;
    size_t take = len < room ? len : room;
    size_t before = response->line_len;
    /* The mark may have begun in what came earlier. */
    size_t from = before > end_len - 1 ? before - (end_len - 1) : 0;

    memcpy(response->line + before, data, take);
    char *found = memmem(response->line + from, before + take - from, end, end_len);
    if (!found) {
        response->line_len = before + take;
        *used = take;
        if (take == room)
            return wrong(response, "a head or a line without end");
        return PARSE_MORE;
    }
    response->line_len = (size_t)(found - response->line) + end_len;
    response->line[response->line_len] = '\0';
    *used = response->line_len - before;
    return PARSE_DONE;
}

/* The header's value and its length, or NULL. The head ends with an empty line, so every line has its CRLF. */
static const char *
header(const char *head, const char *name, size_t *len)
{
    size_t name_len = strlen(name);
    for (const char *line = strstr(head, "\r\n") + 2; *line != '\r'; line = strstr(line, "\r\n") + 2) {
        if (strncasecmp(line, name, name_len) || line[name_len] != ':')
            continue;
        const char *value = line + name_len + 1;
        value += strspn(value, " \t");
        *len = strcspn(value, "\r");
        while (*len && (value[*len - 1] == ' ' || value[*len - 1] == '\t'))
            (*len)--;
        return value;
    }
    return NULL;
}

static bool
header_is(const char *head, const char *name, const char *expected)
{
    size_t len;
    const char *value = header(head, name, &len);
    return value && len == strlen(expected) && !strncasecmp(value, expected, len);
}

static ParseResult
check_head(Response *response, const Route *route, uint64_t id)
{
    const char *head = response->line;
    char expected[32];
    size_t len;

    if (strncmp(head, "HTTP/1.1 200 OK\r\n", 17))
        return wrong(response, "the status is not 200");
    if (!header_is(head, "Content-Type", route->type))
        return wrong(response, "a wrong Content-Type");
    snprintf(expected, sizeof expected, "%016llx", (unsigned long long)id);
    if (!header_is(head, "X-Request-Id", expected))
        return wrong(response, "the response to another request");
    if (header_is(head, "Connection", "close"))
        return wrong(response, "keep-alive was refused");

    if (route->chunked) {
        if (!header_is(head, "Transfer-Encoding", "chunked"))
            return wrong(response, "the response is not chunked");
        if (header(head, "Content-Length", &len))
            return wrong(response, "chunked, and a Content-Length");
        return PARSE_MORE;
    }
    snprintf(expected, sizeof expected, "%zu", route->expect.len);
    if (!header_is(head, "Content-Length", expected))
        return wrong(response, "a wrong Content-Length");
    if (header(head, "Transfer-Encoding", &len))
        return wrong(response, "a Content-Length, and a Transfer-Encoding");
    return PARSE_MORE;
}

static ParseResult
compare_body(Response *response, const Route *route, const char *data, size_t len)
{
    /* Of a response that is to be hung up on, only the beginning is known. */
    if (route->kind == KIND_DISCONNECT && len > route->expect.len - response->got)
        len = route->expect.len - response->got;
    if (len > route->expect.len - response->got)
        return wrong(response, "the body is too long");
    if (memcmp(route->expect.data + response->got, data, len))
        return wrong(response, "the body differs");
    response->got += len;
    return PARSE_MORE;
}

static ParseResult
chunk_size(Response *response)
{
    char *end;
    /* strtoull would take blanks and signs. */
    if (!strchr("0123456789abcdefABCDEF", response->line[0]))
        return wrong(response, "a chunk without a size");
    response->left = strtoull(response->line, &end, 16);
    if (*end != '\r' && *end != ';')
        return wrong(response, "a chunk with a wrong size");
    response->state = response->left ? IN_CHUNK : IN_TRAILER;
    response->line_len = 0;
    return PARSE_MORE;
}

/* The part of the body, or of a chunk of it, that is in data. */
static ParseResult
take_body(Response *response, const Route *route, const char *data, size_t len, size_t *used)
{
    *used = len < response->left ? len : (size_t)response->left;
    response->left -= *used;
    return compare_body(response, route, data, *used);
}

/* One step: consumes something of data, or ends. */
static ParseResult
step(Response *response, const Route *route, uint64_t id, const char *data, size_t len, size_t *used)
{
    ParseResult result;

    switch (response->state) {
    case IN_HEAD:
        if ((result = gather(response, "\r\n\r\n", data, len, used)) != PARSE_DONE)
            return result;
        if ((result = check_head(response, route, id)) == PARSE_WRONG)
            return result;
        response->line_len = 0;
        response->left = route->expect.len;
        response->state = route->chunked ? IN_CHUNK_SIZE : IN_BODY;
        return !route->chunked && !response->left ? PARSE_DONE : PARSE_MORE;
    case IN_BODY:
        if ((result = take_body(response, route, data, len, used)) != PARSE_MORE)
            return result;
        return response->left ? PARSE_MORE : PARSE_DONE;
    case IN_CHUNK_SIZE:
        if ((result = gather(response, "\r\n", data, len, used)) != PARSE_DONE)
            return result;
        return chunk_size(response);
    case IN_CHUNK:
        if ((result = take_body(response, route, data, len, used)) != PARSE_MORE)
            return result;
        if (!response->left)
            response->state = IN_CHUNK_END;
        return PARSE_MORE;
    case IN_CHUNK_END:
        if ((result = gather(response, "\r\n", data, len, used)) != PARSE_DONE)
            return result;
        if (response->line_len != 2)
            return wrong(response, "a chunk longer than its size");
        response->line_len = 0;
        response->state = IN_CHUNK_SIZE;
        return PARSE_MORE;
    case IN_TRAILER:
        if ((result = gather(response, "\r\n", data, len, used)) != PARSE_DONE)
            return result;
        if (response->line_len != 2)
            return wrong(response, "a trailer nobody announced");
        if (response->got != route->expect.len)
            return wrong(response, "the body is too short");
        return PARSE_DONE;
    }
    return wrong(response, "no such state");
}

ParseResult
response_feed(Response *response, const Route *route, uint64_t id, const char *data, size_t len, size_t *used)
{
    ParseResult result = PARSE_MORE;
    *used = 0;
    while (result == PARSE_MORE && *used < len) {
        size_t now = 0;
        result = step(response, route, id, data + *used, len - *used, &now);
        *used += now;
        /* The first bytes are proof that the handler runs: that is when to hang up on it. */
        if (result == PARSE_MORE && route->kind == KIND_DISCONNECT && response->got == route->expect.len)
            return PARSE_DONE;
    }
    return result;
}

ParseResult
upgrade_feed(Response *response, const char *data, size_t len, size_t *used)
{
    ParseResult result = gather(response, "\r\n\r\n", data, len, used);
    if (result != PARSE_DONE)
        return result;
    if (strncmp(response->line, "HTTP/1.1 101 ", 13))
        return wrong(response, "the upgrade was refused");
    if (!header_is(response->line, "Upgrade", "websocket") || !header_is(response->line, "Connection", "Upgrade"))
        return wrong(response, "the upgrade is not one to a WebSocket");
    if (!header_is(response->line, "Sec-WebSocket-Accept", WEBSOCKET_ACCEPT))
        return wrong(response, "a wrong Sec-WebSocket-Accept");
    return PARSE_DONE;
}
