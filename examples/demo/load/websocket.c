/* The client's side of RFC 6455: text messages out, masked, and their echo compared as it comes in. */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OP_CONTINUATION = 0, OP_TEXT = 1, OP_CLOSE = 8 };

bool
websocket_init(WebSocket *ws)
{
    memset(ws, 0, sizeof *ws);
    ws->message = malloc(WEBSOCKET_MAX);
    ws->frame = malloc(WEBSOCKET_MAX);
    return ws->message && ws->frame;
}

void
websocket_free(WebSocket *ws)
{
    free(ws->message);
    free(ws->frame);
    ws->message = ws->frame = NULL;
}

/* Sizes on both sides of where the frame's length field grows (126 and 65536). */
static size_t
message_size(uint64_t id)
{
    static const size_t sizes[] = {24, 125, 126, 1000, 24, 4000, 300, 24};
    if (id % 128 == 0)
        return 70000;
    return sizes[id % (sizeof sizes / sizeof *sizes)];
}

static void
make_frame(WebSocket *ws, unsigned opcode, uint64_t seed)
{
    unsigned char *out = (unsigned char *)ws->frame;
    size_t len = ws->message_len, at = 2;
    uint32_t mask = (uint32_t)(seed * 2654435761u) ^ 0x5bd1e995u;
    unsigned char key[4];

    out[0] = (unsigned char)(0x80 | opcode);
    if (len < 126) {
        out[1] = (unsigned char)(0x80 | len);
    }
    else {
        int bytes = len < 65536 ? 2 : 8;
        out[1] = (unsigned char)(0x80 | (bytes == 2 ? 126 : 127));
        for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
            out[at++] = (unsigned char)((uint64_t)len >> shift);
    }
    memcpy(key, &mask, sizeof key);
    memcpy(out + at, key, sizeof key);
    at += sizeof key;
    for (size_t i = 0; i < len; i++)
        out[at + i] = (unsigned char)ws->message[i] ^ key[i & 3];
    ws->frame_len = at + len;
    ws->head_len = 0;
    ws->left = 0;
    ws->got = 0;
}

void
websocket_make_text(WebSocket *ws, uint64_t id)
{
    /* Two bytes a letter: the server has UTF-8 to decode and encode again. */
    static const char filling[] = "\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f";
    size_t size = message_size(id);
    size_t at = (size_t)snprintf(ws->message, 32, "message %012llu ", (unsigned long long)id);

    while (at + 2 <= size) {
        memcpy(ws->message + at, filling + (at / 2 * 2) % 8, 2);
        at += 2;
    }
    if (at < size)
        ws->message[at++] = '.';
    ws->message_len = at;
    make_frame(ws, OP_TEXT, id);
}

void
websocket_make_close(WebSocket *ws)
{
    memcpy(ws->message, "\x03\xe8", 2); /* 1000: normal */
    ws->message_len = 2;
    ws->closing = true;
    make_frame(ws, OP_CLOSE, 1);
}

static ParseResult
wrong(WebSocket *ws, const char *why)
{
    ws->why = why;
    return PARSE_WRONG;
}

/* How long the head is, as far as can be told from what is here. */
static size_t
head_size(const WebSocket *ws)
{
    if (ws->head_len < 2)
        return 2;
    unsigned len = ws->head[1] & 0x7f;
    return len < 126 ? 2 : len == 126 ? 4 : 10;
}

static ParseResult
check_head(WebSocket *ws)
{
    unsigned opcode = ws->head[0] & 0x0f, expected = ws->closing ? OP_CLOSE : OP_TEXT;

    if (ws->head[0] & 0x70)
        return wrong(ws, "an extension nobody asked for");
    if (ws->head[1] & 0x80)
        return wrong(ws, "a server's frame is masked");
    /* An echo may come in fragments. Pings do not come in so short a run. */
    if (opcode != (ws->got ? (unsigned)OP_CONTINUATION : expected))
        return wrong(ws, "a frame of another kind");

    ws->left = ws->head[1] & 0x7f;
    if (ws->left >= 126) {
        ws->left = 0;
        for (size_t i = 2; i < head_size(ws); i++)
            ws->left = ws->left << 8 | ws->head[i];
    }
    if (ws->left > ws->message_len - ws->got)
        return wrong(ws, "the echo is too long");
    return PARSE_MORE;
}

/* Both for a frame without payload and for one whose last byte has come. */
static ParseResult
frame_ended(WebSocket *ws)
{
    bool final = ws->head[0] & 0x80;
    ws->head_len = 0;
    if (!final)
        return PARSE_MORE;
    return ws->got == ws->message_len ? PARSE_DONE : wrong(ws, "the echo is too short");
}

ParseResult
websocket_feed(WebSocket *ws, const char *data, size_t len, size_t *used)
{
    *used = 0;
    while (*used < len) {
        if (!ws->left) {
            ws->head[ws->head_len++] = (unsigned char)data[(*used)++];
            if (ws->head_len < head_size(ws))
                continue;
            if (check_head(ws) == PARSE_WRONG)
                return PARSE_WRONG;
        }
        else {
            size_t take = len - *used < ws->left ? len - *used : (size_t)ws->left;
            if (memcmp(ws->message + ws->got, data + *used, take))
                return wrong(ws, "the echo differs");
            *used += take;
            ws->got += take;
            ws->left -= take;
        }
        if (!ws->left) {
            ParseResult result = frame_ended(ws);
            if (result != PARSE_MORE)
                return result;
        }
    }
    return PARSE_MORE;
}
