/* Counting whole records. RFC 8446, 5.1: type, 0x03, minor version, and a length of two bytes. */
#include "engine.h"

enum { HEADER = 5, FIRST_TYPE = 20, LAST_TYPE = 24, MAJOR = 3, MOST = 16384 + 2048 };

static void
header_came(tls_records *records)
{
    const uint8_t *h = records->header;
    uint32_t len = (uint32_t)h[3] << 8 | h[4];
    records->have = 0;
    if (h[0] < FIRST_TYPE || h[0] > LAST_TYPE || h[1] != MAJOR || len > MOST) {
        records->odd = true;
    }
    else if (len == 0) {
        records->whole++;
    }
    else {
        records->missing = len;
    }
}

void
tls_records_feed(tls_records *records, const void *buf, size_t n)
{
    const uint8_t *at = buf, *end = at + n;
    while (at < end && !records->odd) {
        size_t left = (size_t)(end - at);
        if (records->missing == 0) {
            records->header[records->have++] = *at++;
            if (records->have == HEADER) {
                header_came(records);
            }
        }
        else if (left < records->missing) {
            records->missing -= (uint32_t)left;
            at = end;
        }
        else {
            at += records->missing;
            records->missing = 0;
            records->whole++;
        }
    }
    if (records->odd) {
        records->whole = 1; /* the engine will say what it is */
    }
}
