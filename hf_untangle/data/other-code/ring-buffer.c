/* A ring buffer of bytes for one producer and one consumer. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct ring {
    uint8_t *bytes;
    size_t capacity;
    size_t head;  /* next byte to read */
    size_t count; /* bytes that wait to be read */
};

bool ring_init(struct ring *ring, size_t capacity)
{
    ring->bytes = malloc(capacity);
    if (ring->bytes == NULL)
        return false;
    ring->capacity = capacity;
    ring->head = 0;
    ring->count = 0;
    return true;
}

void ring_free(struct ring *ring)
{
    free(ring->bytes);
    memset(ring, 0, sizeof *ring);
}

size_t ring_write(struct ring *ring, const uint8_t *source, size_t length)
{
    size_t room = ring->capacity - ring->count;
    if (length > room)
        length = room;

    size_t tail = (ring->head + ring->count) % ring->capacity;
    size_t first = ring->capacity - tail;
    if (first > length)
        first = length;

    memcpy(ring->bytes + tail, source, first);
    memcpy(ring->bytes, source + first, length - first);
    ring->count += length;
    return length;
}

size_t ring_read(struct ring *ring, uint8_t *target, size_t length)
{
    if (length > ring->count)
        length = ring->count;

    for (size_t i = 0; i < length; i++) {
        target[i] = ring->bytes[ring->head];
        ring->head = (ring->head + 1) % ring->capacity;
    }
    ring->count -= length;
    return length;
}

/* Find a byte without reading it; returns its distance, or the count if it is not there. */
size_t ring_find(const struct ring *ring, uint8_t wanted)
{
    for (size_t i = 0; i < ring->count; i++) {
        if (ring->bytes[(ring->head + i) % ring->capacity] == wanted)
            return i;
    }
    return ring->count;
}
